"""What every bus does.

Owns: BusContract.
May import: everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from celeriac.ports.bus import Bus, Subscription
from celeriac.ports.registry import Family
from celeriac.testing.eventually import eventually, in_thread, quickest


class BusContract:
    """Subclass it and give a fixture `family`."""

    wake_bound = 0.05

    @pytest.fixture
    def bus(self, family: Family) -> Iterator[Bus]:
        """Return the bus under test; its broker is open."""
        broker = family.broker()
        broker.open()
        yield family.bus()
        broker.close()

    def collect(self, listener: Subscription, count: int) -> list[tuple[str, bytes]]:
        """Poll until `count` messages are there."""
        found: list[tuple[str, bytes]] = []

        def more() -> bool:
            found.extend(listener.poll(0.2))
            return len(found) >= count

        eventually(more)
        return found

    def test_a_listener_gets_what_is_sent_in_order(self, bus: Bus) -> None:
        """A listener gets what is sent in order."""
        listener = bus.subscribe(["events"])
        bus.send("events", [b"1", b"2"])
        bus.send("events", [b"3"])
        assert self.collect(listener, 3) == [("events", b"1"), ("events", b"2"), ("events", b"3")]
        listener.close()

    def test_everyone_listening_gets_it(self, bus: Bus) -> None:
        """Everyone listening gets it."""
        listeners = [bus.subscribe(["events"]) for _ in range(3)]
        bus.send("events", [b"x"])
        for listener in listeners:
            assert self.collect(listener, 1) == [("events", b"x")]
            listener.close()

    def test_only_its_topics(self, bus: Bus) -> None:
        """Only its topics."""
        listener = bus.subscribe(["a", "b"])
        bus.send("c", [b"no"])
        bus.send("b", [b"yes"])
        bus.send("a", [b"too"])
        assert sorted(self.collect(listener, 2)) == [("a", b"too"), ("b", b"yes")]
        assert listener.poll(0) == []
        listener.close()

    def test_nothing_from_before_it_subscribed(self, bus: Bus) -> None:
        """Nothing from before it subscribed."""
        bus.send("events", [b"old"])
        listener = bus.subscribe(["events"])
        bus.send("events", [b"new"])
        assert self.collect(listener, 1) == [("events", b"new")]
        listener.close()

    def test_nothing_after_it_closed(self, bus: Bus) -> None:
        """Nothing after it closed."""
        stays, leaves = bus.subscribe(["events"]), bus.subscribe(["events"])
        leaves.close()
        bus.send("events", [b"x"])
        assert self.collect(stays, 1) == [("events", b"x")]
        stays.close()

    def test_empty_batch_and_no_listener(self, bus: Bus) -> None:
        """Empty batch and no listener."""
        listener = bus.subscribe(["events"])
        bus.send("events", [])
        bus.send("nobody", [b"x"])
        assert listener.poll(0) == []
        listener.close()

    def test_odd_topics_and_bytes(self, bus: Bus) -> None:
        """Odd topics and bytes."""
        topic, message = "wörker@höst.näme/1:*{}", bytes(range(256)) * 100
        listener = bus.subscribe([topic])
        bus.send(topic, [message, b""])
        assert self.collect(listener, 2) == [(topic, message), (topic, b"")]
        listener.close()

    def test_poll_waits_and_gives_up(self, bus: Bus) -> None:
        """Poll waits and gives up."""
        listener = bus.subscribe(["events"])
        began = time.monotonic()
        assert listener.poll(0.2) == []
        assert 0.15 <= time.monotonic() - began < 5
        listener.close()

    def test_wake_ends_a_poll(self, bus: Bus) -> None:
        """Wake ends a poll."""
        listener = bus.subscribe(["events"])

        def measure() -> float:
            with in_thread(lambda: listener.poll(10)) as later:
                time.sleep(0.05)
                woken = time.monotonic()
                listener.wake()
                assert later.value() == []
            return later.ended_at - woken

        assert quickest(measure, enough=self.wake_bound) <= self.wake_bound
        listener.close()

    def test_a_message_ends_a_poll(self, bus: Bus) -> None:
        """A message ends a poll."""
        listener = bus.subscribe(["events"])
        with in_thread(lambda: listener.poll(10)) as later:
            time.sleep(0.05)
            sent = time.monotonic()
            bus.send("events", [b"x"])
            assert later.value() == [("events", b"x")]
        assert later.ended_at - sent < 2
        listener.close()

    def test_a_deaf_listener_blocks_nobody(self, bus: Bus) -> None:
        """A deaf listener blocks nobody."""
        deaf, listening = bus.subscribe(["events"]), bus.subscribe(["control"])
        for _ in range(30):
            bus.send("events", [b"x" * 100] * 1000)
        bus.send("control", [b"still here"])
        assert self.collect(listening, 1) == [("control", b"still here")]
        assert len(deaf.poll(0)) <= 30_000
        deaf.close()
        listening.close()
