"""RabbitMQ over TLS: with the right certificates all works, with wrong ones the error says which."""

from __future__ import annotations

import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, ImproperlyConfigured
from tests.support.certificates import Certificates, certificates
from tests.support.rabbitmq import RabbitMQ

amqp = pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]


@pytest.fixture
def tls(rabbitmq: RabbitMQ) -> Certificates:
    """Return what the server trusts, and shows."""
    if rabbitmq.tls is None:
        pytest.skip("openssl is not installed")
    return rabbitmq.tls


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    return f"amqps://guest:guest@127.0.0.1:{rabbitmq.tls_port}//"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make certificates of an authority that the server does not know."""
    return certificates(tmp_path_factory.mktemp("strangers"))


NOT_OURS = (BrokerRejected, BrokerUnavailable)
"""Our certificate is looked at when the handshake has ended for us: the alert that says so may come
before what we write is refused, or after."""


def refused(url: str, kind: type[Exception] | tuple[type[Exception], ...], **options: Any) -> str:
    """Return how a connection is refused, which takes not long and tells no password."""
    began = time.monotonic()
    family = amqp.AMQPFamily(url.replace("guest@", "s3cret@"), {"publish_timeout": 10, **options})
    try:
        with pytest.raises(kind) as caught:
            family.broker().open()
    finally:
        family.close()
    assert time.monotonic() - began < 15
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def app(url: str, tls: Certificates) -> Iterator[Celeriac]:
    app = Celeriac(
        "t",
        broker=url,
        backend="rpc://",
        broker_use_ssl={
            "ca_certs": str(tls.authority),
            "certfile": str(tls.certificate),
            "keyfile": str(tls.key),
            "cert_reqs": ssl.CERT_REQUIRED,
        },
        task_default_queue=f"tls-{uuid.uuid4().hex[:8]}",
        set_as_current=False,
    )
    yield app
    app.close()


def test_tasks_and_results_over_tls(rabbitmq: RabbitMQ, app: Celeriac) -> None:
    @app.task(name="tls.length")
    def length(text: str) -> int:
        return len(text)

    worker = app.Worker(pool="threads", concurrency=2)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    try:
        assert worker.ready.wait(30)
        # Larger than a record of TLS and a frame of AMQP.
        results = [length.delay("x" * size) for size in (1, 20_000, 300_000)]
        assert [one.get(timeout=30) for one in results] == [1, 20_000, 300_000]
        answers = app.control.ping(timeout=5, limit=1)
        assert answers == [{worker.hostname: {"ok": "pong"}}]
        ours = rabbitmq.ctl("list_connections", "ssl", "client_properties").splitlines()
        assert {line.split()[0] for line in ours if "celeriac" in line} == {"true"}
    finally:
        worker.stop()
        thread.join(30)


def test_an_authority_that_nobody_named(url: str, tls: Certificates) -> None:
    assert "certificate is not trusted" in refused(url, BrokerRejected)


def test_another_authority(url: str, tls: Certificates, strangers: Certificates) -> None:
    said = refused(url, BrokerRejected, ca_certs=str(strangers.authority))
    assert "certificate is not trusted" in said
    assert "ca_certs" in said


def test_another_host(url: str, tls: Certificates) -> None:
    said = refused(
        url, BrokerRejected, ca_certs=str(tls.authority), server_hostname="elsewhere.example"
    )
    assert "elsewhere.example" in said


def test_no_certificate_of_ones_own(url: str, tls: Certificates) -> None:
    said = refused(url, NOT_OURS, ca_certs=str(tls.authority))
    assert "certfile" in said


def test_a_certificate_of_strangers(url: str, tls: Certificates, strangers: Certificates) -> None:
    own = {"certfile": str(strangers.certificate), "keyfile": str(strangers.key)}
    said = refused(url, NOT_OURS, ca_certs=str(tls.authority), **own)
    assert "certfile" in said


def test_a_file_that_is_not_there(url: str, tls: Certificates, tmp_path: Path) -> None:
    said = refused(url, ImproperlyConfigured, ca_certs=str(tmp_path / "none.pem"))
    assert "cannot be read" in said


def test_tls_where_none_is_spoken(rabbitmq: RabbitMQ, tls: Certificates) -> None:
    plain = rabbitmq.url.replace("amqp:", "amqps:")
    assert "amqp://" in refused(plain, BrokerRejected, ca_certs=str(tls.authority))


def test_no_tls_where_it_is_spoken(url: str, tls: Certificates) -> None:
    assert "amqps://" in refused(url.replace("amqps:", "amqp:"), BrokerUnavailable)
