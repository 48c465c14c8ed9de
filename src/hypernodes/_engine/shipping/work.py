"""What any worker does with what it is sent: loads plans, runs pieces and packs what they give."""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from hypernodes import config as _config
from hypernodes._cancel import is_watched
from hypernodes._engine.claims import CURSOR, LIMIT, VOID
from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.stage import Scenery, Stage
from hypernodes._engine.shipping import blame
from hypernodes._engine.shipping.errors import pack_failure
from hypernodes._engine.shipping.events import PieceRecorder, Raised, Told, raised, records_of
from hypernodes._engine.shipping.parcels import check_readable, unpack
from hypernodes._engine.workers import OCCUPIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hypernodes._engine.claims import Claims
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.witness import Record
    from hypernodes._engine.program import Loop
    from hypernodes._engine.shipping.parcels import Packer, Parcel


class Job(NamedTuple):
    """A plan that has arrived, and what all its pieces share.

    Attributes:
        engine: What runs the plan.
        inputs: The inputs that pieces share.
        values: The same by slot, with what is bound.
        context: The context variables in force.
        is_watched: Whether the attempts at some node are announced.
        is_timed: Whether some node is ended from outside when it is late.
        scenery: What is known of the run, where somebody observes.
        strangers: Code that is another here than in the driver.
        is_stale: Whether a new worker may have the driver's.
        is_lasting: Whether the driver cannot have a new worker in the place of this one.
    """

    engine: PipelineExecutionEngine
    inputs: Mapping[str, Any]
    values: dict[int, Any]
    context: Context
    is_watched: bool
    is_timed: bool
    scenery: Scenery | None
    strangers: tuple[tuple[str, str], ...]
    is_stale: bool
    is_lasting: bool = False


def load(engine_parcel: Parcel, inputs_parcel: Parcel, facts_parcel: Parcel) -> Job:
    """Return a job; its plan and those inside are compiled here, where they are to be watched."""
    used, occupied, renewed, scene = unpack(facts_parcel, keep=True)
    inputs = unpack(inputs_parcel, keep=True)
    engine = unpack(engine_parcel, keep=True)
    _compile_inner(engine)
    values = engine.plan.constants | {engine.plan.shared[name]: v for name, v in inputs.items()}
    context = Context()
    context.run(_config._used.set, used)  # noqa: SLF001
    context.run(OCCUPIED.set, occupied)
    scenery = None
    if engine.is_observed and scene is not None:
        run_id, parent_run_id, mode, state = scene
        scenery = Scenery(run_id, parent_run_id, mode, engine.plan.pipeline, state)
    strangers = engine.strangers(inputs)
    return Job(
        engine,
        inputs,
        values,
        context,
        is_watched=False,
        is_timed=False,
        scenery=scenery,
        strangers=strangers,
        is_stale=not renewed.issuperset(strangers),
    )


def _compile_inner(engine: PipelineExecutionEngine) -> None:
    for step in engine.plan.steps:
        inner = step.inner
        if inner is not None and inner.map_over and not inner.elsewhere:
            shared = [name for name in inner.inputs if name not in inner.map_over]
            _compile_inner(inner.engine(shared))


def run_items(job: Job, body: Any, claims: Claims, append: Callable[[Any], None]) -> None:
    """Run items, from the first; stop where the driver has taken them back."""
    names, indices, columns = body
    cells, number, begin = claims
    loop = job.engine.loop
    if loop is not None and begin is None and not is_watched():
        _run_loop(job, loop, body, claims, append)
        return
    attempt, inputs = _attempt_of(job), job.inputs
    for index, item in zip(indices, rows(names, columns), strict=True):
        cells[CURSOR] = number + 1
        if number >= cells[LIMIT]:
            return
        if begin is not None:
            begin()
        found = attempt(inputs, item, index)
        append(found)
        if type(found) is Told and type(found.outcome) is Raised:
            return
        number += 1
    finish(job)


def _run_loop(
    job: Job, loop: Loop, body: Any, claims: Claims, append: Callable[[Any], None]
) -> None:
    """Do as `run_items`, where there is nothing to do for an item but its steps."""
    names, _, columns = body
    cells, base, _ = claims
    by_name = dict(zip(names, columns, strict=True))
    items = zip(*(by_name[name] for name in job.engine.plan.mapped), strict=True)
    number = base
    while True:
        try:
            is_over = loop.run(job.inputs, items, cells, number, append)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raised
            number = cells[CURSOR]
            append(_failure(job, loop, body, number - 1 - base, error))
        else:
            break
    if is_over:
        finish(job)


