"""A slip in a call of SMTPServer is answered where it is made, in words that help."""

from __future__ import annotations

import socket
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from mta_front import Hooks, SMTPServer
from mta_front.arguments import Arguments, Options, checked
from mta_front.certified import TLS_CHECKS
from mta_front.config import Listener
from mta_front.hooks import HOOKS, Address, Session
from mta_front.net.options import SessionOptions

OPTIONS = {option.name for option in fields(SessionOptions) if option.init}
OPTIONS |= {option.name for option in fields(Arguments)} - {"hooks", "session", "certified"}
OPTIONS -= {"tls"}  # is made of those that follow
OPTIONS |= set(TLS_CHECKS)


def test_each_option_can_be_given_and_is_typed() -> None:
    """Who adds one to a session's options, or a hook, says in `mta_front.arguments` what it may be."""
    assert set(get_type_hints(Options)) == OPTIONS | set(HOOKS)
    known = {name for name in OPTIONS if is_known(name)}
    assert known == OPTIONS


def test_each_option_is_named_where_help_shows_it() -> None:
    text = SMTPServer.__doc__ or ""
    assert [name for name in Options.__annotations__ if f"`{name}`" not in text and name not in HOOKS] == []


def is_known(name: str) -> bool:
    """Whether the library takes the option at all."""
    try:
        checked(None, {name: object()})
    except (TypeError, ValueError) as error:
        return "has no option" not in str(error)
    return True


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("size_byte", "size_bytes"),
        ("size", "size_bytes"),
        ("authOptional", "auth_optional"),
        ("hideSMTPUTF8", "hide_smtputf8"),
        ("hideENHANCEDSTATUSCODES", "hide_enhancedstatuscodes"),
        ("maxClients", "max_clients"),
        ("socketTimeout", "socket_timeout_s"),
        ("closeTimeout", "close_timeout_s"),
        ("disableReverseLookup", "reverse_lookup"),
        ("maxAllowedUnauthenticatedCommands", "max_unauthenticated_commands"),
        ("onData", "on_data"),
        ("on_rcpt", "on_rcpt_to"),
        ("data_size_limit", "size_bytes"),
        ("handle_DATA", "on_data"),
        ("hook", "hooks"),
        ("needsUpgrade", "needs_upgrade"),
        ("hideSTARTTLS", "hide_starttls"),
        ("sniOptions", "sni"),
        ("certificate", "cert"),
        ("tls_context", "cert"),
        ("require_starttls", "needs_upgrade"),
        ("authenticator", "on_auth"),
        ("useXClient", "use_xclient"),
        ("useProxy", "use_proxy"),
        ("proxy_protocol_timeout", "use_proxy"),
    ],
)
def test_an_unknown_option_names_the_nearest_known_one(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"^SMTPServer has no option '{name}'; did you mean '{meant}'\?$"):
        SMTPServer(**{name: 1})  # type: ignore[arg-type]


def test_an_option_like_no_other_is_only_unknown() -> None:
    with pytest.raises(TypeError, match=r"^SMTPServer has no option 'xyzzy'$"):
        SMTPServer(xyzzy=1)  # type: ignore[call-arg]


BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("banner", "two\r\nlines", ValueError, "banner='two\\r\\nlines': must be at most 400 printable ASCII characters"),
    ("banner", "x" * 401, ValueError, "must be at most 400"),
    ("banner", b"bytes", TypeError, "banner=b'bytes': must be text"),
    ("name", "a b", ValueError, "name='a b': must be a host name"),
    ("name", "mx.example\r\n250 x", ValueError, "must be a host name"),
    ("helo_response", "\x1b[2J", ValueError, "printable"),
    ("auth_required_message", "a\nb", ValueError, "in one line"),
    ("listener", "A B", ValueError, "must be 1 to 32"),
    ("size_bytes", -1, ValueError, "size_bytes=-1: must be 0 or more"),
    ("size_bytes", 1.5, TypeError, "must be a whole number"),
    ("size_bytes", "10M", TypeError, "must be a whole number"),
    ("size_bytes", True, TypeError, "must be a whole number"),
    ("max_clients", False, TypeError, "must be a whole number"),
    ("max_unauthenticated_commands", True, TypeError, "must be a whole number"),
    ("socket_timeout_s", 0, ValueError, "must be more than 0 seconds"),
    ("socket_timeout_s", None, TypeError, "must be a number of seconds"),
    ("socket_timeout_s", float("nan"), ValueError, "must be more than 0"),
    ("socket_timeout_s", float("inf"), ValueError, "must be more than 0"),
    ("close_timeout_s", -0.1, ValueError, "must be 0 or more seconds"),
    ("greet_delay_s", 61, ValueError, "must be from 0 to 60 seconds"),
    ("auth_optional", 1, TypeError, "auth_optional=1: must be True or False"),
    ("hide_size", None, TypeError, "must be True or False"),
    ("disabled_commands", "VRFY", TypeError, "must be a list of commands"),
    ("disabled_commands", [1], TypeError, "must be a list of commands"),
    ("disabled_commands", ["VRFYY"], ValueError, "must be commands among AUTH, BDAT"),
    ("disabled_commands", ["QUIT"], ValueError, "must be commands among"),
    ("auth_methods", "PLAIN", TypeError, "must be a list of mechanisms"),
    ("auth_methods", [None], TypeError, "must be a list of mechanisms"),
    ("auth_methods", ["PLAIN", "NTLM"], ValueError, "must be mechanisms among EXTERNAL, SCRAM-SHA-256-PLUS, SCRAM-"),
    ("secure", "yes", TypeError, "must be True or False"),
    ("bare_newline", "keep", ValueError, "must be 'normalize' or 'reject' or 'accept'"),
    ("bare_newline_exempt", "10.0.0.0/8", TypeError, "must be a list of networks"),
    ("bare_newline_exempt", ["10.0.0.1/8"], ValueError, "has host bits set"),
    ("bare_newline_exempt", [10], TypeError, "must be a list of networks"),
    ("resolver", "8.8.8.8", TypeError, "must be an object with reverse(address)"),
    ("blocking_hooks", "yes", TypeError, "must be True or False"),
    ("use_proxy", "10.0.0.0/8", TypeError, "must be False, True, or a list of networks"),
    ("use_proxy", None, TypeError, "must be False, True, or a list of networks"),
    ("use_proxy", 1, TypeError, "must be False, True, or a list of networks"),
    ("use_proxy", [], ValueError, "must be False, True, or a list of networks"),
    ("use_proxy", ["haproxy.example"], ValueError, "does not appear to be an IPv4 or IPv6 network"),
    ("use_xclient", ["10.0.0.1/8"], ValueError, "has host bits set"),
    ("use_xforward", [10], TypeError, "must be False, True, or a list of networks"),
    ("proxy_timeout_s", 0, ValueError, "must be more than 0 seconds"),
    ("proxy_tls_trusted", 1, TypeError, "must be True or False"),
    ("xclient_trusts_addr", ["10.0.0.0/8"], TypeError, "must be True or False"),
]


@pytest.mark.parametrize(("name", "value", "kind", "text"), BAD)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        SMTPServer(**{name: value})
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{name}=")
    assert text in str(caught.value)


SAMPLES: list[Any] = [
    "", "x", "mx.example.net", "a b", "a\r\nb", "x" * 400, "x" * 401, "ä", "normalize", "accept", "reject", "keep",
    True, False, 0, 1, -1, 60, 61, 32_768, 32_769, 1.5, 0.0, 61.0, float("inf"), float("nan"), [], ["VRFY"], ["QUIT"],
    ["NOPE"], ["PLAIN", "XOAUTH2"], ["NTLM"], ["10.0.0.0/8"], ["10.0.0.1/8"], [ip_network("::1/128")], ["::1"],
]  # fmt: skip

DIFFERS: list[tuple[str, Any]] = [
    ("max_recipients", 0),
    ("session_timeout_s", 0),
    ("session_timeout_s", 0.0),
    ("max_unauthenticated_commands", False),
]
"""0 means no limit in the library; settings want a limit there. False: see the seeds."""


@pytest.mark.parametrize("name", sorted((OPTIONS & set(Listener.model_fields)) - {"name", "lmtp"}))
def test_the_library_allows_what_the_settings_allow(name: str) -> None:
    """One option, one meaning: the bounds in `settings.model` and those here are the same."""
    adapter: TypeAdapter[Any] = TypeAdapter(Listener.model_fields[name].rebuild_annotation())
    for sample in SAMPLES:
        if any(name == other and (type(sample), sample) == (type(value), value) for other, value in DIFFERS):
            continue
        try:
            adapter.validate_python(sample, strict=True)
        except ValidationError:
            with pytest.raises((TypeError, ValueError), match=f"^{name}="):
                checked(None, {name: sample})
        else:
            checked(None, {name: sample})


def test_values_are_made_what_sessions_use() -> None:
    networks = ["10.0.0.0/8", ip_network("2001:db8::/32"), "192.0.2.1"]
    given = {"bare_newline_exempt": iter(networks), "disabled_commands": ("vrfy",), "auth_methods": {"Cram-MD5": 1}}
    options = checked(None, given).session
    assert [str(each) for each in options.bare_newline_exempt] == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]
    assert options.disabled_commands == {"VRFY"}
    assert options.auth_methods == ("CRAM-MD5",)
    assert options.name == socket.gethostname()


