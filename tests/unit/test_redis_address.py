"""What Redis URLs and options mean."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.drivers.redis.address import Address, parse
from celeriac.kernel.errors import ImproperlyConfigured


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("redis://", {}, {"hosts": (("127.0.0.1", 6379),), "db": 0, "tls": None}),
        ("redis://h:7/3", {}, {"hosts": (("h", 7),), "db": 3}),
        ("valkey://h", {}, {"hosts": (("h", 6379),)}),
        ("redis://u%40x:p%3Aw@h/1", {}, {"username": "u@x", "password": "p:w"}),
        ("redis://:pw@[::1]:6380", {}, {"hosts": (("::1", 6380),), "password": "pw"}),
        ("redis://h?socket_timeout=2.5", {"socket_timeout": 9}, {"socket_timeout": 2.5}),
        ("redis://h", {"socket_connect_timeout": 1}, {"connect_timeout": 1.0}),
        ("redis://h", {"publish_timeout": 10}, {"socket_timeout": 5.0, "connect_timeout": 4.0}),
        ("redis://h", {"publish_timeout": 3}, {"socket_timeout": 1.5, "connect_timeout": 1.5}),
        ("redis://h", {"publish_timeout": 3, "socket_timeout": 5}, {"socket_timeout": 5.0}),
        ("redis+socket:///run/r.sock?virtual_host=4", {}, {"path": "/run/r.sock", "db": 4}),
        (
            "sentinel://:pw@a:1;sentinel://b;c:3/2",
            {"master_name": "m"},
            {
                "kind": "sentinel",
                "hosts": (("a", 1), ("b", 26379), ("c", 3)),
                "db": 2,
                "password": "pw",
                "master_name": "m",
            },
        ),
        ("redis+cluster://a:1;b:2", {}, {"kind": "cluster", "hosts": (("a", 1), ("b", 2))}),
        (
            "rediss://h",
            {},
            {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}},
        ),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            {},
            {"tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}},
        ),
        (
            "redis://h",
            {"ssl": True, "ssl_cert_reqs": 2, "ssl_ca_certs": "/ca.pem"},
            {
                "tls": {
                    "ssl_cert_reqs": "required",
                    "ssl_check_hostname": True,
                    "ssl_ca_certs": "/ca.pem",
                }
            },
        ),
    ],
)
def test_it_is_understood(url: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    address = parse(url, options)
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("redis://h:port", {}, "port"),
        ("redis://h:99999", {}, "ort"),
        ("redis://h/abc", {}, "number"),
        ("redis://h?socket_timeout=soon", {}, "soon"),
        ("redis://h?socket_timeout=0", {}, "above 0"),
        ("redis://a;b", {}, "several hosts"),
        ("redis+socket://run/r.sock", {}, "three slashes"),
        ("sentinel://a:1", {}, "master_name"),
        ("redis+cluster://a/3", {}, "database 0"),
        ("rediss://h?ssl_cert_reqs=maybe", {}, "ssl_cert_reqs"),
    ],
)
def test_what_is_wrong_is_named(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        parse(url, options)


def test_the_password_is_never_shown() -> None:
    address = parse("redis://user:hunter2@h/0", {})
    assert "hunter2" not in repr(address)
    assert "hunter2" not in address.shown
    with pytest.raises(ImproperlyConfigured) as caught:
        parse("redis://user:hunter2@h/abc", {})
    assert "hunter2" not in str(caught.value)


def test_two_ways_to_one_database_have_one_name() -> None:
    one = parse("redis://user:pw@h:6379/1", {})
    assert one.name == parse("redis://h/1", {}).name
    assert one.name != parse("redis://h/2", {}).name
    assert Address("socket", path="/a").name != Address("socket", path="/b").name
