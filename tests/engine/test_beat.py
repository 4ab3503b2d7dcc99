"""Beat over a store in memory and a clock that the test moves: which ticks are sent, by how many beats."""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac import Celeriac
from celeriac.beat import Beat, Scheduler
from celeriac.beat.entries import BeatLazyFunc, read_entry, read_settings
from celeriac.beat.service import place_of, scope_of, store_of, ticker_of
from celeriac.beat.ticker import Ticker
from celeriac.beat.ticks import owed
from celeriac.drivers.memory import MemoryFamily
from celeriac.exceptions import AlreadyRegistered, ImproperlyConfigured, NotRegistered
from celeriac.kernel.clock import ManualClock
from celeriac.kernel.errors import BrokerUnavailable
from celeriac.kernel.wire import unpack
from celeriac.schedules import BaseSchedule, cron, crontab, schedstate, schedule
from celeriac.signals import after_task_publish, before_task_publish
from celeriac.testing.faults import FlakyBroker

START = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC).timestamp()
"""A Monday."""


class Skewed:
    """A clock that is ahead of another."""

    def __init__(self, clock: ManualClock, ahead: float) -> None:
        self._clock, self._ahead = clock, ahead

    def time(self) -> float:
        return self._clock.time() + self._ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()


class House:
    """A world in memory, its clock, and any number of beats of one program."""

    def __init__(self, program: Callable[[Celeriac], None]) -> None:
        self.clock = ManualClock(START)
        self.family = MemoryFamily("memory://", {"private": True, "clock": self.clock})
        self.program = program
        self.apps: list[Celeriac] = []
        self._stack: list[Any] = []

    def app(self, ahead: float = 0.0, family: Any = None) -> Celeriac:
        """Return the program in another process."""
        app = Celeriac("proj", set_as_current=False)
        stand_in = app.standing_in(family or self.family, clock=Skewed(self.clock, ahead))
        stand_in.__enter__()
        self._stack.append(stand_in)
        self.program(app)
        return app

    def beat(self, ahead: float = 0.0, *, joined: bool = True, family: Any = None) -> Ticker:
        """Start a beat."""
        app = self.app(ahead, family)
        ticker = Ticker(
            app, scope_of(app), read_settings(app), self.family.schedules(), joined=joined
        )
        ticker.sync()
        return ticker

    def sent(self) -> list[tuple[str, float]]:
        """Take what was sent: entry and unix seconds of the tick."""
        consumer = self.family.broker().consume(["celery"], owner="test", lease=1e9)
        found = []
        while got := consumer.claim(1000, wait=0):
            for delivery in got:
                head, _ = unpack(delivery.envelope.body)
                when = dt.datetime.fromisoformat(head.extra["scheduled_for"]).timestamp()
                found.append((head.extra["periodic_task_name"], when))
        return found

    def close(self) -> None:
        for stand_in in reversed(self._stack):
            stand_in.__exit__(None, None, None)


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**entries: Any) -> House:
        def program(app: Celeriac) -> None:
            app.conf.beat_schedule.update(
                {name: {"task": "proj.t", **parts} for name, parts in entries.items()}
            )

        made.append(House(program))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_interval(house: Any) -> None:
    h = house(a={"schedule": 10})
    beat = h.beat()
    assert beat.tick() == 10
    h.clock.advance(9)
    assert beat.tick() == 1
    assert h.sent() == []
    h.clock.advance(1)
    assert beat.tick() == 10
    assert beat.tick() == 10
    assert h.sent() == [("a", START + 10)]


def test_what_is_sent_is_the_call(house: Any) -> None:
    h = house(
        a={
            "schedule": dt.timedelta(seconds=10),
            "args": (1, BeatLazyFunc(lambda: 2)),
            "kwargs": {"x": 3},
            "options": {"queue": "other", "priority": 7, "headers": {"mine": 1}, "expires": 60},
        }
    )
    beat = h.beat()
    h.clock.advance(10)
    beat.tick()
    (delivery,) = h.family.broker().consume(["other"], owner="t", lease=9).claim(9, wait=0)
    head, payload = unpack(delivery.envelope.body)
    assert head.task == "proj.t"
    assert b'[[1,2],{"x":3}' in payload
    assert head.extra["mine"] == 1
    assert delivery.envelope.priority == 7
    assert delivery.envelope.expires_at == START + 70


