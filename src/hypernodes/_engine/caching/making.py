"""Making a value that was not found: the call, alone or after whoever makes the same, and keeping.

Written once, as coroutines: on a loop they suspend; where there is none, nothing in them waits for
one, and they run to their end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hypernodes._cancel import wait_for
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.caching.loading import keep, load
from hypernodes._engine.failure import Failure
from hypernodes._engine.workers import OCCUPIED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from concurrent import futures

    from hypernodes._engine.caching.engine import CachingEngine
    from hypernodes._engine.caching.orders import Order
    from hypernodes._engine.kernel import InThread
    from hypernodes._engine.plan import Slot, Step

    Call = Callable[[], Awaitable[Any]]


async def make(
    engine: CachingEngine,
    step: Step,
    call: Call,
    order: Order | None,
    in_thread: InThread,
) -> Sequence[Any]:
    """Return what a step gives, and keep it; or what somebody else has kept meanwhile.

    Args:
        engine: Runs the plan that it belongs to.
        step: The step.
        call: Runs it and returns its outputs.
        order: Where to keep them; None for nowhere.
        in_thread: Calls what may block.
    """
    if order is None:
        return await call()
    is_away = step.inner is not None
    key = id(engine.shelf(step).cache), order.made, is_away
    find = partial(_find, engine, step, order)
    while True:
        flight, leads = FLIGHTS.start(key)
        # What runs elsewhere waits for workers: none of these may wait for it.
        if leads or (is_away and OCCUPIED.get()):
            break
        await _landed(flight.landing, in_thread)
        found = await in_thread(find)
        if found is not None:
            return found
    with flight.led(alone=is_away):
        if FLIGHTS.has_landed(key, order.since):
            found = await in_thread(find)
            if found is not None:
                return found
        outputs = await call()
        await in_thread(keep, engine, step, order, outputs)
    return outputs


def _find(engine: CachingEngine, step: Step, order: Order) -> Any:
    return load(engine, [(step, order.made)], order.once)[0]


async def here(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` in this very thread: there is no loop to block."""
    return function(*args)


async def _landed(landing: futures.Future[None], in_thread: InThread) -> None:
    """Wait for the end of a flight."""
    if in_thread is here:
        wait_for(landing)
        return
    import asyncio  # noqa: PLC0415 - loaded by now: there is a loop

    await asyncio.shield(asyncio.wrap_future(landing))
