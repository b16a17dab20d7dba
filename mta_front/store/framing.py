"""What stands around the commands of a batch, and which of the replies belong to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mta_front.store.wire import Command, ReplyError


@dataclass(frozen=True, slots=True)
class Frame:
    """A way to send commands. `take_from(replies, count)`: the replies to the `count` commands, as far as they came;
    more replies may follow.
    """

    put_around: Callable[[Sequence[Command]], list[Command]]
    take_from: Callable[[Sequence[Any], int], list[Any]]


def _unframed(replies: Sequence[Any], count: int) -> list[Any]:
    began, queued, ended = replies[:1], list(replies[1 : count + 1]), replies[count + 1 : count + 2]
    if not ended:
        return []
    if isinstance(ended[0], list):
        return ended[0]
    if began and isinstance(began[0], ReplyError):  # no transaction, so each was executed by itself
        return queued
    # EXECABORT: one or more were refused, not always for a fault of their own (in a full store each is), and none was
    # executed; each is sent again by itself. Else EXEC itself was refused, as when the slot has moved in between.
    return [reply if isinstance(reply, ReplyError) and reply.code == "MOVED" else ended[0] for reply in queued]


PLAIN = Frame(list, lambda replies, count: list(replies[:count]))
TRANSACTION = Frame(lambda commands: [("MULTI",), *commands, ("EXEC",)], _unframed)
ASKING = Frame(  # for a slot on its way to this node; holds for one command
    lambda commands: [word for command in commands for word in (("ASKING",), command)],
    lambda replies, count: list(replies[1 : 2 * count : 2]),
)