def test_a_task_that_is_known_is_asked_to_send(house: Any) -> None:
    h = house(a={"schedule": 10})
    calls = []

    def program(app: Celeriac) -> None:
        @app.task(name="proj.t", queue="mine")
        def t() -> None: ...

        send = t.apply_async
        t.apply_async = lambda *a, **k: calls.append(k["task_id"]) or send(*a, **k)
        app.conf.beat_schedule["a"] = {"task": t, "schedule": 10}

    h.program = program
    beat = h.beat()
    h.clock.advance(10)
    beat.tick()
    assert h.family.broker().count(["mine"])["mine"].ready == len(calls) == 1


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("once", [START + 600, START + 4200]),
        ("skip", [START + 3600, START + 4200]),
        ("all", [START + 600 * n for n in range(1, 8)]),
    ],
)
@pytest.mark.parametrize("kind", ["interval", "crontab"])
def test_an_hour_stopped(house: Any, misfire: str, expected: list[float], kind: str) -> None:
    when = 600 if kind == "interval" else crontab(minute="*/10")
    h = house(a={"schedule": when, "misfire": misfire})
    h.beat()
    h.clock.advance(3630)
    beat = h.beat()  # another process, an hour later
    assert beat.tick() == 570
    h.clock.advance(600)
    beat.tick()
    assert [at for _, at in h.sent()] == expected


def test_a_late_tick_is_skipped(house: Any) -> None:
    h = house(
        a={"schedule": 3600, "misfire": "skip"},
        b={"schedule": 3600, "misfire": "skip", "grace": 300},
        c={"schedule": crontab(minute=0)},
    )
    beat = h.beat()
    h.clock.advance(3700)
    assert beat.tick() == 3500
    assert sorted(name for name, _ in h.sent()) == ["b", "c"]


def test_starting_deadline(house: Any) -> None:
    h = house(a={"schedule": crontab(minute=0)}, b={"schedule": 3600})
    program = h.program

    def with_deadline(app: Celeriac) -> None:
        app.conf.beat_cron_starting_deadline = 50
        program(app)

    h.program = with_deadline
    beat = h.beat()
    h.clock.advance(3700)
    beat.tick()
    assert [name for name, _ in h.sent()] == ["b"]


@pytest.mark.parametrize("joined", [True, False])
def test_many_beats_whose_clocks_differ(house: Any, joined: bool) -> None:
    h = house(a={"schedule": 1}, b={"schedule": 7}, c={"schedule": crontab()})
    choice = random.Random(7)
    beats = [h.beat(ahead, joined=joined) for ahead in (0, 30, -30, 0.4, 11)]
    for _ in range(600):
        h.clock.advance(choice.random())
        choice.shuffle(beats)
        for beat in beats:
            beat.tick()
    sent = Counter(h.sent())
    assert set(sent.values()) == {1}
    until = h.clock.time()
    for name, step in (("b", 7), ("c", 60)):
        ticks = sorted(at for own, at in sent if own == name)
        assert ticks == [ticks[0] + step * n for n in range(len(ticks))]
        assert until - step < ticks[-1] <= until


