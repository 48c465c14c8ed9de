"""What a worker of a cluster does with a chunk; the engine calls `work`, and `look` meanwhile.

There may be several drivers, and several chunks at once, in one process.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import islice, repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes._engine.claims import CURSOR, LIMIT, NO_LIMIT, VOID, Claims
from hypernodes._engine.clusters.attempts import ACCOUNT, ChunkAccount, Watches
from hypernodes._engine.clusters.briefs import DRIVER, Attempt, Part, Report, Result
from hypernodes._engine.clusters.hearing import HEARING, overhear
from hypernodes._engine.clusters.share import Share
from hypernodes._engine.observing.script import own_configs
from hypernodes._engine.shipping import settings
from hypernodes._engine.shipping.errors import PackedError, pack_error, pack_load_error
from hypernodes._engine.shipping.events import Raised, Told, pack_records
from hypernodes._engine.shipping.keeping import Kept, beside, copyable, keepable
from hypernodes._engine.shipping.parcels import Hold, check_readable, unpack
from hypernodes._engine.shipping.work import (
    Job,
    load,
    packed_outcomes,
    run_items,
    run_segment,
    taken_records,
)
from hypernodes._engine.watch import NEW_WATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hypernodes._engine.clusters.briefs import Brief, Luggage, Notice
    from hypernodes._engine.plan import Slot
    from hypernodes._engine.shipping.account import Key
    from hypernodes._engine.shipping.parcels import Packer, Parcel
    from hypernodes.abc import Executor

    Announce = Callable[[Attempt], None]

JOBS_KEPT: Final = 64
ENDS_KEPT: Final = 4096
KEPT_FROM: Final = 1 << 16
"""Bytes from which on a value stays where it was made."""

PACKER: Final = Hold()
_lock: Final = threading.RLock()
_loading: Final = threading.RLock()
_jobs: Final[OrderedDict[tuple[str, int], Job | PackedError]] = OrderedDict()
_drivers: Final[set[str]] = set()
_executors: Final[dict[str, set[Executor]]] = {}
"""What runs shares, and parts of them, by the driver that sends them."""
_running: Final[dict[tuple[str, int], _Running]] = {}
_ended: Final[OrderedDict[tuple[str, int], None]] = OrderedDict()
_over: Final[OrderedDict[tuple[str, int], None]] = OrderedDict()
_refused: Final[OrderedDict[tuple[str, int], None]] = OrderedDict()


def work(
    brief: Brief,
    luggage: Luggage | None,
    taken: Sequence[Parcel],
    announce: Announce,
    room: int = 1,
    *,
    packer: Packer = PACKER,
) -> Result:
    """Run the pieces of a chunk, from the first; stop where the driver took them back.

    Args:
        brief: The chunk.
        luggage: The plan and what is shared; None where they have been sent before.
        taken: Values that other tasks have made.
        announce: Tells the driver of an attempt, and returns when that is on its way for sure.
        room: How many chunks run at once, unless one lends its place to another.
        packer: Makes parcels of what comes back.
    """
    key = brief.driver, brief.number
    forget(brief.driver, brief.over)
    with _lock:
        if _refused.pop(key, 0) is None:
            return Result(Report(done=0), {})
        is_lodger = sum(driver == brief.driver for driver, _ in _running) >= room
        running = _running[key] = _Running(packer)
    try:
        if is_lodger:
            announce(Attempt(brief.number))
        return _worked(running, brief, luggage, taken, announce)
    finally:
        with _lock:
            del _running[key]
            _remember(_ended, key, ENDS_KEPT)
        _flush()


def look(driver: str, numbers: Iterable[int], *, back: bool, void: bool) -> dict[int, Report]:
    """Return what chunks have done by now, in another thread than theirs.

    Args:
        driver: Whose they are.
        numbers: What their driver calls them.
        back: Whether what they have not begun is given back.
        void: Whether nobody wants what they do.
    """
    found = {number: _looked(driver, number, back=back, void=void) for number in numbers}
    return {number: report for number, report in found.items() if report is not None}


def _looked(driver: str, number: int, *, back: bool, void: bool) -> Report | None:
    key = driver, number
    with _lock:
        running = _running.get(key)
        if running is None:
            if key in _ended or not back:
                return None
            _remember(_refused, key, ENDS_KEPT)
            return Report(back=0)
    return running.look(back=back, void=void)


def take_leave(driver: str) -> None:
    """Stop all that runs here for a driver, and let go of all that is here for it."""
    with _lock:
        running = [found for (whose, _), found in _running.items() if whose == driver]
        for key in [key for key in _jobs if key[0] == driver]:
            del _jobs[key]
        executors = _executors.pop(driver, set()).difference(*_executors.values())
    for each in running:
        each.look(back=True, void=True)
    for executor in executors:  # which may take its time
        threading.Thread(target=executor.close, name="hypernodes-leave", daemon=True).start()


def forget(driver: str, tokens: Iterable[int]) -> None:
    """Let go of plans, and of what they share, that no chunk will need again."""
    with _lock:
        for token in tokens:
            _jobs.pop((driver, token), None)
            _remember(_over, (driver, token), ENDS_KEPT)  # it may be loading now


def _remember(
    there: OrderedDict[tuple[str, int], Any], key: tuple[str, int], most: int, what: Any = None
) -> None:
    there[key] = what
    if len(there) > most:
        there.popitem(last=False)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


# ---------------------------------------------------------------- jobs


def _job_for(brief: Brief, luggage: Luggage | None) -> Job | PackedError | None:
    """Return the plan of a chunk, compiled when it is first needed; None where it is not there."""
    key = brief.driver, brief.token
    found = _known(key)
    if found is None and luggage is not None:
        with _loading:  # users' code runs: who only looks must not wait for it
            found = _known(key) or _loaded(brief, luggage)
            with _lock:
                if key not in _over:
                    _remember(_jobs, key, JOBS_KEPT, found)
    return found


def _known(key: tuple[str, int]) -> Job | PackedError | None:
    with _lock:
        found = _jobs.get(key)
        if found is not None:
            _jobs.move_to_end(key)
    return found


def _loaded(brief: Brief, luggage: Luggage) -> Job | PackedError:
    is_first = not _drivers
    _drivers.add(brief.driver)
    if brief.driver != DRIVER:  # else this is a thread beside it
        PLUGINS.mute()  # those of the driver observe
        overhear()
        settle = settings.apply if brief.settles else settings.look_there_last
        settle(unpack(luggage.settings))
    context, watches = copy_context(), Watches(careful=brief.careful)
    context.run(NEW_WATCH.set, watches)
    try:
        job = context.run(load, luggage.engine, luggage.inputs, luggage.facts)
    except BaseException as error:  # noqa: BLE001 - whatever the user's classes raise
        return pack_load_error(error)
    is_stale = job.is_stale and brief.settles and not is_first  # else no other would do better
    job = job._replace(is_stale=is_stale, is_lasting=not brief.settles)
    return job._replace(is_watched=watches.count > 0)


# ---------------------------------------------------------------- chunks


def _worked(
    running: _Running,
    brief: Brief,
    luggage: Luggage | None,
    taken: Sequence[Parcel],
    announce: Announce,
) -> Result:
    job = _job_for(brief, luggage)
    if not isinstance(job, Job) or job.is_stale:
        return Result(_unusable(job), {})
    if brief.careful:
        announce(Attempt(brief.number))
    try:
        kind, body = unpack(brief.parcel)
        values = {slot: unpack(parcel) for slot, parcel in zip(brief.places, taken, strict=True)}
    except BaseException as error:  # noqa: BLE001 - whatever the user's classes raise
        return Result(Report(done=0, trouble="unreadable", error=pack_error(error)), {})
    is_segment, is_share = kind == "segment", kind == "share" and not brief.careful
    is_followed = job.is_watched and not is_share
    account = ChunkAccount(brief.number, announce) if is_followed else None
    if is_share:
        running.begin(job, body[0][1], _share(brief.driver, job, body))
    elif is_segment:
        body[1].update(values)
        running.begin(job, (body[2],), partial(run_segment, job, body))
    else:  # also of a share, one that is to be watched closely
        _begin_items(running, job, body[0] if kind == "share" else body)
    running.run(account, dict(brief.spent), is_segment=is_segment)
    kept = running.keep(brief, body[0]) if brief.keeps and is_segment else {}
    return Result(running.report(), kept)


def _begin_items(running: _Running, job: Job, items: Any) -> None:
    if job.engine.loop is None:  # compiled now: else the first item would seem to take that long
        job.engine.attempter()
    running.begin(job, items[1], partial(run_items, job, items))


def _unusable(job: Job | PackedError | None) -> Report:
    """Report that a plan is not here, cannot be read, or is older code than a new worker's."""
    if job is None:
        return Report(done=0, trouble="unknown")
    if isinstance(job, PackedError):
        return Report(done=0, trouble="unloadable", error=job)
    return Report(done=0, trouble="stale", strangers=job.strangers)


