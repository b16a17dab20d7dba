"""Asking a hook: what it raises becomes a reply, and a bug in it ends nothing but its own command."""

from __future__ import annotations

from mta_front.hooks import Hooks, Session, refusal_of
from mta_front.observe.events import Events
from mta_front.smtp import replies
from mta_front.smtp.replies import Reply

HOOK_ERRORS = BaseException
"""What a hook, or code that it calls, may raise: a `sys.exit()` in there must not end a worker and its sessions, and a
time-out or a cancellation that it forgot to catch is a fault of its own.
"""


class Asking:
    """The hooks of one session, and those who hear when they fail."""

    __slots__ = ("_session", "_sink", "hooks")

    def __init__(self, hooks: Hooks, session: Session, sink: Events) -> None:
        self.hooks = hooks
        self._session = session
        self._sink = sink

    def refusal(self, error: BaseException, default: Reply, verb: str) -> Reply:
        """The reply for what a hook raised; what is no refusal is a bug and reported as one."""
        reply = refusal_of(error, default)
        if reply is None:
            self.fault(error, verb)
            return replies.LOCAL_ERROR
        self._sink.command_refused(self._session.listener, verb, reply.code)
        return reply

    def fault(self, error: BaseException, where: str) -> None:
        """Nobody expected this; no client is told more than 451 or 421."""
        self._sink.fault(error, where)
        try:
            self.hooks.on_error(error, self._session)
        except HOOK_ERRORS as another:
            self._sink.fault(another, "on_error")
