"""The files of certificates: what the master sees of a change, and what it hands on."""

from __future__ import annotations

import os
from pathlib import Path

from mta_front.master.keyfiles import WATCH_S, KeyFiles


def test_a_file_that_is_written_anew_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    path.write_bytes(b"one")
    files = KeyFiles([str(path)])
    assert files.files == {str(path): b"one"}
    assert not files.changed(10.0)
    path.write_bytes(b"two!")
    assert not files.changed(10.0 + WATCH_S / 2)  # not looked at yet
    assert files.changed(10.0 + WATCH_S)
    assert files.files == {str(path): b"two!"}
    assert not files.changed(20.0)


def test_the_swap_of_a_secret_mount_is_seen(tmp_path: Path) -> None:
    """As the kubelet does it: `tls.crt` points into `..data`, which points into a directory that is exchanged."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_bytes(b"same size: " + name.encode())
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    files = KeyFiles([str(tmp_path / "tls.crt")])
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert files.changed(1.0)
    assert list(files.files.values()) == [b"same size: two"]


def test_a_file_that_is_gone_for_a_moment_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    path.write_bytes(b"key")
    files = KeyFiles([str(path)])
    path.unlink()
    assert not files.changed(1.0)
    assert files.files == {str(path): b"key"}
    path.write_bytes(b"new")
    assert files.changed(2.0)


def test_a_touch_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    path.write_bytes(b"one")
    files = KeyFiles([str(path)])
    os.utime(path, (1, 1))
    assert not files.changed(1.0)


def test_without_files_there_is_nothing_to_wait_for() -> None:
    assert KeyFiles([]).due_at() == float("inf")


def test_no_key_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    path.write_bytes(b"private")
    assert "private" not in repr(KeyFiles([str(path)]))