class Dies(Exception):
    """kill -9, as far as the store can see."""


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("joined", [True, False])
def test_a_beat_killed_at_any_step(joined: bool, data: Any) -> None:
    """Beats die before and after any of their calls; others go on: every tick is sent once."""

    def program(app: Celeriac) -> None:
        app.conf.beat_schedule["a"] = {"task": "proj.t", "schedule": 5, "misfire": "all"}
        app.conf.beat_schedule["b"] = {"task": "proj.t", "schedule": 3, "misfire": "all"}

    h = House(program)
    try:
        store = h.family.schedules()
        dying = {"in": 0}

        class Mortal:
            publishes = True

            def __getattr__(self, name: str) -> Any:
                real = getattr(store, name)
                if name not in ("due", "sent", "next_at"):
                    return real

                def call(*args: Any, **kwargs: Any) -> Any:
                    step()
                    found = real(*args, **kwargs)
                    step()
                    return found

                return call

        def step() -> None:
            dying["in"] -= 1
            if dying["in"] == 0:
                raise Dies

        def mortal() -> Ticker:
            app = h.app()
            publish = app.send_envelopes

            def dies(envelopes: Any) -> None:
                step()
                publish(envelopes)
                step()

            app.send_envelopes = dies  # type: ignore[method-assign]
            beat = Ticker(app, "proj", read_settings(app), Mortal(), joined=joined)  # type: ignore[arg-type]
            beat.sync()
            return beat

        beats = [mortal(), mortal()]
        for _ in range(data.draw(st.integers(3, 15))):
            h.clock.advance(data.draw(st.floats(0.1, 20)))
            index = data.draw(st.integers(0, 1))
            dying["in"] = data.draw(st.integers(0, 12))
            try:
                beats[index].tick()
            except Dies:
                dying["in"] = 0
                beats[index] = mortal()
        dying["in"] = 0
        h.clock.advance(31)  # the claims of the dead end
        beats[0].tick()
        sent = Counter(h.sent())
        assert set(sent.values()) == {1}
        for name, every in (("a", 5), ("b", 3)):
            ticks = sorted(at for own, at in sent if own == name)
            assert ticks == [START + every * n for n in range(1, len(ticks) + 1)]
            assert ticks[-1] > h.clock.time() - every
    finally:
        h.close()


def test_a_clock_that_goes_back(house: Any) -> None:
    h = house(a={"schedule": 10})
    beat = h.beat()
    h.clock.advance(3600)
    beat.tick()
    h.clock._now -= 3600
    sent = h.sent()
    for _ in range(400):
        h.clock.advance(10)
        beat.tick()
    after = h.sent()
    assert len(set(sent + after)) == len(sent + after)
    assert min(at for _, at in after) > max(at for _, at in sent)


# -- what is wrong -----------------------------------------------------------------------------------


def test_what_is_wrong_does_not_keep_the_others_out(house: Any, caplog: Any) -> None:
    class Broken(BaseSchedule):
        def is_due(self, last_run_at: Any) -> Any:
            raise ValueError("broken")

    h = house(
        a={"schedule": 10},
        b={"schedule": "soon"},
        c={"schedule": 10, "args": "abc"},
        d={"schedule": 10, "optoins": {}},
        e={"schedule": -1},
        f={"schedule": 10, "task": None},
        g={"schedule": 10, "options": {"no_such_option": 1}},
        h={"schedule": 10, "args": (object(),)},
        i={"schedule": Broken()},
        j={"schedule": 10, "timezone": "Mars/Olympus"},
        k={"schedule": 10, "misfire": "never"},
        z={"schedule": 10},
    )
    beat = h.beat()
    for _ in range(3):
        h.clock.advance(10)
        beat.tick()
    assert Counter(name for name, _ in h.sent()) == {"a": 3, "z": 3}
    said = "\n".join(record.getMessage() for record in caplog.records)
    for name in "bcdefghijk":
        assert f"'{name}'" in said


def test_stored_rubbish_does_not_keep_the_others_out(house: Any, caplog: Any) -> None:
    from celeriac.ports.schedules import Entry

    h = house(a={"schedule": 10})
    store = h.family.schedules()
    store.put("proj", [Entry(f"x{n:03}", b"rubbish", START) for n in range(450)])
    beat = h.beat()
    for _ in range(4):
        h.clock.advance(10)
        beat.tick()
    assert [name for name, _ in h.sent()][-1] == "a"
    assert len([r for r in caplog.records if "x000" in r.getMessage()]) == 1


def test_the_broker_is_away(house: Any) -> None:
    h = house(a={"schedule": 10})
    app_family = h.family
    beat = h.beat(joined=False)
    flaky = FlakyBroker(app_family.broker())
    beat.app._broker = flaky  # type: ignore[assignment]
    beat.app.conf.task_publish_retry = False
    flaky.down()
    h.clock.advance(10)
    with pytest.raises(BrokerUnavailable):
        beat.tick()
    flaky.up()
    h.clock.advance(1)
    beat.tick()
    assert h.sent() == [("a", START + 10)]


# -- schedules of one's own --------------------------------------------------------------------------


