/* What a power cut would leave: notes, in $MTA_POWERCUT_JOURNAL, what has surely reached the disk.
 *
 *   F size path   this much of the file was there when an fsync or fdatasync began that then succeeded
 *   R old\tnew    a directory entry was made by rename or link; it lasts from the next D of its directory on
 *   B path        an fsync of a directory begins
 *   D path        ... and has ended well
 *
 * Preloaded, it changes nothing else; without the variable it does nothing at all.
 * Lines are appended by one write each, so the journal orders what all threads and processes did.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *kind, const char *first, const char *second) {
    static int journal = -1;
    char line[2 * PATH_MAX + 64];
    int saved = errno, length = snprintf(line, sizeof line, "%s %s%s%s\n", kind, first, *second ? "\t" : "", second);
    const char *path = getenv("MTA_POWERCUT_JOURNAL");
    if (path && journal < 0) journal = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (path && write(journal, line, length) != length) _exit(99);
    errno = saved;
}

static int sync_noted(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char link[64], path[PATH_MAX] = "", kind[32] = "D";
    struct stat before;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!getenv("MTA_POWERCUT_JOURNAL") || fstat(fd, &before) || readlink(link, path, sizeof path - 1) < 0) return real(fd);
    if (S_ISDIR(before.st_mode)) note("B", path, "");
    else snprintf(kind, sizeof kind, "F %lld", (long long)before.st_size);
    int result = real(fd);
    if (result == 0) note(kind, path, "");
    return result;
}

static const char *absolute(int dir, const char *path, char *out) { /* of an entry that exists now */
    char where[PATH_MAX] = "", link[64];
    if (*path == '/') return path;
    snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
    if (readlink(link, where, sizeof where - 1) < 0) return path;
    snprintf(out, 2 * PATH_MAX, "%s/%s", where, path);
    return out;
}

static int entry_noted(int result, int from, const char *old, int to, const char *new) {
    char a[2 * PATH_MAX], b[2 * PATH_MAX];
    if (result == 0 && getenv("MTA_POWERCUT_JOURNAL")) note("R", absolute(from, old, a), absolute(to, new, b));
    return result;
}

#define REAL(name, ...) ((int (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))
int fsync(int fd) { return sync_noted("fsync", fd); }
int fdatasync(int fd) { return sync_noted("fdatasync", fd); }
int rename(const char *old, const char *new) {
    return entry_noted(REAL(rename, const char *, const char *)(old, new), AT_FDCWD, old, AT_FDCWD, new);
}
int link(const char *old, const char *new) {
    return entry_noted(REAL(link, const char *, const char *)(old, new), AT_FDCWD, old, AT_FDCWD, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    return entry_noted(REAL(renameat, int, const char *, int, const char *)(from, old, to, new), from, old, to, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    return entry_noted(REAL(linkat, int, const char *, int, const char *, int)(from, old, to, new, flags), from, old, to, new);
}