def _share(driver: str, job: Job, body: Any) -> Share:
    plan = job.engine.plan
    configs = plan.request.ctx.config, *own_configs(plan.pipeline)
    with _lock:
        _executors.setdefault(driver, set()).update(config.executor for config in configs)
    return Share(job, body)


class _Running:
    """A chunk while it runs; what it has done is taken by two threads."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._cells = [0] * (VOID + 1)
        self._cells[LIMIT] = NO_LIMIT
        self._lock = threading.Lock()
        self._done: deque[Any] = deque()
        self._job: Job | None = None
        self._run: Callable[..., None] | Share | None = None
        self._indices: Sequence[int | None] = ()
        self._reported = 0
        self._numbers = itertools.count()
        self._seconds = 0.0
        self.notices: deque[Notice] = deque()

    def begin(
        self, job: Job, indices: Sequence[int | None], run: Callable[..., None] | Share
    ) -> None:
        """Take note of what there is to be run, and what runs it."""
        self._indices, self._run = indices, run
        self._job = job

    def run(self, account: ChunkAccount | None, spent: dict[Key, int], *, is_segment: bool) -> None:
        """Run the pieces; what is no `Exception` ends the run, in the driver."""
        job, call = self._job, self._run
        assert job is not None and call is not None  # noqa: S101, PT018 - it has begun
        begin = None if account is None else partial(account.open, spent)
        claims = Claims(self._cells, 0, begin)
        context = copy_context()  # where the engine keeps what its users ask it for
        for variable, value in job.context.items():
            context.run(variable.set, value)
        context.run(HEARING.set, self.notices)
        if account is not None:
            context.run(ACCOUNT.set, account)
        started = perf_counter()
        try:
            context.run(self._check, job, is_segment=is_segment)
            context.run(call, claims, self._done.append)
            if is_segment:
                context.run(self._doubt, job)
        except BaseException as error:  # noqa: BLE001
            raised = Raised(pack_error(error))
            self._done.append((0, raised) if isinstance(self._run, Share) else raised)
        self._seconds = perf_counter() - started

    def _check(self, job: Job, *, is_segment: bool) -> None:
        if job.strangers:
            self._doubt(job, [name for name, _ in job.strangers])
        elif is_segment:
            self._doubt(job)

    def _doubt(self, job: Job, strangers: Sequence[str] = ()) -> None:
        """See whether what is made here is what the driver would make; else it is not kept."""
        doubt = job.engine.doubt(job.inputs, strangers, is_lasting=job.is_lasting)
        if doubt is not None:
            self.notices.append(("distrust", doubt))
            job.engine.distrust(job.inputs, doubt)

    def look(self, *, back: bool, void: bool) -> Report:
        """Report what is done by now."""
        cells = self._cells
        given = None
        if void:
            cells[VOID], cells[LIMIT] = cells[CURSOR], 0
            self._stop()
        elif back and cells[LIMIT] == NO_LIMIT:
            cells[LIMIT] = cells[CURSOR]
            given = max(cells[CURSOR], cells[LIMIT])
        parts = self._take() if void else (*self._take(), *self._told())
        return Report(parts, back=given, notices=self._noticed())

    def _stop(self) -> None:
        if self._job is not None and isinstance(self._run, Share):
            self._run.stop()

    def report(self) -> Report:
        """Report what has not been reported, at the end."""
        parts = self._take()
        done, notices = self._reported, self._noticed()
        return Report(parts, done=done, seconds=self._seconds, notices=notices)

    def _noticed(self) -> tuple[Notice, ...]:
        return tuple(map(deque.popleft, repeat(self.notices, len(self.notices))))

    def _take(self) -> tuple[Part, ...]:
        with self._lock:
            count = len(self._done)
            if not count or self._job is None:
                return ()
            first, self._reported = self._reported, self._reported + count
            outcomes = list(map(deque.popleft, repeat(self._done, count)))
            return tuple(self._parts(self._job, first, outcomes))

    def _told(self) -> Iterator[Part]:
        """Take what there is to be told of pieces that are under way."""
        if not isinstance(self._run, Share):
            return
        with self._lock:
            told = self._run.told()
            if told:
                places, records = zip(*told, strict=True)
                parcel = pack_records(list(records), self._packer)
                yield Part(next(self._numbers), self._reported, 0, None, parcel, places)

    def _parts(self, job: Job, first: int, outcomes: list[Any]) -> Iterator[Part]:
        indices = self._indices[first : first + len(outcomes)]
        places: tuple[int, ...] = ()
        is_share = isinstance(self._run, Share)
        if is_share:
            places, outcomes = tuple(p for p, _ in outcomes), [found for _, found in outcomes]
            indices = [self._indices[place] for place in places]
        told = taken_records(outcomes)
        packer, done = self._packer, 0
        for count, parcel in packed_outcomes(job, indices, outcomes, packer):
            records = None if told is None else pack_records(list(islice(told, count)), packer)
            where = places[done : done + count] if is_share else None
            yield Part(next(self._numbers), first + done, count, parcel, records, where)
            done += count

    def keep(self, brief: Brief, number: int) -> dict[Slot, Parcel]:
        """Take out of what a segment has given what can stay here, and leave what stands for it."""
        found = self._done[-1] if self._done else None
        given = found.outcome if type(found) is Told else found
        job = self._job
        if type(given) is not dict or job is None:
            return {}
        segment, kept = job.engine.segments[number], {}
        places = {slot: slot for slot in keepable(job.engine, segment)}
        if self._indices[0] is None:  # a run: it has few of them, and is over soon after
            places |= {slot: beside(slot) for slot in copyable(job.engine, segment)}
        for slot, place in places.items():
            parcel = _packed(given.get(slot), self._packer)
            if parcel is not None and parcel.size >= KEPT_FROM:
                kept[slot] = parcel
                given[place] = Kept(brief.number, slot, parcel.size)
        return kept


def _packed(value: Any, packer: Packer) -> Parcel | None:
    """Return a value ready to travel; None where it cannot: then it is blamed as other outputs."""
    try:
        parcel = packer.pack(value)
        check_readable(parcel)
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return None
    return parcel
