"""Workers on RabbitMQ and the queues that they take from: -Q, -X, add_consumer, copies for everyone."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.rabbitmq import RabbitMQ

from celeriac import Celeriac, Exchange, Queue, binding
from celeriac.kombu import Broadcast
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker

amqp = pytest.importorskip("celeriac.drivers.amqp")

pytestmark = pytest.mark.timeout(60)

Make = Callable[..., Celeriac]


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture
def make(rabbitmq: RabbitMQ) -> Iterator[Make]:
    """Make apps whose task `note` keeps what it is given in the list `app.noted`."""
    made: list[Celeriac] = []

    def make(**settings: Any) -> Celeriac:
        app = Celeriac(
            "t", broker=rabbitmq.url, backend="disabled", set_as_current=False, **settings
        )
        noted: list[Any] = []

        @app.task(name="note")
        def note(what: Any) -> None:
            noted.append(what)

        app.noted = noted  # type: ignore[attr-defined]
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def ready(app: Celeriac, name: str) -> int:
    return app.broker.count([name])[name].ready


def test_queues_come_and_go(make: Make, tag: str) -> None:
    first, more, media = f"first-{tag}", f"more-{tag}", f"media-{tag}"
    app = make(task_default_queue=first)
    with running_worker(app, in_memory=False) as worker:

        def ask(command: str, **arguments: Any) -> Any:
            answer = app.control.broadcast(
                command, arguments, [worker.hostname], reply=True, timeout=10, limit=1
            )
            return answer[0][worker.hostname]

        said = ask(
            "add_consumer",
            queue=more,
            exchange=media,
            exchange_type="topic",
            routing_key="video.#",
            queue_arguments={"x-max-priority": 3},
        )
        assert said == {"ok": f"add consumer {more}"}
        app.send_task("note", (1,), exchange=media, routing_key="video.encode")
        app.send_task("note", (2,), queue=more)
        app.send_task("note", (3,))
        eventually(lambda: sorted(app.noted) == [1, 2, 3], within=20)
        found = {one["name"]: one for one in ask("active_queues")}
        assert found[more]["exchange"]["type"] == "topic"
        assert ask("cancel_consumer", queue=more) == {"ok": f"no longer consuming from {more}"}
        app.send_task("note", (4,), queue=more)
        app.send_task("note", (5,))
        eventually(lambda: 5 in app.noted, within=20)
        assert ready(app, more) == 1
        # What cannot be is an answer, and the worker goes on.
        other = {"x-max-priority": 9}
        assert "x-max-priority" in ask("add_consumer", queue=more, queue_arguments=other)["error"]
        app.send_task("note", (6,))
        eventually(lambda: 6 in app.noted, within=20)
        assert ready(app, more) == 1


@pytest.mark.parametrize("options", [{"queues": "b-%s"}, {"exclude_queues": "a-%s,c-%s"}])
def test_some_of_the_queues(make: Make, tag: str, options: dict[str, str]) -> None:
    names = [f"{letter}-{tag}" for letter in "abc"]
    app = make(task_queues=[Queue(name) for name in names], task_default_queue=names[0])
    for name in names:
        app.send_task("note", (name,), queue=name)
    chosen = {key: value.replace("%s", tag) for key, value in options.items()}
    with running_worker(app, in_memory=False, **chosen):
        eventually(lambda: app.noted == [names[1]], within=20)
    assert [ready(app, name) for name in names] == [1, 0, 1]


def test_a_copy_for_each_worker(make: Make, tag: str) -> None:
    apps = [
        make(
            task_queues=[Queue(f"own-{tag}"), Broadcast(f"news-{tag}")],
            task_default_queue=f"own-{tag}",
            task_routes={"note": {"exchange": f"news-{tag}"}},
        )
        for _ in range(2)
    ]
    with (
        running_worker(apps[0], in_memory=False, hostname=f"one@{tag}"),
        running_worker(apps[1], in_memory=False, hostname=f"two@{tag}"),
    ):
        apps[0].send_task("note", ("all of you",))
        eventually(lambda: all(app.noted == ["all of you"] for app in apps), within=20)


def test_kombus_own_objects(make: Make, tag: str) -> None:
    kombu = pytest.importorskip("kombu")
    media = kombu.Exchange(f"media-{tag}", type="topic")
    app = make(
        task_queues=[
            kombu.Queue(f"video-{tag}", media, routing_key="video.#", max_priority=5),
            kombu.Queue(
                f"rest-{tag}", [kombu.binding(media, "image.*"), kombu.binding(media, "x")]
            ),
        ],
        task_default_queue=f"video-{tag}",
        task_default_exchange=media.name,
        task_default_exchange_type="topic",
    )
    with running_worker(app, in_memory=False):
        for key in ("video.encode", "image.scale", "x"):
            app.send_task("note", (key,), exchange=media.name, routing_key=key)
        eventually(lambda: set(app.noted) == {"video.encode", "image.scale", "x"}, within=20)
    arguments = app.broker.topology.arguments(f"video-{tag}")  # type: ignore[attr-defined]
    assert arguments == {"x-max-priority": 5}


def test_a_quorum_queue_that_others_made(make: Make, tag: str) -> None:
    """Nobody told this worker of what type it is; how much may be pushed is asked in another way."""
    name, known = f"quorum-{tag}", f"classic-{tag}"
    maker = make(
        task_queues=[Queue(name, queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue=name,
    )
    maker.send_task("note", (1,))
    app = make(task_default_queue=known)
    with running_worker(app, in_memory=False, queues=[known, name]) as worker:
        eventually(lambda: app.noted == [1], within=20)
        app.send_task("note", (2,), queue=known)
        maker.send_task("note", (3,))
        eventually(lambda: sorted(app.noted) == [1, 2, 3], within=20)
        eventually(lambda: not worker.held.all())
    assert [ready(app, one) for one in (name, known)] == [0, 0]


def test_a_quorum_queue_more(make: Make, tag: str) -> None:
    """One that joins classic queues while a task runs, which is kept and not run twice."""
    first, more = f"classic-{tag}", f"quorum-{tag}"
    app = make(task_default_queue=first)
    gate, runs = threading.Event(), list[int]()

    @app.task(name="hold", acks_late=True)
    def hold(number: int) -> None:
        runs.append(number)
        gate.wait(30)

    with running_worker(app, in_memory=False) as worker:
        app.send_task("hold", (1,))
        eventually(lambda: runs == [1], within=20)
        quorum = {"x-queue-type": "quorum"}
        app.control.add_consumer(more, options={"queue_arguments": quorum})
        eventually(lambda: len(worker.queues) == 2, within=20)
        epoch = worker._consumer._epoch  # type: ignore[union-attr]
        app.send_task("note", (2,), queue=more)
        app.send_task("note", (3,))
        eventually(lambda: sorted(app.noted) == [2, 3], within=20)
        gate.set()
        eventually(lambda: not worker.held.all(), within=20)
        # Over the same connection: otherwise another worker could have got what runs here.
        assert worker._consumer._epoch == epoch == 1  # type: ignore[union-attr]
    assert runs == [1]
    assert [ready(app, one) for one in (first, more)] == [0, 0]


def test_a_route_of_every_kind(make: Make, tag: str) -> None:
    media = Exchange(f"media-{tag}", "topic")

    class Classes:
        def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
            return {"queue": f"class-{tag}"} if task == "of.class" else None

    def function(
        name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any
    ) -> Any:
        return f"function-{tag}" if name == "of.function" else None

    app = make(
        task_queues=[Queue(f"topic-{tag}", [binding(media, "t.#")]), Queue(f"default-{tag}")],
        task_default_queue=f"default-{tag}",
        task_routes=(
            {
                "of.name": {"queue": f"name-{tag}"},
                "glob.*": {"queue": f"glob-{tag}"},
                re.compile(r"regex\.\d+"): {"queue": f"regex-{tag}"},
                "of.topic": {"exchange": media.name, "routing_key": "t.x"},
            },
            [("of.list", {"queue": f"list-{tag}"})],
            function,
            Classes(),
        ),
    )
    for task in ("name", "topic", "list", "function", "class"):
        app.send_task(f"of.{task}")
    for task in ("glob.any", "regex.17", "regex.x"):
        app.send_task(task)
    names = ("name", "topic", "list", "function", "class", "glob", "regex", "default")
    assert [ready(app, f"{one}-{tag}") for one in names] == [1] * 8