def test_own_schedules(house: Any) -> None:
    class Estimates(BaseSchedule):
        """Celery's way: from now until then."""

        def remaining_estimate(self, last_run_at: dt.datetime) -> dt.timedelta:
            return last_run_at + dt.timedelta(seconds=4) - self.now()

    class Asked(BaseSchedule):
        def is_due(self, last_run_at: dt.datetime) -> Any:
            return schedstate(self.now().timestamp() >= START + 6, 2.0)

    class NotOnTuesday(crontab):
        def is_due(self, last_run_at: dt.datetime) -> Any:
            due, left = super().is_due(last_run_at)
            return schedstate(due and self.now().weekday() != 1, left)

    class After(BaseSchedule):
        def next_after(self, instant: float) -> float | None:
            return instant + 3 if instant < START + 6 else None

    h = house(
        e={"schedule": Estimates()},
        a={"schedule": Asked()},
        n={"schedule": After()},
        t={"schedule": NotOnTuesday(0, "*/6")},
    )
    beat = h.beat()
    for _ in range(12):
        h.clock.advance(1)
        beat.tick()
    found = h.sent()
    assert [at - START for name, at in found if name == "e"] == pytest.approx([4, 8, 12])
    assert [at - START for name, at in found if name == "a"] == pytest.approx([7, 9, 11])
    assert [at - START for name, at in found if name == "n"] == [3, 6]
    for _ in range(3 * 24 * 60):
        h.clock.advance(60)
        beat.tick()
    days = Counter(
        dt.datetime.fromtimestamp(at, dt.UTC).weekday() for name, at in h.sent() if name == "t"
    )
    assert days[1] == 0
    assert days[2] == 4


# -- code and store ----------------------------------------------------------------------------------


def test_code_and_store(house: Any) -> None:
    h = house(a={"schedule": 10}, b={"schedule": 10})
    h.beat()
    api = h.app().schedules
    assert [(e.name, e.from_code) for e in api.list()] == [("a", True), ("b", True)]
    api.add("mine", task="proj.t", schedule=crontab(hour=4, timezone="Europe/Berlin"))
    h.clock.advance(5)
    h.program = lambda app: app.conf.beat_schedule.update(
        a={"task": "proj.t", "schedule": 10}, c={"task": "proj.t", "schedule": 30}
    )
    h.beat()
    assert [e.name for e in api.list()] == ["a", "c", "mine"]
    assert api.get("a").next_at.timestamp() == START + 10
    assert api.get("c").next_at.timestamp() == START + 35
    assert api.get("mine").schedule == "* 4 * * * Europe/Berlin"


def test_another_program_is_left_alone(house: Any) -> None:
    h = house(a={"schedule": 10})
    h.beat()
    other = Celeriac("other", set_as_current=False)
    with other.standing_in(h.family, clock=h.clock):
        Ticker(other, "other", {}, h.family.schedules(), joined=True).sync()
    assert h.app().schedules.get("a")


def test_changes_while_beat_runs(house: Any) -> None:
    h = house(a={"schedule": 10})
    beat = h.beat()
    api = h.app().schedules
    api.add("b", task="proj.t", schedule=5, args=[1])
    with pytest.raises(AlreadyRegistered):
        api.add("b", task="proj.t", schedule=5)
    with pytest.raises(ImproperlyConfigured, match="soon"):
        api.add("c", task="proj.t", schedule="soon")
    with pytest.raises(NotRegistered):
        api.pause("nobody")
    h.clock.advance(5)
    beat.tick()
    api.change("b", schedule=2)
    api.pause("a")
    h.clock.advance(5)
    beat.tick()
    assert h.sent() == [("b", START + 5), ("b", START + 7)]
    h.clock.advance(3600)
    api.remove("b")
    api.resume("a")
    beat.tick()
    assert h.sent() == []
    assert api.get("a").next_at.timestamp() == h.clock.time() + 10
    h.clock.advance(10)
    beat.tick()
    assert [name for name, _ in h.sent()] == ["a"]


