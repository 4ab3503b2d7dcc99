"""Signals by themselves: who is called, how often, and what is forgotten."""

from __future__ import annotations

import gc
import logging
from typing import Any

import celery.signals
import pytest

from celeriac import signals
from celeriac.client import signals as made
from celeriac.client.signals import Signal


@pytest.fixture
def signal() -> Signal:
    return Signal("test", ("value",))


class Listener:
    """Keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, value: Any = None, **kwargs: Any) -> str:
        """Keep it."""
        self.heard.append(value)
        return "heard"


def test_every_signal_of_celery_is_there_with_its_arguments() -> None:
    theirs = {name: s for name, s in vars(celery.signals).items() if hasattr(s, "providing_args")}
    assert set(theirs) <= set(signals.__all__)
    for name, signal in theirs.items():
        ours: Signal = getattr(signals, name)
        assert ours.providing_args >= set(signal.providing_args or ()), name
        assert ours.name == name


def test_all_signals_are_listed_once() -> None:
    assert {signal.name for signal in made.SIGNALS} == set(signals.__all__) - {"Signal"}


def test_decorators_with_and_without_arguments(signal: Signal) -> None:
    heard = []

    @signal.connect
    def plain(**kwargs: Any) -> None:
        heard.append("plain")

    @signal.connect(sender="a")
    def of_a(**kwargs: Any) -> None:
        heard.append("of a")

    signal.send(sender="b")
    signal.send(sender="a")
    assert heard == ["plain", "plain", "of a"]


def test_a_receiver_is_given_signal_sender_and_arguments(signal: Signal) -> None:
    found: dict[str, Any] = {}
    receiver = signal.connect(lambda **kwargs: found.update(kwargs), weak=False)
    answers = signal.send(sender="me", value=3)
    assert found == {"signal": signal, "sender": "me", "value": 3}
    assert answers == [(receiver, None)]


def test_connected_twice_is_called_once(signal: Signal) -> None:
    listener = Listener()
    for _ in range(2):
        signal.connect(listener.hear)
        signal.connect(lambda **kwargs: listener.hear(1), weak=False, dispatch_uid="one")
    signal.send(sender=None)
    assert len(listener.heard) == 2


def test_weak_receivers_are_forgotten(signal: Signal) -> None:
    listener = Listener()
    signal.connect(listener.hear)
    signal.connect(lambda **kwargs: None)
    gc.collect()
    assert len(signal.receivers) == 1
    signal.send(sender=None, value=1)
    assert listener.heard == [1]
    del listener
    gc.collect()
    assert signal.receivers == ()


def test_a_strong_receiver_stays(signal: Signal) -> None:
    heard = Listener().heard
    signal.connect(lambda **kwargs: heard.append(1), weak=False)
    gc.collect()
    signal.send(sender=None)
    assert heard == [1]


def test_disconnect(signal: Signal) -> None:
    listener = Listener()
    signal.connect(listener.hear, sender="a")
    signal.connect(listener.hear, dispatch_uid="uid")
    assert not signal.disconnect(listener.hear)
    assert signal.disconnect(listener.hear, sender="a")
    assert signal.disconnect(dispatch_uid="uid")
    assert not signal.has_listeners()


def test_has_listeners_knows_senders(signal: Signal) -> None:
    listener, sender = Listener(), object()
    signal.connect(listener.hear, sender=sender)
    assert signal.has_listeners(sender)
    assert not signal.has_listeners(object())


def test_an_exception_is_logged_and_the_others_are_called(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()

    @signal.connect
    def broken(**kwargs: Any) -> None:
        raise ValueError("out of paper")

    signal.connect(listener.hear)
    (_, error), (_, answer) = signal.send(sender=None, value=1)
    assert isinstance(error, ValueError)
    assert answer == "heard"
    assert "out of paper" in caplog.text
    assert "the signal test failed" in caplog.text


def test_retry_calls_until_it_returns(
    signal: Signal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("celeriac.client.signals.time.sleep", pauses.append)
    heard = []

    @signal.connect(retry=True)
    def flaky(value: int, **kwargs: Any) -> int:
        heard.append(value)
        if len(heard) < 3:
            raise OSError("not yet")
        return value

    with caplog.at_level(logging.WARNING):
        assert signal.send(sender=None, value=7)[0][1] == 7
    assert heard == [7, 7, 7]
    assert pauses == [2.0, 3.0]
    assert caplog.text.count("not yet") == 2


def test_a_receiver_may_disconnect_itself(signal: Signal) -> None:
    heard = []

    @signal.connect
    def once(**kwargs: Any) -> None:
        heard.append(1)
        signal.disconnect(once)

    signal.send(sender=None)
    signal.send(sender=None)
    assert heard == [1]


def test_only_what_can_be_called_is_connected(signal: Signal) -> None:
    with pytest.raises(TypeError, match="must be callable"):
        signal.connect("tasks.hear")  # type: ignore[call-overload]
