"""What a task of Dask does in its worker: run a chunk, tell its driver of it, lend its place."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
from distributed import get_worker, rejoin, secede
from distributed.utils import sync

from hypernodes._engine.clusters import worker as _worker
from hypernodes._lending import lend_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context

    from hypernodes._engine.clusters.briefs import Attempt, Report, Result
    from hypernodes._engine.plan import Slot

TOLD: Final = 4096
"""Bytes of a report up to which it is an event: the scheduler keeps a thousand of these."""


def run(load: Any, shared: Any, topic: str, *taken: Result) -> Result:
    """Run a chunk.

    Args:
        load: Its brief and its luggage; pickled, if they are small.
        shared: Its luggage, where that is moved by itself.
        topic: That of events for the driver.
        taken: What other chunks have given.

    Returns:
        The report, also where the driver has been told, and what stays here.
    """
    brief, luggage = pickle.loads(load) if isinstance(load, bytes) else load  # noqa: S301 - ours
    lend_by(partial(_lent, copy_context(), get_ident()))
    values = [result.kept[slot] for slot, result in zip(brief.places, taken, strict=True)]
    here = get_worker()
    announce = partial(_announce, here, topic)
    found = _worker.work(brief, luggage or shared, values, announce, here.state.nthreads)
    _tell(here, topic, brief.number, found)
    return found


def report_of(result: Result) -> tuple[Report, tuple[Slot, ...]]:
    """Return a report, and the slots of what stays here."""
    return result.report, tuple(result.kept)


def _tell(here: Any, topic: str, number: int, found: Result) -> None:
    """Tell the driver of a report that is small: then it needs not fetch it."""
    if _size(found.report) > TOLD:
        return
    message = cloudpickle.dumps((number, found.report, tuple(found.kept)))
    if len(message) <= TOLD:
        here.log_event(topic, message)


def _size(report: Report) -> int:
    parcels = [parcel for part in report.parts for parcel in (part.parcel, part.told)]
    return sum(parcel.size for parcel in parcels if parcel is not None)


def _announce(here: Any, topic: str, attempt: Attempt) -> None:
    """Tell the driver, by way of the scheduler; return when the scheduler has it."""
    sync(here.loop, here.scheduler.log_event, topic=topic, msg=cloudpickle.dumps(attempt))


@contextmanager
def _lent(task: Context, thread: int) -> Iterator[None]:
    """Let another task run here while this one waits: perhaps it waits for that.

    Args:
        task: Where Dask knows which task this is.
        thread: Where it runs; others, that time it, have no place to lend.
    """
    if get_ident() != thread:
        yield
        return
    task.run(secede)
    try:
        yield
    finally:
        task.run(rejoin)
