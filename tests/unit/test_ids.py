"""Task ids: unique across threads and forks, ordered by time, of the right form."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.kernel.ids import child_id, uuid

FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_form_is_version_7() -> None:
    for _ in range(2_000):
        text = uuid()
        assert FORM.fullmatch(text)
        parsed = stdlib.UUID(text)
        assert parsed.version == 7
        assert parsed.variant == stdlib.RFC_4122
        assert str(parsed) == text


def test_every_random_bit_varies() -> None:
    ids = [stdlib.UUID(uuid()).int for _ in range(2_000)]
    ones, zeros = 0, 0
    for value in ids:
        ones |= value
        zeros |= ~value
    fixed = (0xF << 76) | (0x3 << 62)  # version and variant
    random_bits = ((1 << 80) - 1) & ~fixed
    assert ones & random_bits == random_bits
    assert zeros & random_bits == random_bits


def test_stamp_is_the_clock() -> None:
    before = time.time_ns() // 1_000_000
    text = uuid()
    after = time.time_ns() // 1_000_000
    assert before <= stdlib.UUID(text).int >> 80 <= after


def test_order_is_time() -> None:
    stamps = [uuid()[:13] for _ in range(20_000)]
    assert stamps == sorted(stamps)


def test_ids_do_not_run_ahead_of_the_clock() -> None:
    for _ in range(20_000):
        last = uuid()
    assert stdlib.UUID(last).int >> 80 <= time.time_ns() // 1_000_000


def test_unique_across_threads() -> None:
    found: list[list[str]] = [[] for _ in range(8)]
    together = threading.Barrier(len(found))

    def draw(into: list[str]) -> None:
        together.wait()
        into.extend(uuid() for _ in range(5_000))

    threads = [threading.Thread(target=draw, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [one for into in found for one in into]
    assert len(set(ids)) == len(ids) == 40_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_unique_across_forks() -> None:
    count = 500
    uuid()  # whatever is kept between calls exists before the fork
    pipes = []
    for _ in range(4):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(reader)
                with os.fdopen(writer, "w") as out:
                    out.write("\n".join(uuid() for _ in range(count)))
            finally:
                os._exit(0)
        os.close(writer)
        pipes.append((pid, reader))
    ids = [uuid() for _ in range(count)]
    for pid, reader in pipes:
        with os.fdopen(reader) as out:
            ids += out.read().split()
        assert os.waitpid(pid, 0)[1] == 0
    # The random part alone, too: equal bytes in two processes would show a millisecond apart.
    assert len({one[14:] for one in ids}) == len(ids) == 5 * count


@given(st.text(), st.text())
def test_child_id_is_the_same_each_time(parent: str, slot: str) -> None:
    assert child_id(parent, slot) == child_id(parent, slot)
    assert stdlib.UUID(child_id(parent, slot)).version == 5


def test_child_id_differs_by_parent_and_slot() -> None:
    parents = [uuid() for _ in range(50)]
    children = {child_id(parent, f"chain/{slot}") for parent in parents for slot in range(50)}
    assert len(children) == 2_500
