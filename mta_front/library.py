"""`SMTPServer`: an SMTP or LMTP server in a few lines of Python, with no master, no store and no settings file.

    with SMTPServer(auth_optional=True, on_data=keep) as server:
        host, port = server.listen("127.0.0.1", 2525)
        ...

Sessions are greenlets in a gevent hub. `start()`, and so `with`, gives them a thread of their own, so nothing has to be
monkey-patched and whoever calls may block as they like; `serve_forever()` serves in the hub of its caller.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, Unpack
from weakref import WeakSet

import gevent
from gevent import monkey

from mta_front.allocator import keep_freed_memory
from mta_front.arguments import Options, check_bind, checked, close_timeout
from mta_front.blocking import HooksInThreads
from mta_front.certified import TlsArguments
from mta_front.doors import UNIX, Door
from mta_front.hooks import Hooks
from mta_front.net.tally import LocalTally
from mta_front.running import Run

GRACE_S = 5.0
"""How much longer than its time-out `close()` waits for a hub that a hook does not let go on."""

EXIT_GRACE_S = 1.0
"""The same at the end of the process."""

_serving: WeakSet[SMTPServer] = WeakSet()
"""Those that were started. Their threads end before the interpreter does: greenlets in a thread that it cuts off while
it takes itself apart crash it (seen in 3 of 4 runs with threads for hooks, CPython 3.11, greenlet 3)."""


class SMTPServer:
    """A server for mail: `SMTPServer(hooks=MyHooks(), **options)`, or single hooks as keywords (`on_data=…`).

    Hooks decide what is accepted: see `mta_front.Hooks`. A single hook is a function with the same arguments, without
    `self`. The options are those of `mta_front.arguments.Options`; times are in seconds, sizes in octets:

    - what the server says: `name`, `banner`, `helo_response`, `lmtp` (LMTP instead of SMTP), `hide_size`,
      `hide_pipelining`, `hide_8bitmime`, `hide_smtputf8`, `hide_dsn`, `hide_enhancedstatuscodes`, `hide_requiretls`
      (not announced; they work all the same), `disabled_commands`;
    - who may send: `auth_optional` (without it mail needs a login), `auth_methods` (which need an `on_auth`),
      `allow_insecure_auth` (also without TLS), `auth_required_message`, `max_unauthenticated_commands`;
    - TLS: `secure` (from the first octet; else clients may say STARTTLS), `needs_upgrade` (they must), `hide_starttls`,
      `key`, `cert` (both PEM or paths, or lists of them; without them a certificate for development is made),
      `ocsp_file`, `min_version`, `max_version`, `ciphers`, `tickets`;
    - client certificates: `request_cert`, `reject_unauthorized` (False: a missing or bad one is let in too, see
      `session.peer_certificate`), `ca`;
    - `sni`: for clients that ask for a name (also "*.example.com"), what differs: a dictionary by name of dictionaries
      with `key`, `cert`, `ca`, `request_cert`, `reject_unauthorized`, `ocsp_file`;
    - behind a proxy: `use_proxy` (whose PROXY header is taken, and must come: False, True for everybody's, or networks
      like ["10.0.0.0/8"]), `proxy_timeout_s`, `proxy_tls_trusted` (a client that came to the proxy over TLS is
      secure), `use_xclient`, `use_xforward` (who may say these, in the same way; True on loopback and Unix sockets
      only), `xclient_trusts_addr` (the address that XCLIENT gives may be in `bare_newline_exempt`);
    - limits: `size_bytes`, `max_text_line_octets`, `max_clients`, `max_recipients`, `max_messages`,
      `socket_timeout_s`, `session_timeout_s`, `min_data_rate_bytes_s`, `soft_errors`, `error_delay_s`, `max_errors`,
      `max_junk_commands`, `greet_delay_s`;
    - the client's name: `reverse_lookup`, `reverse_lookup_timeout_s`, `resolver` (has `reverse(address)`);
    - what is tolerated: `bare_newline`, `bare_newline_exempt`, `lenient_address_parsing`;
    - `close_timeout_s`: what `close()` waits; `blocking_hooks`: hooks run in threads, so that they may block;
      `listener`: what sessions say in `session.listener`.

    Raises TypeError for an unknown option, which names the nearest known one, and TypeError or ValueError for a bad
    value, also a certificate that cannot be used: whoever goes on has one that serves. What goes wrong in hooks is told
    to `on_error`, or logged under "mta_front" where that is not given.

    Its methods may be called from any thread, and from hooks. A server that was closed cannot be started again.
    """

    def __init__(self, hooks: Hooks | None = None, **options: Unpack[Options]) -> None:
        arguments = checked(hooks, options)
        self._arguments = arguments
        self._hooks = HooksInThreads(arguments.hooks) if arguments.blocking_hooks else arguments.hooks
        self._tally = LocalTally(arguments.max_clients)
        self._lock = threading.RLock()  # a signal handler may call close() in the middle of close()
        self._doors: list[Door] = []
        self._pid = os.getpid()
        self._closed = False
        self._run: Run | None = None
        self._thread: threading.Thread | None = None

    # -- addresses ---------------------------------------------------------------------------------------------------

    def listen(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen on an address, as often as you like, before or after the start; returns it with the port it has.

        `host`: "127.0.0.1", "::1", "0.0.0.0" (all of IPv4), "::" (all of IPv6), a name, or "unix:PATH", which has no
        port. `port` 0: any that is free. Clients are served from the start on; until then they wait.
        Raises OSError when the address cannot be had, RuntimeError after `close()`, and ValueError where `use_xclient`
        or `use_xforward` is True and others than this host can come.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"port={port!r}: must be from 0 to 65535")
        self._refuse_when_closed()
        keep_freed_memory()
        door = Door(host, port)
        try:
            check_bind(self._arguments.session, door.address[0])
        except ValueError:
            door.close()
            raise
        with self._lock:
            if self._closed:
                door.close()
            self._refuse_when_closed()
            self._doors.append(door)
            if self._run is not None:
                self._run.admit(door)
        return door.address

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """All that it listens on, in the order of the calls."""
        return [door.address for door in self._doors]

    @property
    def address(self) -> tuple[str, int]:
        """The first address, as for `smtplib.SMTP(*server.address)`. Raises RuntimeError when there is none."""
        if not self._doors:
            raise RuntimeError("this server listens nowhere: call listen() first")
        return self._doors[0].address

    @property
    def sessions(self) -> int:
        """Clients being served now."""
        run = self._run
        return run.server.sessions if run else 0

    def update_secure_context(self, **options: Unpack[TlsArguments]) -> None:
        """New certificates, for the connections that come; those that live keep theirs, and nobody is cut.

        `options`: `key`, `cert`, `ca`, `request_cert`, `reject_unauthorized`, `ocsp_file`, `min_version`,
        `max_version`, `ciphers`, `tickets`, `sni`. What is not given stays, and all files are read anew: with no
        options at all it only does that. Raises TypeError or ValueError when something cannot be used; the old ones
        serve on. From any thread.
        """
        self._arguments.certified.update(options)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve in a thread of its own. Returns when it does; a second call changes nothing.

        The thread is a daemon: it ends with the process, and does not keep it alive.
        Raises RuntimeError after `close()`, OSError when the process has no file handles left.
        """
        with self._lock:
            self._refuse_when_closed()
            if self._thread is not None or self._run is not None:
                return
            started = threading.Event()
            failed: list[BaseException] = []
            self._thread = threading.Thread(
                target=self._serve_in_thread, args=(started, failed), name="SMTPServer", daemon=True
            )
            self._thread.start()
            started.wait()
            if failed:
                self._thread = None
                raise failed[0]

    def _serve_in_thread(self, started: threading.Event, failed: list[BaseException]) -> None:
        own_hub = not monkey.is_module_patched("threading")  # else this is a greenlet in the program's one hub
        try:
            run = self._run = self._make_run()
        except BaseException as error:  # noqa: BLE001 (raised again by start())
            failed.append(error)
            if own_hub:
                gevent.get_hub().destroy(destroy_loop=True)
            return
        finally:
            started.set()
        run.drained.wait()
        run.release(destroy_hub=own_hub)

    def _make_run(self) -> Run:
        _serving.add(self)
        return Run(self._arguments.session, self._hooks, self._tally, self._doors)

    def serve_forever(self) -> None:
        """Serve in the hub of the calling thread, until somebody calls `close()`: a hook, a greenlet, another thread.

        In the main thread Ctrl-C is a `close()` too, and a second one cuts what still runs and raises
        KeyboardInterrupt; where the program handles SIGINT itself, that is left alone. The hub stays the caller's: in a
        thread that ends afterwards, destroy it (`gevent.get_hub().destroy(destroy_loop=True)`).

        Raises RuntimeError when the server was started already.
        """
        with self._lock:
            if self._closed:
                return
            if self._run is not None or self._thread is not None:
                raise RuntimeError("this server is running already")
            run = self._run = self._make_run()
        with self._ctrl_c(run):
            try:
                run.drained.wait()
            finally:
                if not run.drained.is_set():  # our greenlet was killed
                    self._closed = True
                    run.end(0.0)
                    run.drained.wait()
                run.release(destroy_hub=False)

    @contextmanager
    def _ctrl_c(self, run: Run) -> Iterator[None]:
        """SIGINT ends the run. As KeyboardInterrupt, which is Python's way, it would strike in whatever greenlet runs
        just then: it would end one session, and be taken for a bug in it.
        """
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return
        pressed = 0

        def press(*_: object) -> None:
            nonlocal pressed
            pressed += 1
            self._closed = True
            run.end(0.0 if pressed > 1 else self._arguments.close_timeout_s)

        signal.signal(signal.SIGINT, press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed > 1:
            raise KeyboardInterrupt

    def close(self, timeout_s: float | None = None) -> bool:
        """End it: accept nobody, tell idle clients 421 4.3.2, let transactions end, and cut what is left after
        `timeout_s` (default: the option `close_timeout_s`). Then its addresses are free again.

        True when nothing had to be cut. A second call returns when the first has come to its end, and may shorten it.
        From inside one of its own hooks it only begins to close and returns False, for that session is still there.
        """
        return self._close(self._arguments.close_timeout_s if timeout_s is None else close_timeout(timeout_s), GRACE_S)

    def _close(self, timeout_s: float, grace_s: float) -> bool:
        if os.getpid() != self._pid:  # after a fork the sessions, and the thread, are the parent's
            for door in self._doors:
                door.close(shut=False)
            return True
        with self._lock:
            self._closed = True
            run = self._run
            if run is None:
                for door in self._doors:
                    door.close()
                return True
            run.end(timeout_s)
        if run.calls_from_hook():
            return False
        return run.await_end(timeout_s + grace_s, self._thread)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this server was closed: make a new one")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        where = ", ".join(host if host.startswith(UNIX) else f"{host} port {port}" for host, port in self.addresses)
        state = "closed" if self._closed else f"{self.sessions} sessions" if self._run else "not started"
        return f"<SMTPServer on {where or 'no address'}: {state}>"


@atexit.register
def _close_all() -> None:
    """The process ends."""
    for server in list(_serving):
        server._close(0.0, EXIT_GRACE_S)
