"""Plans as one function for many items, as workers run them."""

from __future__ import annotations

import traceback
import weakref
from contextvars import Context

import pytest

from hypernodes import MemoryCache, Pipeline, RuntimeConfig, node
from hypernodes._engine.claims import CURSOR, LIMIT, NO_LIMIT, Claims
from hypernodes._engine.failure import Failure
from hypernodes._engine.shipping.work import Job, run_items


@node("half")
def halve(x):
    return 12 // x


@node(("least", "most"))
def bounds(half, offset):
    return half - offset, half + offset


@node("total")
def total(least, most, offset, scale):
    return (least + most + offset) * scale


PIPELINE = Pipeline([halve, bounds, total]).bind(scale=10)


def job_of(pipeline, names, inputs, config=None):
    ctx = pipeline._context(config)
    engine = pipeline.engine(inputs, ctx, None, names)
    return Job(engine, inputs, {}, Context(), False, False, None, (), False)


def ran(job, names, columns, *, limit=NO_LIMIT, begin=None, base=5):
    cells, outcomes = [0] * 8, []
    cells[LIMIT] = limit
    indices = range(100, 100 + len(columns[0]))
    run_items(job, (names, indices, columns), Claims(cells, base, begin), outcomes.append)
    return outcomes, cells[CURSOR]


def one_by_one(job, names, columns):
    rows = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
    return [job.engine.attempt(job.inputs, row, 100 + n) for n, row in enumerate(rows)]


def plain(outcome):
    if isinstance(outcome, Failure):
        return type(outcome.error), str(outcome.error), outcome.node, outcome.index, outcome.inputs
    return outcome


@pytest.mark.parametrize(
    "values",
    [[1, 2, 3], [1, 0, 2], [0, 1, 2], [1, 2, 0], [0, 0, 0], [1, 0, 0, 2, 0, 3], [0], [4]],
)
def test_a_loop_gives_what_items_give_one_by_one(values):
    job = job_of(PIPELINE, ("x",), {"offset": 3})
    assert job.engine.loop is not None

    outcomes, cursor = ran(job, ("x",), [values])

    expected = one_by_one(job, ("x",), [values])
    assert list(map(plain, outcomes)) == list(map(plain, expected))
    assert cursor == 5 + len(values)


def test_items_may_have_more_names_in_another_order():
    job = job_of(PIPELINE, ("offset", "x"), {})

    outcomes, _ = ran(job, ("offset", "x"), [[1, 2], [3, 4]])

    assert outcomes == one_by_one(job, ("offset", "x"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("count", range(5))
def test_what_was_taken_back_does_not_run(count):
    calls = []

    @node("y")
    def note(x):
        calls.append(x)
        if x == 1:
            raise ValueError(x)
        return x

    job = job_of(Pipeline([note]), ("x",), {})

    outcomes, _ = ran(job, ("x",), [list(range(4))], limit=5 + count)

    assert calls == list(range(min(count, 4)))
    assert len(outcomes) == len(calls)


def test_what_is_taken_back_meanwhile_does_not_run():
    cells = [0] * 8
    cells[LIMIT] = NO_LIMIT

    @node("y")
    def stop(x):
        cells[LIMIT] = 2
        return cells[CURSOR]

    job, outcomes = job_of(Pipeline([stop]), ("x",), {}), []
    run_items(job, (("x",), range(4), [[0] * 4]), Claims(cells, 0, None), outcomes.append)

    assert outcomes == [{"y": 1}, {"y": 2}]


def test_what_is_no_exception_ends_it():
    @node("y")
    def leave(x):
        if x == 1:
            raise SystemExit(x)
        return x

    job, outcomes = job_of(Pipeline([leave]), ("x",), {}), []
    cells = [0] * 8
    cells[LIMIT] = NO_LIMIT
    with pytest.raises(SystemExit):
        run_items(job, (("x",), range(3), [[0, 1, 2]]), Claims(cells, 0, None), outcomes.append)

    assert outcomes == [{"y": 0}]
    assert cells[CURSOR] == 2


class Big:
    """A value that can be referred to weakly."""


def test_what_an_item_has_given_is_let_go_of_before_the_next_one_runs():
    alive = []
    given = weakref.WeakSet()

    @node(("y", "z"))
    def make(x):
        alive.append(len(given))
        pair = Big(), Big()
        given.update(pair)
        return pair

    job = job_of(Pipeline([make]), ("x",), {})
    cells = [0] * 8
    cells[LIMIT] = NO_LIMIT
    run_items(job, (("x",), range(3), [[1, 2, 3]]), Claims(cells, 0, None), lambda _: None)

    assert alive == [0, 0, 0]


def test_the_values_of_a_failed_item_are_let_go_of_with_its_failure():
    alive = []
    made = weakref.WeakSet()

    @node("big")
    def make(x):
        alive.append(len(made))
        big = Big()
        made.add(big)
        return big

    @node("y")
    def refuse(big):
        raise ValueError("too big")

    job = job_of(Pipeline([make, refuse]), ("x",), {})
    cells = [0] * 8
    cells[LIMIT] = NO_LIMIT
    run_items(job, (("x",), range(3), [[1, 2, 3]]), Claims(cells, 0, None), lambda _: None)

    assert alive == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "shared"), [("half", {"x": 1}), ("least", {"half": 1, "most": 2})]
)
def test_what_is_given_for_an_output_may_be_one_of_an_item(name, shared):
    job = job_of(PIPELINE, (name,), {"offset": 3, **shared})

    assert ran(job, (name,), [[1, 2]])[0] == one_by_one(job, (name,), [[1, 2]])


def test_a_failure_shows_the_step_in_the_words_of_the_user():
    job = job_of(PIPELINE, ("x",), {"offset": 3})

    (failure,), _ = ran(job, ("x",), [[0]])

    shown = "".join(traceback.format_exception(failure.error))
    assert "half = halve(x)" in shown
    assert "return 12 // x" in shown


def test_where_there_is_more_to_do_for_an_item_there_is_no_loop():
    cached = RuntimeConfig(cache=MemoryCache())

    assert job_of(PIPELINE, (), {"x": 1, "offset": 2}).engine.loop is None
    assert job_of(Pipeline([node("y", cache=True)(abs)]), ("x",), {}, cached).engine.loop is None


def test_each_item_is_begun_where_attempts_are_followed():
    begun = []
    job = job_of(PIPELINE, ("x",), {"offset": 3})

    outcomes, _ = ran(job, ("x",), [[1, 0, 2]], begin=lambda: begun.append(1))

    assert len(begun) == len(outcomes) == 3