def test_an_edit_of_the_programs_own_stays(house: Any) -> None:
    h = house(a={"schedule": 10}, b={"schedule": 10})
    h.beat()
    h.app().schedules.change("a", schedule=20, args=[7])
    h.app().schedules.pause("b")
    h.beat()
    api = h.app().schedules
    assert api.get("a").schedule == "every 20 s"
    assert api.get("b").paused
    h.program = lambda app: app.conf.beat_schedule.update(
        a={"task": "proj.t", "schedule": 30}, b={"task": "proj.t", "schedule": 11}
    )
    h.beat()
    assert api.get("a").schedule == "every 30 s"
    assert api.get("b").paused
    assert api.get("b").schedule == "every 11 s"


def test_run_now(house: Any) -> None:
    h = house(a={"schedule": 1000})
    h.beat()
    result = h.app().schedules.run("a")
    assert h.family.broker().count(["celery"])["celery"].ready == 1
    assert result.id
    assert h.app().schedules.get("a").runs == 0


def test_a_change_beside_ticks_doubles_none(house: Any) -> None:
    h = house(a={"schedule": 1, "misfire": "all"})
    beat = h.beat()
    api = h.app().schedules
    read = api._entry

    def slow(name: str) -> Any:
        found = read(name)
        beat.tick()  # between the reading and the writing of the change
        return found

    api._entry = slow
    for n in range(20):
        h.clock.advance(1)
        api.change("a", args=[n])
    sent = h.sent()
    assert sorted(at for _, at in sent) == [START + n for n in range(1, 21)]


# -- pure --------------------------------------------------------------------------------------------


@given(
    st.floats(0.05, 90_000),
    st.floats(0, 1e6),
    st.sampled_from(["once", "skip", "all"]),
    st.floats(0, 100),
)
def test_what_is_owed(every: float, late: float, misfire: str, grace: float) -> None:
    late = min(late, every * 300)
    found = owed(schedule(every), START, START + late, misfire, grace)
    assert found.next_at is not None
    assert all(START <= at <= START + late for at in found.ticks)
    assert list(found.ticks) == sorted(set(found.ticks))
    assert found.next_at > START + late
    assert found.next_at <= START + late + every * 1.001
    steps = (found.next_at - START) / every
    assert steps == pytest.approx(round(steps), abs=1e-3)
    if misfire == "once":
        assert found.ticks == (START,)
    if misfire == "skip":
        assert len(found.ticks) <= 1
        assert all(START + late - at <= max(grace, 0) + 1e-6 for at in found.ticks)
    if misfire == "all":
        assert len(found.ticks) == pytest.approx(late / every + 1, abs=1.01)


def test_time_zones(app: Celeriac) -> None:
    app.conf.timezone = "America/New_York"

    def first(**parts: Any) -> dt.datetime:
        item = read_entry(app, "e", {"task": "t", **parts})
        found = item.schedule.next_after(START)
        assert found is not None
        return dt.datetime.fromtimestamp(found, dt.UTC)

    at_four = crontab(0, 4)
    assert first(schedule=at_four).hour == 9
    assert first(schedule=at_four, timezone="Asia/Kathmandu").minute == 15
    assert first(schedule=crontab(0, 4, timezone="Europe/Berlin")).hour == 3
    assert first(schedule=cron("0 4 * * *")).hour == 9
    assert at_four.timezone is None


def test_add_periodic_task(app: Celeriac) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    name = app.add_periodic_task(10, add.s(1, 2), expires=5, misfire="skip")
    app.add_periodic_task(crontab(hour=7), add.s(), args=(3, 4), name="other")
    assert "add" in name
    found = read_settings(app)
    assert found[name].args == (1, 2)
    assert found[name].options["expires"] == 5
    assert found[name].misfire == "skip"
    assert found["other"].args == (3, 4)
    app.conf.beat_schedule["third"] = {"task": "x", "schedule": 1}
    assert len(read_settings(app)) == 3


def test_relative_intervals(caplog: Any) -> None:
    hourly = schedule(3600, relative=True)
    assert hourly.next_after(START + 1234) == START + 3600
    assert hourly.next_after(START) == START + 3600
    with caplog.at_level(logging.WARNING):
        assert schedule(90).next_after(START) == START + 90


