"""Two channels and the wire between them: bytes are moved by hand, cut where the test likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography import x509
from OpenSSL import SSL, crypto

from mta_front.tls.channel import Channel
from mta_front.tls.contexts import Contexts, load
from mta_front.tls.options import TlsOptions
from tests.tls.authority import Authority, Pair

Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterable[bytes]:
    """No cut."""
    return (data,)


def contexts(pair: Pair, **options: object) -> Contexts:
    """Contexts with this certificate."""
    return load(TlsOptions(**({"key": pair.key_pem, "cert": pair.chain_pem} | options)))  # type: ignore[arg-type]


def client_context(authority: Authority | None = None, version: str = "", pair: Pair | None = None) -> SSL.Context:
    """A client that verifies the server if it knows an authority. `version` "TLSv1.2" lets it speak no other."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version:
        number = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}[version]
        context.set_min_proto_version(number)
        context.set_max_proto_version(number)
    if authority:
        store = context.get_cert_store()
        assert store
        store.add_cert(crypto.X509.from_cryptography(authority.certificate))
        context.set_verify(SSL.VERIFY_PEER)
    if pair:
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)
    return context


def client(context: SSL.Context | None = None, name: str = "mx.ours.example") -> Channel:
    """The client's end."""
    return Channel(context or client_context(), server=False, name=name)


def carry(sender: Channel, receiver: Channel, cut: Cut = whole) -> int:
    """Move what `sender` has to send; how many bytes that were."""
    data = sender.take()
    for piece in cut(data) if data else ():
        if piece:
            receiver.feed(piece)
    return len(data)


def shake(client: Channel, server: Channel, cut: Cut = whole) -> None:
    """The handshake, with each flight cut. Raises what either side raises, the server first."""
    done = {client: False, server: False}
    for _ in range(10):
        for one, other in ((client, server), (server, client)):
            if not done[one]:
                done[one] = one.handshake()
            carry(one, other, cut)
        if all(done.values()):
            return
    raise AssertionError("the handshake does not end")


def connected(
    server: Contexts, context: SSL.Context | None = None, name: str = "mx.ours.example"
) -> tuple[Channel, Channel]:
    """Client and server after a handshake."""
    ends = client(context, name), server.channel()
    shake(*ends)
    assert ends[0].read(1) is None  # tickets
    return ends


def shown(channel: Channel) -> x509.Certificate:
    """The certificate that a client was shown."""
    certificate = channel._connection.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate
