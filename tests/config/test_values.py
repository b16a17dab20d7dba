"""The syntax of single values."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from mta_front.config import Admin, Bind, Listener, Server, Store
from mta_front.settings.durability import Durability, parse_durability
from mta_front.settings.storeurl import StoreUrl, read_store_url


@pytest.mark.parametrize(
    ("text", "bind", "loopback"),
    [
        ("127.0.0.1:2525", Bind("tcp", "127.0.0.1", 2525), True),
        ("127.9.9.9:1", Bind("tcp", "127.9.9.9", 1), True),
        ("0.0.0.0:65535", Bind("tcp", "0.0.0.0", 65535), False),
        ("[::]:25", Bind("tcp", "::", 25), False),
        ("[::1]:25", Bind("tcp", "::1", 25), True),
        ("[0:0:0:0:0:0:0:1]:25", Bind("tcp", "::1", 25), True),
        ("LocalHost:25", Bind("tcp", "localhost", 25), True),
        ("mx.example.net:25", Bind("tcp", "mx.example.net", 25), False),
        ("unix:./var/lmtp.sock", Bind("unix", path="./var/lmtp.sock"), True),
        ("unix:/" + "p" * 106, Bind("unix", path="/" + "p" * 106), True),
    ],
)
def test_addresses(text: str, bind: Bind, loopback: bool) -> None:
    [address] = Listener(bind=[text]).addresses
    assert address == bind
    assert address.is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "with a port from 1 to 65535"),
        ("2525", "with a port from 1 to 65535"),
        (":2525", "with a port from 1 to 65535"),
        ("127.0.0.1:", "with a port from 1 to 65535"),
        ("127.0.0.1:0", "with a port from 1 to 65535"),
        ("127.0.0.1:65536", "with a port from 1 to 65535"),
        ("127.0.0.1:+25", "with a port from 1 to 65535"),
        ("127.0.0.1: 25", "with a port from 1 to 65535"),
        ("127.0.0.1:2_5", "with a port from 1 to 65535"),
        ("127.0.0.1:٢٥", "with a port from 1 to 65535"),
        ("::1:2525", "must have its IPv6 address in brackets"),
        ("[::1:2525", "must have its IPv6 address in brackets"),
        ("[::g]:2525", "must have an IPv6 address between the brackets"),
        ("127.0.0.256:25", "must have a valid IPv4 address"),
        ("127.1:25", "must have a valid IPv4 address"),
        ("*:25", '"0.0.0.0:PORT" for every IPv4 address'),
        ("a b:25", "must have an IP address or a host name"),
        ("unix:", "with a path after the colon"),
        ("unix:/" + "p" * 107, "at most 107 bytes (this one has 108)"),
        ("unix:/" + "é" * 54, "at most 107 bytes (this one has 109)"),
    ],
)
def test_bad_addresses(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Listener(bind=[text])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "domain",
    [
        "*",
        "*.net",
        "example.net",
        "*.example.net",
        "EXAMPLE.net.",
        "localhost",
        "9.example",
        "a-b.c_d.example",
        "a" * 63 + ".example",
        "bücher.example",
        "xn--bcher-kva.example",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
    ],
)
def test_domains(domain: str) -> None:
    assert Listener(relay_domains=[domain]).relay_domains == [domain]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("", "must be a domain like"),
        (".", "must be a domain like"),
        ("a..b", "must be a domain like"),
        (".example.net", "must be a domain like"),
        ("-a.example", "must be a domain like"),
        ("a-.example", "must be a domain like"),
        ("a b.example", "must be a domain like"),
        ("a\n.example", "must be a domain like"),
        ("a" * 64 + ".example", "must be a domain like"),
        (".".join(["abcdefg"] * 33), "must be a domain like"),
        ("user@example.net", "without a local part"),
        ("**", "may have a star alone"),
        ("*example.net", "may have a star alone"),
        ("a.*.example", "may have a star alone"),
        ("*.*.example", "may have a star alone"),
        ("[192.0.2]", "must be an address literal"),
        ("[::1]", "must be an address literal"),
    ],
)
def test_bad_domains(domain: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Listener(relay_domains=[domain])
    assert message in str(caught.value)


def test_networks_are_typed() -> None:
    listener = Listener.model_validate({"trusted_networks": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]})
    assert [str(network) for network in listener.trusted_networks] == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1/8", 'did you mean "10.0.0.0/8"?'),
        ("10.0.0.0/33", "must be an address or a network"),
        ("example.net", "must be an address or a network"),
        ("", "must be an address or a network"),
    ],
)
def test_bad_networks(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Listener.model_validate({"trusted_networks": [text]})
    assert message in str(caught.value)


def test_modes_are_octal_text() -> None:
    assert Listener().unix_mode == 0o660
    assert Listener.model_validate({"unix_mode": "0600"}).unix_mode == 0o600
    assert Listener.model_validate({"unix_mode": "666"}).unix_mode == 0o666
    for bad in (660, 0o660, "0o660", "0888", "", "rw", True):
        with pytest.raises(ValidationError, match="in quotes"):
            Listener.model_validate({"unix_mode": bad})


def test_empty_paths_mean_none() -> None:
    assert Server().pid_file is None
    assert Server.model_validate({"pid_file": ""}).pid_file is None
    assert Server.model_validate({"pid_file": "x/y"}).pid_file == Path("x/y")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://h",
        "redis://h:6379/0",
        "redis://h?db=3",
        "rediss://[::1]:6380",
        "rediss://h/0?ssl_check_hostname=false",
        "unix:///run/redis.sock",
        "unix:///r.sock?db=1",
        "redis+sentinel://s1,s2:26380,[::1]:26379/mymaster",
        "redis+sentinel://s1/mymaster/2",
        "rediss+sentinel://s1/mymaster",
        "redis+cluster://h1,h2:7000",
        "rediss+cluster://[2001:db8::1]",
    ],
)
def test_store_urls(url: str) -> None:
    assert Store(url=url).url == url


def test_what_store_urls_mean() -> None:
    assert read_store_url("redis://H/2") == StoreUrl("single", False, (("h", 6379),), db=2)
    assert read_store_url("unix:///a%20b?db=1") == StoreUrl("single", False, path="/a b", db=1)
    seeds = (("s1", 26_379), ("::1", 5))
    assert read_store_url("rediss+sentinel://s1,[::1]:5/m/3") == StoreUrl("sentinel", True, seeds, master="m", db=3)
    assert read_store_url("redis+cluster://a,b:1") == StoreUrl("cluster", False, (("a", 6379), ("b", 1)))
    tls = read_store_url("rediss://h?ssl_ca_certs=/ca.pem&db=1")
    assert (tls.tls, tls.query, tls.db) == (True, "ssl_ca_certs=/ca.pem", 1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "redis://HOST:PORT/DB"),
        ("http://h", "redis://HOST:PORT/DB"),
        ("null:", "redis://HOST:PORT/DB"),
        ("redis://h:0", "redis://HOST:PORT/DB"),
        ("redis://h:65536", "redis://HOST:PORT/DB"),
        ("redis://[::1", "redis://HOST:PORT/DB"),
        ("redis:///0", "must name a host"),
        ("redis://", "must name a host"),
        ("redis://:6379", "must name a host"),
        ("redis://h1,h2", "must name one host"),
        ("unix://", "must have an absolute path"),
        ("unix://run/redis.sock", "must have an absolute path"),
        ("redis://h:6379/main", "must have the number of a database"),
        ("redis://h:6379/0/1", "must have the number of a database"),
        ("redis://h/?db=x", "must have the number of a database"),
        ("redis://h/0?password=x", "may have the options db=N"),
        ("redis://h/0?socket_timeout=5", "may have the options db=N"),
        ("redis://h?db=1&db=2", "each once"),
        ("redis://h?ssl_ca_certs=/x", "with rediss:// only"),
        ("redis+sentinel://s1,s2", "must name the master"),
        ("redis+sentinel://s1/", "must name the master"),
        ("redis+sentinel://s1/my master", "must name the master"),
        ("redis+sentinel://s1/m/x", "must have the number of a database"),
        ("redis+sentinel:///m", "must name a host"),
        ("redis+sentinel://s1,,s2/m", "redis+sentinel://HOST,HOST/NAME"),
        ("redis+cluster://h1/1", "must not name a database"),
        ("redis+cluster://h1,h2:x", "redis+cluster://HOST,HOST"),
    ],
)
def test_bad_store_urls(url: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Store(url=url)
    assert message in str(caught.value)


def test_credentials_leave_the_url() -> None:
    store = Store(url="redis://front:p%40ss@redis.example:6379/1")
    assert store.url == "redis://redis.example:6379/1"
    assert store.username == "front"
    assert store.password.get_secret_value() == "p@ss"
    assert Store(url="redis://:p@h").password.get_secret_value() == "p"
    assert Store(url="unix://u:p@/run/redis.sock").url == "unix:///run/redis.sock"
    spread = Store(url="rediss+cluster://u:p%2C@a:1,b/")
    assert (spread.url, spread.username, spread.password.get_secret_value()) == ("rediss+cluster://a:1,b/", "u", "p,")


@pytest.mark.parametrize(
    ("text", "fsync", "replicas"),
    [("memory", False, 0), ("fsync", True, 0), ("replicated:1", False, 1), ("fsync+replicated:2", True, 2)],
)
def test_durability(text: str, fsync: bool, replicas: int) -> None:
    assert Store(durability=text).durability == text
    assert parse_durability(text) == Durability(fsync, replicas)


@pytest.mark.parametrize(
    "text",
    ["", "disk", "fsync+", "+", "+replicated:1", "replicated", "replicated:0", "fsyncreplicated:1", "fsync+memory"],
)
def test_bad_durability(text: str) -> None:
    with pytest.raises(ValidationError, match="fsync\\+replicated:N"):
        Store(durability=text)


def test_explicit_credentials_win_over_the_url() -> None:
    store = Store.model_validate({"url": "redis://a:b@h", "username": "c", "password": "d"})
    assert (store.username, store.password.get_secret_value()) == ("c", "d")


def test_secrets_do_not_show() -> None:
    store = Store.model_validate({"url": "redis://u:hunter2@h", "password_file": ""})
    for text in (repr(store), str(store), store.model_dump_json(), store.url):
        assert "hunter2" not in text


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Server().workers = 3


@pytest.mark.parametrize("token", ["x" * 16, "!~" * 256, ""])
def test_tokens(token: str) -> None:
    assert Admin(token=SecretStr(token)).token.get_secret_value() == token


@pytest.mark.parametrize("token", ["x" * 15, "x" * 513, "x" * 16 + " ", "x" * 16 + "\n", "x" * 16 + "é"])
def test_bad_tokens(token: str) -> None:
    with pytest.raises(ValidationError, match="must have 16 to 512 characters, ASCII without spaces"):
        Admin(token=SecretStr(token))
