"""What may be shown: no password, no endless text, no error from a user's repr."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.redact import bounded_repr, is_secret, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@host:6379/0", "redis://user:**@host:6379/0"),
        ("redis://:pw@host", "redis://:**@host"),
        ("redis://:p@w@host/0", "redis://:**@host/0"),
        ("amqp://u:p:w@h//v", "amqp://u:**@h//v"),
        ("a://u:p@h;b://v:q@k", "a://u:**@h;b://v:**@k"),
        ("db+postgresql://u:p%40@h/d?sslmode=x", "db+postgresql://u:**@h/d?sslmode=x"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=**&db=1"),
        ("x://h?db=1&Secret=pw", "x://h?db=1&Secret=**"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host/0", "redis://user@host/0"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("memory://", "memory://"),
        (
            "cannot connect to redis://:pw@h/0: refused",
            "cannot connect to redis://:**@h/0: refused",
        ),
        ("", ""),
    ],
)
def test_redact_url(url: str, shown: str) -> None:
    assert redact_url(url) == shown


PASSWORDS = st.text(string.ascii_uppercase + string.digits + ":@!$%^&*-_+=~.;?#[]", min_size=1)


@given(PASSWORDS, st.sampled_from(["", "user"]))
def test_no_password_is_shown(password: str, user: str) -> None:
    shown = redact_url(f"redis://{user}:{password}@host:6379/0")
    assert shown == f"redis://{user}:**@host:6379/0"


@given(st.text())
def test_text_without_urls_stays(text: str) -> None:
    if "://" not in text and "?" not in text and "&" not in text:
        assert redact_url(text) == text
    assert redact_url(redact_url(text)) == redact_url(text)


@pytest.mark.parametrize(
    "name",
    [
        "redis_password",
        "SECRET_KEY",
        "security_key",
        "security_key_password",
        "s3_secret_access_key",
        "api_token",
        "security_certificate",
    ],
)
def test_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["broker_url", "task_default_routing_key", "s3_bucket", "keyspace", "task_routes"]
)
def test_no_secrets(name: str) -> None:
    assert not is_secret(name)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(ANYTHING, st.integers(20, 200))
def test_a_representation_is_bounded(value: Any, limit: int) -> None:
    assert len(bounded_repr(value, limit)) <= limit


@given(st.none() | st.integers(-(10**9), 10**9) | st.text(max_size=20))
def test_what_is_short_is_shown_whole(value: Any) -> None:
    assert bounded_repr(value) == repr(value)


def test_long_values_keep_their_beginning() -> None:
    assert bounded_repr("a" * 10_000_000, 50).startswith("'aaa")
    assert bounded_repr(list(range(1000)), 60).startswith("[0, 1, 2")
    assert len(bounded_repr(10**5000, 50)) <= 50
    assert len(bounded_repr(dict.fromkeys(range(1000), "x" * 100), 50)) == 50


def test_depth_and_rings_end() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert len(bounded_repr(ring)) < 100
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert len(bounded_repr(deep)) < 100
    while isinstance(deep, list):  # taken apart by hand: freeing it recurses
        deep = deep[0]


def test_a_repr_that_raises_or_lies() -> None:
    class Raises:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class Lies:
        def __repr__(self) -> str:
            return 5  # type: ignore[return-value]

    for value in (Raises(), Lies(), [Raises()], {"a": Lies()}):
        assert bounded_repr(value)
    assert "Raises" in bounded_repr(Raises())