def test_networks_of_proxies_are_text_or_objects() -> None:
    networks = ("10.0.0.0/8", ip_network("2001:db8::/32"), "192.0.2.1")
    options = checked(None, {"use_proxy": networks, "use_xclient": iter(networks), "use_xforward": list(networks)})
    for found in (options.session.use_proxy, options.session.use_xclient, options.session.use_xforward):
        assert not isinstance(found, bool)
        assert [str(each) for each in found] == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]
    for flag in (True, False):
        assert checked(None, {"use_proxy": flag}).session.use_proxy is flag


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_nobody_trusts_everybody_by_accident(everybody: str) -> None:
    with pytest.raises(ValueError, match=f"use_proxy: {everybody} would trust everybody; say use_proxy=True if"):
        SMTPServer(use_proxy=["10.0.0.0/8", everybody])
    SMTPServer(use_proxy=True).close()


@pytest.mark.parametrize("name", ["use_xclient", "use_xforward"])
@pytest.mark.parametrize("proxies", [True, ["127.0.0.1"]])
def test_clients_of_a_proxy_may_not_all_speak_for_others(name: str, proxies: Any) -> None:
    """That the proxy comes by loopback says nothing of the client, whose address XCLIENT is judged by."""
    given: dict[str, Any] = {name: True, "use_proxy": proxies}
    with pytest.raises(ValueError, match=f"{name}=True: must name networks, since with use_proxy clients come from"):
        SMTPServer(**given)
    SMTPServer(**given | {name: ["10.0.0.0/8"]}).close()


@pytest.mark.parametrize("name", ["use_xclient", "use_xforward"])
def test_strangers_may_not_speak_for_others(name: str, tmp_path: Path) -> None:
    """`True` is for addresses that only this host comes to (DECISIONS W12)."""
    given: dict[str, Any] = {name: True}
    server = SMTPServer(**given)
    with pytest.raises(ValueError, match=f"{name}=True: must name networks, since 0.0.0.0 is open to others"):
        server.listen("0.0.0.0")
    with pytest.raises(ValueError, match=f"{name}=True: must name networks, since :: is open to others"):
        server.listen("::")
    assert server.addresses == []
    for address in ("127.0.0.1", "::1", "localhost", f"unix:{tmp_path / 's'}"):
        server.listen(address)
    server.close()
    server = SMTPServer(**{name: ["10.0.0.0/8"]})  # type: ignore[arg-type]
    server.listen("0.0.0.0")
    server.close()


def test_an_upgrade_that_is_needed_must_be_possible() -> None:
    with pytest.raises(ValueError, match="needs_upgrade=True: nobody can, with STARTTLS among disabled_commands"):
        SMTPServer(needs_upgrade=True, disabled_commands=["STARTTLS"])
    SMTPServer(needs_upgrade=True, disabled_commands=["STARTTLS"], secure=True).close()


class Fine(Hooks):
    """Good hooks, with a method of their own."""

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.on_spam_found()

    def on_spam_found(self) -> None:
        """No hook, and like none."""


class Misspelt(Hooks):
    def on_rcpt(self, address: Address, session: Session) -> None: ...


class Asynchronous(Hooks):
    async def on_rcpt_to(self, address: Address, session: Session) -> None:  # type: ignore[override]
        ...


class Generator(Hooks):
    def on_data(self, message: Any, session: Session) -> Any:
        yield from message


class WithCallback(Hooks):
    def on_data(self, stream: Any, session: Session, callback: Any) -> None:  # type: ignore[override]
        ...


@pytest.mark.parametrize(
    ("hooks", "text"),
    [
        (Fine, r"hooks=Fine: must be an instance, as in hooks=Fine\(\)"),
        (print, "must be an instance of a subclass of mta_front.Hooks"),
        (Misspelt(), r"Misspelt.on_rcpt would never be called: .* did you mean on_rcpt_to\?"),
        (Asynchronous(), "Asynchronous.on_rcpt_to is async def; a hook is a plain function"),
        (Generator(), "Generator.on_data is a generator"),
        (WithCallback(), r"WithCallback.on_data must take the arguments \(message, session\)"),
    ],
)
def test_hooks_that_would_be_called_in_vain_are_refused(hooks: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        SMTPServer(hooks=hooks)


async def asynchronous(address: Address, session: Session) -> None:
    """What aiosmtpd would want."""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"on_rcpt_to": asynchronous}, "on_rcpt_to is async def"),
        ({"on_data": lambda stream, session, callback: None}, r"on_data must take the arguments \(message, session\)"),
        ({"on_connect": "refuse"}, "on_connect='refuse': must be a function"),
        ({"hooks": Fine(), "on_data": print}, r"give either hooks=… or single hooks \(on_data\), not both"),
    ],
)
def test_functions_that_cannot_be_hooks_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        SMTPServer(**given)


def test_good_hooks_are_taken() -> None:
    SMTPServer(Fine(), auth_optional=True).close()
    SMTPServer(on_close=print, on_error=print).close()
