"""How a plan falls into segments: what runs in one go, and what waits for what."""

from __future__ import annotations

import itertools
import random

import pytest

from hypernodes import Pipeline, RunContext, RuntimeConfig, SequentialExecutor, node

THREADS = RuntimeConfig(executor="thread")


def step(name, *inputs):
    """Return a node that makes `name` from `inputs`; several names may be separated by blanks."""
    names = tuple(name.split())
    source = f"lambda {', '.join(inputs)}: {tuple(range(len(names)))}"
    output = names if len(names) > 1 else name
    return node(output)(eval(source))  # noqa: S307 - parameters of any name


def engine_of(nodes, given=("x",), outputs=None):
    pipeline = nodes if isinstance(nodes, Pipeline) else Pipeline(nodes)
    return pipeline.engine(given, RunContext(THREADS, path=("p",)), outputs)


def split(nodes, **options):
    """Return the segments as lists of the names of their steps."""
    return [
        [" ".join(s.node.output_names) for s in segment.steps]
        for segment in engine_of(nodes, **options).segments
    ]


def waits(nodes, **options):
    """Return, for each segment by its first step, the first steps of those that follow."""
    segments = engine_of(nodes, **options).segments
    first = [segment.steps[0].node.output_names[0] for segment in segments]
    return {
        first[s.index]: (s.waits_for, sorted(first[index] for index in s.followers))
        for s in segments
    }


def test_a_chain_is_one_segment():
    assert split([step("a", "x"), step("b", "a"), step("c", "b")]) == [["a", "b", "c"]]


def test_a_chain_is_one_segment_whatever_else_its_steps_take_from_outside():
    nodes = [step("a", "x"), step("b", "a", "x"), step("c", "y", "b")]

    assert split(nodes, given=("x", "y")) == [["a", "b", "c"]]


def test_several_outputs_of_one_step_do_not_break_a_chain():
    assert split([step("a b", "x"), step("c", "a", "b"), step("d", "c")]) == [["a b", "c", "d"]]


def test_a_join_belongs_to_neither_of_its_branches():
    nodes = [step("a", "x"), step("b", "x"), step("c", "a", "b")]

    assert split(nodes) == [["a"], ["b"], ["c"]]


def test_a_fork_ends_a_segment():
    nodes = [step("a", "x"), step("b", "a"), step("c", "a")]

    assert split(nodes) == [["a"], ["b"], ["c"]]


def test_chains_go_on_behind_joins_and_forks():
    nodes = [
        step("a", "x"),
        step("b", "a"),
        step("c", "b"),
        step("d", "c"),
        step("e", "b"),
        step("f", "e"),
        step("g", "d", "f"),
        step("h", "g"),
    ]

    assert split(nodes) == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


def test_chains_are_merged_across_the_borders_of_nested_pipelines():
    inner = Pipeline([step("b", "a"), step("c", "b")], name="inner")

    assert split([step("a", "x"), inner, step("d", "c")]) == [["a", "b", "c", "d"]]


def test_a_value_that_is_asked_for_does_not_break_a_chain():
    nodes = [step("a", "x"), step("b", "a"), step("c", "b")]

    assert split(nodes, outputs=["a", "b", "c"]) == [["a", "b", "c"]]


def test_what_is_not_asked_for_makes_no_fork():
    nodes = [step("a", "x"), step("b", "a"), step("other", "a"), step("c", "b")]

    assert split(nodes, outputs="c") == [["a", "b", "c"]]


def test_a_mapped_pipeline_stays_alone():
    inner = Pipeline([step("c", "b"), step("d", "c")], name="inner")
    mapped = inner.as_node(map_over="b", output_mapping={"d": "ds"})
    nodes = [step("a", "x"), step("b", "a"), mapped, step("e", "ds"), step("f", "e")]

    assert split(nodes) == [["a", "b"], ["ds"], ["e", "f"]]


def test_what_runs_on_another_executor_stays_alone():
    away = RuntimeConfig(executor=SequentialExecutor())
    nodes = [step("a", "x"), step("b", "a").with_config(away), step("c", "b"), step("d", "c")]

    assert split(nodes) == [["a"], ["b"], ["c", "d"]]


