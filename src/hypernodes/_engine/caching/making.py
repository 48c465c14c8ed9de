"""Making a value that was not found: the call, alone or after whoever makes the same, and keeping.

Written once, as coroutines: on a loop they suspend; where there is none, nothing in them waits for
one, and they run to their end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._cancel import wait_for
from hypernodes._engine.caching.loading import keep, load
from hypernodes._engine.caching.telling import has_replaced, tell_found
from hypernodes._engine.flights import FLIGHTS
from hypernodes._engine.observing.witness import clock
from hypernodes._engine.workers import OCCUPIED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent import futures

    from hypernodes._engine.caching.engine import CachingEngine
    from hypernodes._engine.caching.orders import Call, Order
    from hypernodes._engine.kernel import InThread
    from hypernodes._engine.plan import Slot, Step


async def make(
    engine: CachingEngine,
    step: Step,
    values: Mapping[Slot, Any],
    order: Order,
    call: Call,
) -> Sequence[Any]:
    """Return what a step gives, and keep it; or what somebody else has kept meanwhile.

    Args:
        engine: Runs the plan that it belongs to.
        step: The step.
        values: What it takes, by slot.
        order: Where to keep them.
        call: How it is called.
    """
    in_thread = call.in_thread
    is_away = step.inner is not None
    key = id(engine.shelf(step).cache), order.made, is_away
    flight, landing = FLIGHTS.start(key)
    if landing is not None:
        # What runs elsewhere waits for workers: none of these may wait for it.
        if is_away and OCCUPIED.get():
            return await engine.called(step, values, call)
        await _landed(landing, in_thread)
        found = await in_thread(_find, engine, step, order)
        if found is None:  # the other one has failed, or what it made cannot be kept
            return await _made(engine, step, values, order, call)
        tell_found(engine, call.witness, step, order.made, values=values, outputs=found)
        return found  # type: ignore[no-any-return]
    flight.depart(alone=is_away)
    try:
        if FLIGHTS.has_landed(key, order.since):
            found = await in_thread(_find, engine, step, order)
            if found is not None:
                tell_found(engine, call.witness, step, order.made, values=values, outputs=found)
                return found  # type: ignore[no-any-return]
        return await _made(engine, step, values, order, call)
    finally:
        flight.land()


async def _made(
    engine: CachingEngine, step: Step, values: Mapping[Slot, Any], order: Order, call: Call
) -> Sequence[Any]:
    witness = call.witness if step.index in engine.observed else None
    if witness is not None:
        witness.missed(step.index, order.made)
    marks = engine.marks(step, values)
    outputs = await engine.called(step, values, call)
    is_own = order.is_sound and not has_replaced(witness, step)
    is_own = is_own and engine.are_unchanged(step, values, marks, order.once)
    kept = is_own and await call.in_thread(keep, engine, step, order, outputs)
    if witness is not None:
        witness.kept(step.index, clock(), order.made if kept else None)
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