def _failure(job: Job, loop: Loop, body: Any, place: int, error: Exception) -> Failure:
    """Return the failure of the item at a place."""
    names, indices, columns = body
    item = {name: column[place] for name, column in zip(names, columns, strict=True)}
    failure = job.engine.failure(error, loop.step_of(error.__traceback__), indices[place])
    return failure.at_item(indices[place], item)


def finish(job: Job) -> None:
    """Let the engine tidy up; the outcomes are there, so a warning must not become an error."""
    with suppress(Warning):
        job.engine.finish(job.inputs)


def _attempt_of(job: Job) -> Callable[..., Any]:
    """Return what runs an item."""
    scenery = job.scenery
    if scenery is None:
        return job.engine.attempter()

    def attempt(inputs: Mapping[str, Any], item: Mapping[str, Any], index: int) -> Told:
        records: list[Record] = []
        witness = PieceRecorder(records, Stage(job.engine.plan, scenery, index), index)
        try:
            return Told(job.engine.attempt_told(inputs, item, index, witness), records)
        except BaseException as error:  # noqa: BLE001 - ends the run, in the driver
            return raised(error, records)

    return attempt


def rows(names: tuple[str, ...], columns: list[list[Any]]) -> Iterator[dict[str, Any]]:
    """Return items from columns of their values; without any, the one that a run is."""
    if not names:
        return iter(({},))
    if len(names) == 1:
        (name,) = names
        return ({name: value} for value in columns[0])
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def run_segment(job: Job, body: Any, claims: Claims, append: Callable[[Any], None]) -> None:
    """Run a segment, unless the driver has taken it back."""
    number, values, index, told = body
    cells, base, begin = claims
    segment = job.engine.segments[number]
    cells[CURSOR] = base + 1
    if base >= cells[LIMIT]:
        return
    if begin is not None:
        begin()
    shared = {slot: job.values[slot] for slot in segment.takes if slot in job.values}
    records: list[Record] = []
    witness = None
    if job.scenery is not None and told is not None:
        pass_index, *facts = told
        witness = PieceRecorder(records, Stage(job.engine.plan, job.scenery, pass_index), *facts)
    try:
        given = job.engine.attempt_segment(
            number, shared | values, index, lambda: cells[VOID] != base + 1, witness
        )
    except BaseException as error:
        if witness is None:
            raise
        append(raised(error, records))
        return
    finish(job)
    # What was broken off gives less, to nobody.
    found = given if isinstance(given, Failure) else {s: given.get(s) for s in segment.gives}
    append(found if witness is None else Told(found, records))


def taken_records(outcomes: list[Any]) -> Iterator[list[Record]] | None:
    """Take the records out of what pieces gave; None where nobody observes."""
    if Told not in set(map(type, outcomes)):
        return None
    told = [records_of(found) if type(found) is Told else [] for found in outcomes]
    outcomes[:] = [found.outcome if type(found) is Told else found for found in outcomes]
    return iter(told)


def packed_outcomes(
    job: Job, indices: Sequence[int | None], outcomes: list[Any], packer: Packer
) -> Iterator[tuple[int, Parcel]]:
    """Yield outcomes as parcels, with the number of outcomes in each."""
    if not outcomes:
        return
    try:
        parcel = packer.pack(_gathered(outcomes))
        check_readable(parcel)
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
        if len(outcomes) > 1:
            for index, outcome in zip(indices, outcomes, strict=True):
                yield from packed_outcomes(job, [index], [outcome], packer)
            return
        failure = blame.output_failure(job.engine, outcomes[0], indices[0], error, packer)
        parcel = packer.pack(_gathered([failure]))
    yield len(outcomes), parcel


def _gathered(outcomes: list[Any]) -> Any:
    """Return outcomes in a form that pickles fast: by columns where all are fine."""
    if set(map(type, outcomes)) == {dict}:
        names = tuple(outcomes[0])
        columns = [list(map(itemgetter(name), outcomes)) for name in names]
        return names, columns, len(outcomes)
    return [pack_failure(o) if isinstance(o, Failure) else o for o in outcomes]