def test_a_config_of_its_own_with_an_equal_executor_does_not_break_a_chain():
    own = THREADS.replace(retries=2)

    assert split([step("a", "x"), step("b", "a").with_config(own), step("c", "b")]) == [
        ["a", "b", "c"]
    ]


def test_segments_know_for_how_many_they_wait_and_who_waits_for_them():
    nodes = [
        step("a", "x"),
        step("b", "a"),
        step("c", "a"),
        step("d", "b", "c", "a"),
        step("lone", "x"),
    ]

    assert waits(nodes) == {
        "a": (0, ["b", "c", "d"]),
        "b": (1, ["d"]),
        "c": (1, ["d"]),
        "d": (3, []),
        "lone": (0, []),
    }


def test_several_values_of_one_segment_are_waited_for_once():
    nodes = [step("a b", "x"), step("c", "a", "b", "y"), step("y", "x")]

    assert waits(nodes)["c"] == (2, [])
    assert waits(nodes)["a"] == (0, ["c"])


def names_of(engine, slots):
    """Return what the slots hold, by the names in the pipeline."""
    plan = engine.plan
    names = {slot: name for name, slot in (plan.shared | plan.mapped).items()}
    for each in plan.steps:
        names |= dict(zip(each.outputs, each.node.output_names, strict=True))
    return [names[slot] for slot in slots]


def test_a_segment_takes_what_it_does_not_make_and_gives_what_others_need():
    engine = engine_of(
        [step("a", "x"), step("b", "a", "y"), step("c", "b"), step("d", "b"), step("e", "c", "d")],
        given=("x", "y"),
        outputs=["e", "a"],
    )
    first, *_, last = engine.segments

    assert sorted(names_of(engine, first.takes)) == ["x", "y"]
    assert sorted(names_of(engine, first.gives)) == ["a", "b"]
    assert sorted(names_of(engine, last.takes)) == ["c", "d"]
    assert names_of(engine, last.gives) == ["e"]


def test_values_inside_a_segment_are_spent_by_the_last_step_that_needs_them():
    engine = engine_of([step("a", "x"), step("b", "a"), step("c", "b", "x")], outputs="c")
    (segment,) = engine.segments

    assert [sorted(names_of(engine, spent)) for spent in segment.spent] == [[], ["a"], ["b", "x"]]


def test_a_value_that_is_asked_for_is_never_spent():
    engine = engine_of([step("a", "x"), step("b", "a")], outputs=["a", "b"])
    (segment,) = engine.segments

    assert [names_of(engine, spent) for spent in segment.spent] == [["x"], []]


def test_an_output_that_nobody_needs_is_spent_at_once():
    engine = engine_of([step("a b", "x"), step("c", "a")], outputs="c")
    (segment,) = engine.segments

    assert sorted(names_of(engine, segment.spent[0])) == ["b", "x"]


def random_nodes(seed, count=40):
    rng = random.Random(seed)
    nodes, names = [], ["x"]
    for number in range(count):
        taken = rng.sample(names, min(len(names), rng.choice([1, 1, 1, 2, 3])))
        nodes.append(step(f"n{number}", *taken))
        names = [*names, f"n{number}"][-6:]
    return nodes


@pytest.mark.parametrize("seed", range(20))
def test_each_step_lies_in_one_segment_and_none_waits_longer_than_for_its_inputs(seed):
    engine = engine_of(random_nodes(seed))
    segments = engine.segments
    place = {s.index: segment for segment in segments for s in segment.steps}
    made = {slot: s for s in engine.plan.steps for slot in s.outputs}

    assert sorted(place) == list(range(len(engine.plan.steps)))
    assert sum(len(segment.steps) for segment in segments) == len(place)
    for segment in segments:
        outside = {place[made[slot].index].index for slot in segment.takes if slot in made}
        first = {
            place[made[a.slot].index].index for a in segment.steps[0].arguments if a.slot in made
        }
        assert outside == first
        assert segment.waits_for == len(outside)
        for other in outside:
            assert segments[other].followers.count(segment.index) == 1
    for before, after in itertools.pairwise(segments):
        assert before.index + 1 == after.index
