"""A user's program, as a type checker sees it; read by test_types.py, never run.

`# E: text` marks a line on which mypy must report an error with that text, `# R: type` one whose
`reveal_type` must say so.  No other line may have an error.
"""

from __future__ import annotations

from typing import Any, reveal_type

from celeriac import AsyncResult, Celeriac, Task, shared_task

app = Celeriac("proj", broker="memory://")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="named", max_retries=3)
def named(text: str, *, times: int = 1) -> list[str]:
    return [text] * times


@app.task(bind=True)
def bound(self: Task[..., Any], x: int) -> float:
    if x:
        raise self.retry(countdown=1)
    return float(x)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@shared_task
def shared(x: int) -> str:
    return str(x)


@shared_task(bind=True, name="shared.bound")
def shared_bound(self: Task[..., Any], x: int) -> str:
    return str(x)


@shared_task
async def shared_fetch(n: int) -> str:
    return str(n)


# -- calls
reveal_type(add(1, 2))  # R: int
add.delay(1, 2)
add.delay(x=1, y=2)
add.delay(1, "x")  # E: incompatible type "str"; expected "int"
add.delay(1)  # E: Missing positional argument "y"
add.delay(1, 2, 3)  # E: Too many arguments
add.delay(1, z=2)  # E: Unexpected keyword argument "z"
reveal_type(add.delay(1, 2))  # R: celeriac.client.result.AsyncResult[int]
reveal_type(add.delay(1, 2).get())  # R: int
reveal_type(add.delay(1, 2).get(timeout=5))  # R: int
reveal_type(add.apply_async((1, 2), countdown=5).get())  # R: int
reveal_type(add.apply((1, 2)).get())  # R: int

# -- with options, and keyword-only parameters
named.delay("a", times=2)
named.delay("a", 2)  # E: Too many positional arguments
reveal_type(named.delay("a").get())  # R: list[str]

# -- bound tasks: the caller does not give `self`
bound.delay(1)
bound.delay()  # E: Missing positional argument "x"
bound.delay("x")  # E: incompatible type "str"; expected "int"
reveal_type(bound.delay(1).get())  # R: float

# -- async tasks: the result is what the coroutine returns
reveal_type(fetch.delay("u").get())  # R: bytes
fetch.delay(1)  # E: incompatible type "int"; expected "str"

# -- shared tasks
reveal_type(shared.delay(1).get())  # R: str
reveal_type(shared_bound.delay(1).get())  # R: str
reveal_type(shared_fetch.delay(1).get())  # R: str
shared.delay("1")  # E: incompatible type "str"; expected "int"
shared_bound.delay("1")  # E: incompatible type "str"; expected "int"


async def main() -> None:
    reveal_type(await fetch("u"))  # R: bytes
    reveal_type(await add.adelay(1, 2))  # R: celeriac.client.result.AsyncResult[int]
    reveal_type(await (await add.adelay(1, 2)))  # R: int
    reveal_type(await add.delay(1, 2))  # R: int
    reveal_type(await add.delay(1, 2).aget(timeout=1))  # R: int
    reveal_type(await (await fetch.adelay("u")))  # R: bytes
    reveal_type(await (await add.aapply_async((1, 2), expires=5)).aget())  # R: int
    await add.adelay(1, "x")  # E: incompatible type "str"; expected "int"


# -- the rest of the door
reveal_type(app.send_task("elsewhere"))  # R: celeriac.client.result.AsyncResult[Any]
with app.batch():
    results: list[AsyncResult[int]] = [add.delay(n, n) for n in range(10)]
add.s(1)
add.s(1, 2).apply_async()
wrong: AsyncResult[str] = add.delay(1, 2)  # E: Incompatible types in assignment
