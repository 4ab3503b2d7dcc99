"""What every store of schedules does.

Owns: SchedulesContract.
May import: everything.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from celeriac.kernel.message import Envelope
from celeriac.ports.broker import Broker
from celeriac.ports.registry import Family
from celeriac.ports.schedules import Entry, ScheduleStore, Tick

NOW = 1_700_000_000.25
"""A time with a fraction that every store must keep to the microsecond."""


def entry(name: str, next_at: float | None = NOW, **more: object) -> Entry:
    """Return a new entry."""
    return replace(Entry(name, b'{"a": "\xc3\xa9"}', next_at), **more)  # type: ignore[arg-type]


def tick_of(found: Entry, next_at: float | None, *envelopes: Envelope) -> Tick:
    """Return the step of an entry from its tick to the next."""
    assert found.next_at is not None
    return Tick(found.name, found.version, next_at, found.next_at, len(envelopes) or 1, envelopes)


class SchedulesContract:
    """Subclass it and give a fixture `family`."""

    @pytest.fixture
    def store(self, family: Family) -> ScheduleStore:
        """Return the store under test, open."""
        store = family.schedules()
        store.open()
        return store

    @pytest.fixture
    def broker(self, family: Family) -> Broker:
        """Return the broker of its family, open."""
        broker = family.broker()
        broker.open()
        return broker

    def only(self, store: ScheduleStore, name: str = "a", scope: str = "s") -> Entry:
        """Return an entry as it is stored."""
        (found,) = store.entries(scope, [name])
        return found

    # -- entries --------------------------------------------------------------------------------

    def test_an_entry_comes_back_as_it_was(self, store: ScheduleStore) -> None:
        """An entry comes back as it was."""
        made = entry(
            "naïve/ä:*{} name",
            NOW + 0.000001,
            from_code=True,
            last_at=NOW - 1.5,
            runs=7,
            spec=bytes(range(256)),
        )
        assert list(store.put("s", [made])) == []
        found = self.only(store, made.name)
        assert found.version > 0
        assert replace(found, version=0) == made

    def test_a_paused_entry_has_no_tick(self, store: ScheduleStore) -> None:
        """A paused entry has no tick."""
        store.put("s", [entry("a", None, paused=True)])
        assert self.only(store).paused
        assert self.only(store).next_at is None
        assert list(store.due("s", NOW + 1e6, limit=10)) == []
        assert store.next_at("s", 0) is None

    def test_entries_are_listed_by_name(self, store: ScheduleStore) -> None:
        """Entries are listed by name."""
        store.put("s", [entry("b"), entry("a"), entry("c", None)])
        assert [found.name for found in store.entries("s")] == ["a", "b", "c"]
        assert [found.name for found in store.entries("s", ["c", "a", "x"])] == ["a", "c"]
        assert list(store.entries("s", [])) == []

    def test_scopes_are_apart(self, store: ScheduleStore) -> None:
        """Scopes are apart."""
        store.put("s", [entry("a")])
        store.put("t", [entry("a", NOW + 5)])
        assert len(store.entries("s")) == len(store.entries("t")) == 1
        assert [found.next_at for found in store.due("s", NOW + 9, limit=9)] == [NOW]
        assert store.next_at("t", NOW) == NOW + 5
        assert store.remove("s", ["a"]) == 1
        assert len(store.entries("t")) == 1
        assert list(store.due("s", NOW + 9, limit=9)) == []

    def test_a_new_entry_never_takes_anothers_place(self, store: ScheduleStore) -> None:
        """A new entry never takes another's place."""
        assert list(store.put("s", [entry("a", runs=1)])) == []
        assert list(store.put("s", [entry("a", runs=2), entry("b")])) == ["a"]
        assert self.only(store).runs == 1
        assert self.only(store, "b").runs == 0

    def test_an_old_version_is_refused(self, store: ScheduleStore) -> None:
        """An old version is refused."""
        store.put("s", [entry("a")])
        first = self.only(store)
        assert list(store.put("s", [replace(first, spec=b"2")])) == []
        assert list(store.put("s", [replace(first, spec=b"3")])) == ["a"]
        assert self.only(store).spec == b"2"

    def test_what_was_removed_is_gone(self, store: ScheduleStore) -> None:
        """What was removed is gone, and made again it is another."""
        store.put("s", [entry("a"), entry("b")])
        old = self.only(store)
        assert store.remove("s", ["a", "x"]) == 1
        assert store.remove("s", ["a"]) == 0
        assert list(store.put("s", [replace(old, spec=b"2")])) == ["a"]
        assert list(store.put("s", [entry("a")])) == []
        assert list(store.sent("s", [tick_of(old, NOW + 1)])) == []
        assert self.only(store).next_at == NOW

    # -- ticks ----------------------------------------------------------------------------------

    def test_what_is_due_comes_by_time(self, store: ScheduleStore) -> None:
        """What is due comes by time."""
        store.put("s", [entry(str(n), NOW + n) for n in (3, 1, 2, 9)])
        assert [e.name for e in store.due("s", NOW + 3, limit=10)] == ["1", "2", "3"]
        assert [e.name for e in store.due("s", NOW + 3, limit=2)] == ["1", "2"]
        assert list(store.due("s", NOW + 0.999999, limit=10)) == []
        assert store.next_at("s", NOW + 3) == NOW + 9
        assert store.next_at("s", NOW + 9) is None

    def test_a_tick_moves_its_entry(self, store: ScheduleStore) -> None:
        """A tick moves its entry."""
        store.put("s", [entry("a", runs=4)])
        (found,) = store.due("s", NOW, limit=1)
        assert list(store.sent("s", [tick_of(found, NOW + 10)])) == ["a"]
        after = self.only(store)
        assert (after.next_at, after.last_at, after.runs) == (NOW + 10, NOW, 5)
        assert after.version > found.version
        assert list(store.due("s", NOW + 9, limit=1)) == []

    def test_a_tick_is_sent_once(self, store: ScheduleStore) -> None:
        """A tick is sent once, whoever saw it."""
        store.put("s", [entry("a")])
        one, two = store.due("s", NOW, limit=1)[0], store.due("s", NOW, limit=1)[0]
        assert list(store.sent("s", [tick_of(one, NOW + 10)])) == ["a"]
        assert list(store.sent("s", [tick_of(two, NOW + 20)])) == []
        assert self.only(store).next_at == NOW + 10
        assert self.only(store).runs == 1

    def test_a_change_meanwhile_wins(self, store: ScheduleStore) -> None:
        """A change meanwhile wins."""
        store.put("s", [entry("a")])
        (found,) = store.due("s", NOW, limit=1)
        store.put("s", [replace(found, paused=True, next_at=None)])
        assert list(store.sent("s", [tick_of(found, NOW + 10)])) == []
        assert self.only(store).paused

    def test_the_last_tick(self, store: ScheduleStore) -> None:
        """The last tick: none comes after it."""
        store.put("s", [entry("a")])
        (found,) = store.due("s", NOW, limit=1)
        store.sent("s", [tick_of(found, None)])
        assert self.only(store).next_at is None
        assert list(store.due("s", NOW + 1e9, limit=1)) == []

    def test_a_tick_and_its_messages_are_one_step(
        self, store: ScheduleStore, broker: Broker
    ) -> None:
        """A tick and its messages are one step."""
        if not store.publishes:
            pytest.skip("publishes nothing")
        store.put("s", [entry("a"), entry("b")])
        a, b = store.due("s", NOW, limit=2)
        messages = [Envelope(f"t{n}", "q", b"x", priority=n) for n in range(4)]
        assert list(store.sent("s", [tick_of(a, NOW + 1, *messages[:2])])) == ["a"]
        late = [tick_of(a, NOW + 1, messages[2]), tick_of(b, NOW + 1, messages[3])]
        assert list(store.sent("s", late)) == ["b"]
        consumer = broker.consume(["q"], owner="w", lease=30)
        found = [one.envelope.id for one in consumer.claim(9, wait=0)]
        assert sorted(found) == ["t0", "t1", "t3"]
        assert self.only(store).runs == 2
        consumer.close()

    def test_a_message_wakes_who_waits(self, store: ScheduleStore, broker: Broker) -> None:
        """A message of a tick wakes who waits."""
        if not store.publishes:
            pytest.skip("publishes nothing")
        consumer = broker.consume(["q"], owner="w", lease=30)
        found: list[float] = []

        def wait() -> None:
            if consumer.claim(1, wait=10):
                found.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        store.put("s", [entry("a")])
        (due,) = store.due("s", NOW, limit=1)
        began = time.monotonic()
        store.sent("s", [tick_of(due, None, Envelope("t", "q", b""))])
        thread.join(15)
        assert found and found[0] - began < 2
        consumer.close()

    def test_many(self, store: ScheduleStore) -> None:
        """Ten thousand entries."""
        names = [f"e{n:05}" for n in range(10_000)]
        assert list(store.put("s", [entry(name, NOW + n) for n, name in enumerate(names)])) == []
        found = store.due("s", NOW + 9_999, limit=1000)
        assert [one.name for one in found] == names[:1000]
        moved = store.sent("s", [tick_of(one, NOW + 20_000) for one in found])
        assert list(moved) == names[:1000]
        assert store.next_at("s", NOW + 999.5) == NOW + 1000
        assert len(store.entries("s")) == 10_000
        assert store.remove("s", names) == 10_000

    def test_many_at_once(self, store: ScheduleStore) -> None:
        """Many schedulers at once: each tick is one's."""
        store.put("s", [entry(f"e{n}") for n in range(50)])
        won: list[str] = []

        def race() -> None:
            while due := store.due("s", NOW + 2, limit=10):
                ticks = [tick_of(one, (one.next_at or 0) + 1) for one in due]
                won.extend(store.sent("s", ticks))

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(won) == sorted(f"e{n}" for n in range(50) for _ in range(3))
        assert {one.runs for one in store.entries("s")} == {3}

    # -- claims ---------------------------------------------------------------------------------

    def test_a_claim_keeps_others_away(self, store: ScheduleStore) -> None:
        """A claim keeps others away until the tick is sent."""
        store.put("s", [entry("a"), entry("b")])
        (a,) = store.due("s", NOW, limit=1, owner="x", lease=60)
        assert [e.name for e in store.due("s", NOW, limit=9, owner="y", lease=60)] == ["b"]
        assert [e.name for e in store.due("s", NOW, limit=1, owner="x", lease=60)] == ["a"]
        assert a.claimed == 0
        store.sent("s", [tick_of(a, NOW + 1)])
        (again,) = store.due("s", NOW + 1, limit=1, owner="z", lease=60)
        assert (again.name, again.claimed) == ("a", 0)

    def test_a_claim_ends(self, store: ScheduleStore) -> None:
        """A claim ends with its lease; who is next knows that there was one."""
        store.put("s", [entry("a")])
        store.due("s", NOW, limit=1, owner="x", lease=0.05)
        deadline = time.monotonic() + 10
        found: list[Entry] = []
        while not found and time.monotonic() < deadline:
            found += store.due("s", NOW, limit=1, owner="y", lease=60)
            time.sleep(0.01)
        assert found[0].claimed == 1
        assert list(store.sent("s", [tick_of(found[0], NOW + 1)])) == ["a"]
