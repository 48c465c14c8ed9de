"""What a step calls: the user's function, within its timeout, again after failures, unpacked.

Each layer is there only where it is asked for; a plain node is called directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sized
from inspect import isawaitable, iscoroutinefunction
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from hypernodes._engine.retry import Told, policy_of, retrying, retrying_later
from hypernodes._engine.timeout import await_within, call_within
from hypernodes._engine.watch import NEW_WATCH
from hypernodes._loop import Overdue, run_coroutine
from hypernodes.exceptions import NodeOutputError, NodeTimeoutError

if TYPE_CHECKING:
    from hypernodes._node import Node
    from hypernodes.config import RuntimeConfig

Call = Callable[..., Any]


def node_call(
    node: Node, path: tuple[str, ...], config: RuntimeConfig, told: Told | None = None
) -> Call:
    """Return what a plan calls for `node`; of a coroutine, it waits for the end.

    Args:
        node: The node; its own facts win over those of the config.
        path: Where it stands, for messages.
        config: The config in force.
        told: Who is told of failed attempts that are made again.
    """
    timeout = config.timeout if node.timeout is None else node.timeout
    policy = policy_of(config.retries if node.retries is None else node.retries)
    watch = NEW_WATCH.get()(path, timeout, policy, node.is_async)
    several = not isinstance(node.output_name, str)
    call = node.func
    if several and not node.is_async:  # first: a generator works while it is unpacked
        call = _unpacked(call, len(node.output_names), path)
    if timeout is not None and not (watch.kills or iscoroutinefunction(call)):
        call = _timed(call, timeout, path)
    if node.is_async:
        call = _awaited(call, timeout, path)
    if several and node.is_async:
        call = _unpacked(call, len(node.output_names), path)
    call = watch.attempt(call)
    if policy is not None:
        call = retrying(call, policy, path, watch, told)
    return watch.whole(call)


def node_coroutine(
    node: Node, path: tuple[str, ...], config: RuntimeConfig, told: Told | None = None
) -> Call:
    """Do as `node_call` for an asynchronous node on a loop: what is returned has to be awaited."""
    timeout = config.timeout if node.timeout is None else node.timeout
    policy = policy_of(config.retries if node.retries is None else node.retries)
    call: Call = node.func if timeout is None else _timed_later(node.func, timeout, path)
    if not isinstance(node.output_name, str):
        call = _unpacked_later(call, len(node.output_names), path)
    return call if policy is None else retrying_later(call, policy, path, told)


def _awaited(call: Call, timeout: float | None, path: tuple[str, ...]) -> Call:
    def awaited(*args: Any, **kwargs: Any) -> Any:
        start = monotonic()
        value = call(*args, **kwargs)
        if not isawaitable(value):
            return value
        rest = None if timeout is None else max(0.0, timeout - (monotonic() - start))
        try:
            return run_coroutine(_finish(value), rest)
        except Overdue:
            error = overdue(path, timeout)
        raise error

    return awaited


async def _finish(value: Awaitable[Any]) -> Any:
    return await value


def _timed(call: Call, timeout: float, path: tuple[str, ...]) -> Call:
    def timed(*args: Any, **kwargs: Any) -> Any:
        try:
            return call_within(call, timeout, args, kwargs)
        except Overdue:
            error = overdue(path, timeout)
        raise error

    return timed


def _timed_later(call: Call, timeout: float, path: tuple[str, ...]) -> Call:
    async def timed(*args: Any, **kwargs: Any) -> Any:
        try:
            return await await_within(call(*args, **kwargs), timeout)
        except Overdue:
            error = overdue(path, timeout)
        raise error

    return timed


def overdue(path: tuple[str, ...], timeout: float | None) -> NodeTimeoutError:
    """Return the error for an attempt at the node at `path` that took too long."""
    message = (
        f"node {path[-1]!r} took longer than its timeout of {timeout} s; give it more time, or "
        f"retries"
    )
    return NodeTimeoutError(message, node=path[-1], path=path, timeout=timeout)


def _unpacked(call: Call, count: int, path: tuple[str, ...]) -> Call:
    def unpacked(*args: Any, **kwargs: Any) -> Any:
        value = call(*args, **kwargs)
        if type(value) is tuple and len(value) == count:
            return value
        return unpack(value, count, path)

    return unpacked


def _unpacked_later(call: Call, count: int, path: tuple[str, ...]) -> Call:
    async def unpacked(*args: Any, **kwargs: Any) -> Any:
        return unpack(await call(*args, **kwargs), count, path)

    return unpacked


def unpack(value: object, count: int, path: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the values of what a function with several outputs returned.

    Raises:
        NodeOutputError: There are not `count` of them.
    """
    single = isinstance(value, str | bytes | bytearray | Mapping | set | frozenset)
    single = single or type(value).__name__ == "DataFrame"
    values = None
    if not single and isinstance(value, Iterable):
        # What has no length may have no end.
        values = tuple(value if isinstance(value, Sized) else islice(value, count + 1))
        if len(values) == count:
            return values
    received = None if values is None else len(values)
    what = f"one {type(value).__name__}" if received is None else f"{received} values"
    message = (
        f"node {path[-1]!r} has {count} outputs, but its function returned {what}; return a tuple "
        f"of {count}, or name the outputs that there are"
    )
    raise NodeOutputError(message, node=path[-1], path=path, expected=count, received=received)
