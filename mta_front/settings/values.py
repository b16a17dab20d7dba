"""The syntax of single values: addresses to bind or to reach, domains, networks, paths, modes.

Pure. Every parser takes text and either returns the typed value or raises ValueError whose message finishes the
sentence "KEY = VALUE: must be …" (see `mta_front.settings.faults`).
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from mta_front.settings.durability import parse_durability
from mta_front.settings.storeurl import parse_store_url

UNIX_PATH_MAX_BYTES = 107
"""sun_path of Linux holds 108 bytes, the last of which is NUL (unix(7))."""

_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?")
"""One label of a domain, U-labels included (RFC 5321 §4.1.2 sub-domain, RFC 6531 §3.3); underscores only inside."""

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on or to connect to. `host` and `port` for "tcp", `path` for "unix"."""

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if only this host can reach it. A name other than localhost is not trusted to be so."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_bind(text: str) -> Bind:
    """`host:port`, `[v6]:port` or `unix:path` as a Bind; IPv6 addresses come out in their shortest form."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        size = len(os.fsencode(path))
        if not path or "\0" in path:
            raise ValueError("must be unix:PATH with a path after the colon")
        if size > UNIX_PATH_MAX_BYTES:
            raise ValueError(f"must have a path of at most {UNIX_PATH_MAX_BYTES} bytes (this one has {size})")
        return Bind("unix", path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError('must be "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", with a port from 1 to 65535')
    return Bind("tcp", host=_parse_host(host), port=int(port))


def _parse_host(host: str) -> str:
    if host == "*":
        raise ValueError('must name an address: "0.0.0.0:PORT" for every IPv4 address, "[::]:PORT" for every IPv6 one')
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError("must have an IPv6 address between the brackets") from None
    if ":" in host:
        raise ValueError('must have its IPv6 address in brackets, as in "[::1]:2525"')
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("must have a valid IPv4 address before the port") from None
    if not _HOST.fullmatch(host):
        raise ValueError("must have an IP address or a host name before the port")
    return host.lower()


def parse_domain(text: str) -> str:
    """A domain pattern (`*`, `example.net`, `*.example.net`) or address literal (`[192.0.2.1]`), as written."""
    if text == "*":
        return text
    if text.startswith("[") and text.endswith("]"):
        literal = text[1:-1]
        try:
            if literal[:5].lower() == "ipv6:":
                ipaddress.IPv6Address(literal[5:])
            else:
                ipaddress.IPv4Address(literal)
        except ValueError:
            raise ValueError('must be an address literal like "[192.0.2.1]" or "[IPv6:2001:db8::1]"') from None
        return text
    name = text.removeprefix("*.").removesuffix(".")
    if "*" in name:
        raise ValueError('may have a star alone ("*") or as the whole first label ("*.example.net") only')
    if "@" in text:
        raise ValueError("must be a domain, without a local part and @")
    if len(name.encode()) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError('must be a domain like "example.net", "*.example.net" or "*"')
    return text


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """An address or a network in CIDR form. Host bits must be zero: a slip there widens trust. One of IPv4 addresses in
    IPv6 would match nobody: we know a client by its IPv4 address, whatever socket it came to.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        if plain := mapped(network):
            raise ValueError(f'must be written as IPv4: "{plain}"')
        return network
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError('must be an address or a network like "10.0.0.0/8" or "2001:db8::/32"') from None
    raise ValueError(f'must have no bits set after its prefix; did you mean "{meant}"?')


def mapped(network: IPv4Network | IPv6Network) -> IPv4Network | None:
    """The IPv4 network that one within ::ffff:0:0/96 stands for (RFC 4291 §2.5.5.2); None: it is no such."""
    found = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((found, network.prefixlen - 96)) if found and network.prefixlen >= 96 else None


def parse_peers(value: object) -> bool | tuple[IPv4Network | IPv6Network, ...]:
    """Who is trusted with something: nobody (false), everybody (true), or networks."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('must be false, true, or a list of networks like ["10.0.0.0/8"]')
    return tuple(parse_network(each) if isinstance(each, str) else _network(each) for each in value)


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    raise ValueError('must be false, true, or a list of networks like ["10.0.0.0/8"]')


def parse_mode(text: str) -> int:
    """Permission bits in octal, as chmod(1) takes them. Only text: a TOML integer 660 would be 01224."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError('must be three octal digits in quotes, as in "0660"')
    return int(text, 8)