def test_when_the_program_is_ready(app: Celeriac) -> None:
    """Receivers may add tasks that are declared below them, and are called once."""
    called = []

    @app.on_after_configure.connect
    def configure(sender: Celeriac, source: Any, **kwargs: Any) -> None:
        called.append("configure")
        assert source is sender.conf
        sender.add_periodic_task(10, late.s("x"), name="late")

    @app.on_after_finalize.connect
    def finalize(sender: Celeriac, **kwargs: Any) -> None:
        called.append("finalize")
        sender.add_periodic_task(crontab(hour=7), late.s("y"), name="later")

    @app.task
    def late(word: str) -> str:
        return word

    assert app.conf.task_default_queue == "celery"
    app.import_modules()
    app.import_modules()
    assert called == ["configure", "finalize"]
    assert sorted(read_settings(app)) == ["late", "later"]


@pytest.mark.parametrize("joined", [True, False])
def test_signals_of_what_is_sent(house: Any, joined: bool) -> None:
    h = house(a={"schedule": 10})
    seen = []

    def before(sender: str, headers: Any, **kwargs: Any) -> None:
        seen.append("before")
        headers["traced"] = "yes"

    def after(sender: str, headers: Any, **kwargs: Any) -> None:
        seen.append("after")

    before_task_publish.connect(before)
    after_task_publish.connect(after)
    try:
        beat = h.beat(joined=joined)
        h.clock.advance(10)
        beat.tick()
    finally:
        before_task_publish.disconnect(before)
        after_task_publish.disconnect(after)
    assert seen == ["before", "after"]


def test_a_scheduler_of_celerys_kind(app: Celeriac, caplog: Any) -> None:
    clock = ManualClock(START)
    family = MemoryFamily("memory://", {"private": True, "clock": clock})
    synced = []

    class Own(Scheduler):
        def sync(self) -> None:
            synced.append(clock.time())

        def setup_schedule(self) -> None:
            super().setup_schedule()
            self.add(name="own", task="proj.own", schedule=7)

    app.conf.beat_schedule.update(
        a={"task": "proj.t", "schedule": 10, "args": (1,)}, bad={"task": "x", "schedule": "no"}
    )
    with app.standing_in(family, clock=clock):
        made = Own(app=app, max_interval=60)
        assert made.tick() == 7
        for _ in range(20):
            clock.advance(1)
            made.tick()
        assert app.broker.count(["celery"])["celery"].ready == 4
        assert made.schedule["a"].total_run_count == 2
        clock.advance(200)
        made.tick()
        made.merge_inplace({"a": {"task": "proj.t", "schedule": 20}})
        assert list(made.schedule) == ["a"]
        assert made.schedule["a"].total_run_count == 3
        made.close()
    assert len(synced) == 2
    assert "bad" in caplog.text


def test_which_scheduler(app: Celeriac) -> None:
    assert Beat(app)._scheduler is None
    assert Beat(app, scheduler="celeriac.beat:PersistentScheduler")._scheduler is None
    assert Beat(app, scheduler="celeriac.beat:Scheduler")._scheduler is Scheduler


def test_where_the_broker_keeps_no_schedule(tmp_path: Path, caplog: Any) -> None:
    """Entries are beside the results, which the beats of two machines share; else in a file."""
    results = f"sqlite:///{tmp_path}/results.db"
    amqp = "amqp://guest@127.0.0.1:1//"  # nobody is asked there
    with Celeriac("proj", broker=amqp, backend=results, set_as_current=False) as app:
        store, joined = store_of(app)
        assert (store.publishes, joined) == (True, False)
        assert place_of(app) == results
        app.conf.beat_schedule = {"each": {"task": "t", "schedule": 60.0}}
        ticker_of(app).sync()
        assert [entry.name for entry in store.entries("proj")] == ["each"]
        assert [entry.name for entry in app.schedules] == ["each"]
        assert "share" not in caplog.text
        file = tmp_path / "own.db"
        app.conf.beat_schedule_filename = str(file)
        assert place_of(app).startswith(str(file))
        assert store_of(app)[0].entries("proj") == []
        assert "which all beats of this program must share" in caplog.text
    with Celeriac("proj", broker=amqp, backend="rpc://", set_as_current=False) as app:
        assert "a file that all beats must share" in place_of(app)
