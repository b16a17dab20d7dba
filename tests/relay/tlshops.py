"""Next hops that speak TLS, with Python's own `ssl` (another OpenSSL than ours); and whom to trust about them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mta_front.relay.tlspolicy import Mode, TlsPolicy
from mta_front.relay.transports.opener import Target
from mta_front.settings.values import parse_bind
from mta_front.tls.dane import Tlsa
from tests.relay.scripted import ScriptedHop, Talk, polite
from tests.tls.authority import Pair

OFFER = b"250-hop\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
OFFER_OVER_TLS = b"250-hop\r\n250-PIPELINING\r\n250 REQUIRETLS\r\n"


def server_context(directory: Path, pair: Pair) -> ssl.SSLContext:
    """What the next hop shows."""
    key, cert = pair.files(directory, f"hop{id(pair)}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


class TlsHop(ScriptedHop):
    """Offers STARTTLS, or begins with TLS (`secure`); over TLS it is polite. `names`: that it was asked for (SNI)."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        secure: bool = False,
        over_tls: Callable[[Talk], None] | None = None,
        go: bytes = b"220 go\r\n",
        target: object = ("127.0.0.1", 0),
    ) -> None:
        self.names: list[str | None] = []
        self.secured = 0
        self._context = context
        self._go = go
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._over_tls = over_tls or partial(polite, offer=OFFER_OVER_TLS, GREETING=b"")
        super().__init__(self._from_the_first if secure else self._starttls, target=target)

    def _from_the_first(self, talk: Talk) -> None:
        if self._shake(talk):
            talk.say(b"220 hop\r\n")
            self._over_tls(talk)

    def _starttls(self, talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        while True:
            verb = talk.hear()[:4]
            if verb == b"STAR":
                talk.say(self._go)
                if self._go.startswith(b"220"):
                    if self._shake(talk):
                        self._over_tls(talk)
                    return
            elif verb in (b"EHLO", b"LHLO"):
                talk.say(OFFER)
            else:
                polite_rest(talk, verb)
                return

    def _shake(self, talk: Talk) -> bool:
        try:
            talk.stream = self._context.wrap_socket(talk.stream, server_side=True)
        except (ssl.SSLError, OSError):
            return False
        self.secured += 1
        return True

    @property
    def name(self) -> str:
        """As reports name it."""
        return f"hop.example[127.0.0.1]:{self.port}"

    def target(self, mode: Mode = "may", *names: str, tlsa: tuple[Tlsa, ...] = ()) -> Target:
        """As a route would name it; by default for the name hop.example."""
        return Target(parse_bind(self.address), "hop.example", TlsPolicy(mode, names or ("hop.example",), tlsa))


def polite_rest(talk: Talk, verb: bytes) -> None:
    """A usual session whose first command, `verb`, was heard already: MAIL."""
    assert verb == b"MAIL", verb
    talk.say(b"250 ok\r\n")
    polite(talk, GREETING=b"")