def parse_printable(text: str) -> str:
    """One line of printable ASCII that fits into a reply (512 octets with code and line end, RFC 5321 §4.5.3.1.5)."""
    if len(text) > 400 or not re.fullmatch(r"[ -~]*", text):
        raise ValueError("must be at most 400 printable ASCII characters")
    return text


def parse_host_name(text: str) -> str:
    """A host name for greetings and Received:, or "" for the host's own."""
    if text and not _HOST.fullmatch(text):
        raise ValueError('must be a host name like "mx.example.net"')
    return text


def parse_listener_name(text: str) -> str:
    """A name that can be a metric's label and part of a file name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text):
        raise ValueError('must be 1 to 32 of a-z, 0-9, "-" and "_", beginning with a letter or digit')
    return text


def parse_key_prefix(text: str) -> str:
    """The first part of store keys. Braces are ours: they mark the part that a Redis Cluster hashes."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValueError('must be 1 to 64 letters, digits, ".", "_", ":" or "-"')
    return text


def parse_class_name(text: str) -> str:
    """`package.module:Class`, or "" for none."""
    name = r"[A-Za-z_]\w*"
    if text and not re.fullmatch(rf"{name}(?:\.{name})*:{name}", text):
        raise ValueError('must be "package.module:Class"')
    return text


def _parse_directory(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("must be the path of a directory")
    return Path(text)


def _parse_optional_path(text: str) -> Path | None:
    if "\0" in text:
        raise ValueError("must be a path")
    return Path(text) if text else None


_PEM_MARK = "-----BEGIN"


def parse_pem_files(value: object) -> tuple[str, ...]:
    """A path or a list of paths; "" is none. PEM itself is refused: settings are shown, keys must not be."""
    each = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [None]
    if each == [""]:
        return ()
    for path in each:
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError("must be the path of a file in quotes, or a list of such paths")
        if _PEM_MARK in path:
            raise ValueError("must be the path of a PEM file, and not PEM itself")
    return tuple(map(str, each))


def _text(parse: Any, *typed: type) -> Any:
    """A validator that parses text, and lets a value of the types `typed` pass."""

    def validate(value: object) -> object:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, typed):
            return value
        raise ValueError('must be text in quotes, as in "0660"' if parse is parse_mode else "must be text in quotes")

    return BeforeValidator(validate)


def _checked(parse: Any) -> Any:
    """A validator for text that stays as it was written."""

    def validate(value: str) -> str:
        parse(value)
        return value

    return AfterValidator(validate)


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
BindText = Annotated[str, _checked(parse_bind)]
OptionalBindText = Annotated[str, _checked(lambda text: parse_bind(text) if text else None)]
Domain = Annotated[str, _checked(parse_domain)]
HostName = Annotated[str, _checked(parse_host_name)]
Printable = Annotated[str, _checked(parse_printable)]
AuthMethod = Literal[
    "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"
]
"""The keys of `smtp.sasl.MECHANISMS`."""
Command = Literal[
    "AUTH", "BDAT", "DATA", "EHLO", "EXPN", "HELO", "HELP", "LHLO", "MAIL", "NOOP", "RCPT", "RSET", "STARTTLS", "VRFY"
]
ListenerName = Annotated[str, _checked(parse_listener_name)]
KeyPrefix = Annotated[str, _checked(parse_key_prefix)]
StoreUrl = Annotated[str, _checked(parse_store_url)]
DurabilityText = Annotated[str, _checked(parse_durability)]
ClassName = Annotated[str, _checked(parse_class_name)]

_AS_TEXT = WithJsonSchema({"type": "string"})
Network = Annotated[
    IPv4Network | IPv6Network, _text(parse_network, IPv4Network, IPv6Network), PlainSerializer(str), _AS_TEXT
]
Mode = Annotated[int, _text(parse_mode), PlainSerializer(lambda mode: f"{mode:04o}"), _AS_TEXT]
Directory = Annotated[Path, _text(_parse_directory, Path), PlainSerializer(str), _AS_TEXT]
OptionalPath = Annotated[
    Path | None,
    _text(_parse_optional_path, Path, type(None)),
    PlainSerializer(lambda path: "" if path is None else str(path)),
    _AS_TEXT,
]
PemFile = Annotated[str, _checked(parse_pem_files)]
PemFiles = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_pem_files),
    PlainSerializer(lambda paths: list(paths) if len(paths) > 1 else "".join(paths)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Peers = Annotated[
    bool | tuple[IPv4Network | IPv6Network, ...],
    PlainValidator(parse_peers),
    PlainSerializer(lambda peers: peers if isinstance(peers, bool) else [str(network) for network in peers]),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]}),
]
