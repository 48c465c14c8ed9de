"""Maps: what can be mapped over, in which order results come, failures, laziness."""

import gc
import itertools
import threading
import time
import weakref
from collections import Counter, OrderedDict, UserDict, deque
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes import (
    Failure,
    InputError,
    MissingInputError,
    Pipeline,
    RuntimeConfig,
    UnknownInputError,
    node,
)

SECONDS = 30

same = Pipeline([node("y")(lambda x: x)], name="same")
pair = Pipeline([node("pair")(lambda a, b: (a, b))], name="pair")


def broken(x):
    if x in {3, 5}:
        raise ValueError(f"no {x}")
    return x


sometimes = Pipeline([node("y")(broken)], name="sometimes")


def values(results, name="y"):
    return [result[name] for result in results]


# ---------------------------------------------------------------- zip and product


def test_one_result_for_each_item_in_order(config):
    assert same.map({"x": [3, 1, 2]}, map_over="x", config=config) == [
        {"y": 3},
        {"y": 1},
        {"y": 2},
    ]


def test_order_holds_when_items_finish_in_another(config):
    def slow_first(x):
        time.sleep(0.02 if x % 4 == 0 else 0)
        return x

    pipeline = Pipeline([node("y")(slow_first)])
    found = pipeline.map({"x": range(40)}, map_over="x", config=config)
    assert values(found) == list(range(40))
    found = pipeline.map_iter({"x": range(40)}, map_over="x", config=config)
    assert values(found) == list(range(40))


def test_zip_pairs_the_values(config):
    found = pair.map({"a": [1, 2], "b": ["x", "y"]}, map_over=["a", "b"], config=config)
    assert values(found, "pair") == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ["a", "b"]])
def test_product_takes_all_combinations_the_last_name_fastest(names, config):
    inputs = {"a": [1, 2, 3], "b": ["x", "y"]}
    found = pair.map(inputs, map_over=names, map_mode="product", config=config)
    columns = {name: number for number, name in enumerate(names)}
    rows = itertools.product(*(inputs[name] for name in names))
    assert values(found, "pair") == [(row[columns["a"]], row[columns["b"]]) for row in rows]


def test_product_of_one_name_is_a_plain_map(config):
    found = same.map({"x": [1, 2]}, map_over="x", map_mode="product", config=config)
    assert values(found) == [1, 2]


@pytest.mark.parametrize(
    ("inputs", "mode"),
    [
        ({"a": [], "b": []}, "zip"),
        ({"a": [], "b": [1, 2]}, "product"),
        ({"a": [1], "b": iter([])}, "product"),
        ({"a": iter([]), "b": iter([])}, "zip"),
    ],
)
def test_no_items_give_no_results(inputs, mode):
    for kind in ("sequential", "thread"):
        config = RuntimeConfig(executor=kind)
        assert pair.map(dict(inputs), map_over=["a", "b"], map_mode=mode, config=config) == []


def test_no_items_give_nothing_to_iterate(config):
    assert list(same.map_iter({"x": []}, map_over="x", config=config)) == []
    assert list(same.map_iter({"x": []}, map_over="x", config=config, ordered=False)) == []


def test_unequal_lengths_are_refused_with_each_length(config):
    with pytest.raises(ValueError, match="length") as caught:
        pair.map({"a": [1, 2], "b": range(17)}, map_over=["a", "b"], config=config)
    for word in ("'a'", "'b'", "2", "17"):
        assert word in str(caught.value)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2), (0, 1), (1, 0)])
@pytest.mark.parametrize("kinds", [(list, iter), (iter, list), (iter, iter)])
def test_unequal_lengths_of_iterators_are_refused_as_well(first, second, kinds, config):
    inputs = {"a": kinds[0](list(range(first))), "b": kinds[1](list(range(second)))}
    with pytest.raises(ValueError, match="length"):
        pair.map(inputs, map_over=["a", "b"], config=config, on_error="return")


@given(data=st.data())
def test_map_gives_what_single_runs_give(config, data):
    names = data.draw(st.permutations(["a", "b", "c"]))
    mapped = names[: data.draw(st.integers(1, 3))]
    mode = data.draw(st.sampled_from(["zip", "product"]))
    sizes = st.integers(0, 12 if mode == "zip" else 4)
    size = data.draw(sizes)
    inputs = {
        name: data.draw(st.lists(st.integers(), min_size=size, max_size=size))
        if name in mapped
        else name
        for name in names
    }
    pipeline = Pipeline(
        [node("d")(lambda a, b: (a, b)), node("e")(lambda c: [c]), node("f")(lambda d, e: (d, e))]
    )
    combine = zip if mode == "zip" else itertools.product
    rows = [dict(zip(mapped, row, strict=True)) for row in combine(*(inputs[n] for n in mapped))]
    expected = [pipeline.run(inputs | row) for row in rows]
    options = {"map_over": mapped, "map_mode": mode, "config": config}
    assert pipeline.map(inputs, **options) == expected
    assert list(pipeline.map_iter(inputs, **options)) == expected
    unordered = list(pipeline.map_iter(inputs, **options, ordered=False))
    assert sorted(index for index, _ in unordered) == list(range(len(expected)))
    assert all(result == expected[index] for index, result in unordered)


# ---------------------------------------------------------------- what can be mapped over


class Sequence:
    """Has a length and items, and nothing else."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return range(1, 4)[index]


ITERABLES = {
    "list": lambda: [1, 2, 3],
    "tuple": lambda: (1, 2, 3),
    "range": lambda: range(1, 4),
    "set": lambda: {1, 2, 3},
    "deque": lambda: deque([1, 2, 3]),
    "generator": lambda: (x for x in [1, 2, 3]),
    "iterator": lambda: iter([1, 2, 3]),
    "map": lambda: map(int, "123"),
    "dict keys": {1: 0, 2: 0, 3: 0}.keys,
    "dict values": {"a": 1, "b": 2, "c": 3}.values,
    "numpy array": lambda: np.array([1, 2, 3]),
    "pandas series": lambda: pd.Series([1, 2, 3], index=[7, 8, 9]),
    "pandas index": lambda: pd.Index([1, 2, 3]),
    "old sequence": Sequence,
}


@pytest.mark.parametrize("make", ITERABLES.values(), ids=ITERABLES.keys())
@pytest.mark.parametrize("mode", ["zip", "product"])
def test_any_iterable_can_be_mapped_over(make, mode, config):
    options = {"map_over": "x", "map_mode": mode, "config": config}
    assert values(same.map({"x": make()}, **options)) == [1, 2, 3]
    assert values(same.map_iter({"x": make()}, **options)) == [1, 2, 3]
    combined = pair.map({"a": make(), "b": make()}, **options | {"map_over": ["a", "b"]})
    assert len(combined) == (3 if mode == "zip" else 9)


def test_rows_of_an_array_are_its_items(config):
    found = values(same.map({"x": np.arange(6).reshape(3, 2)}, map_over="x", config=config))
    assert [row.tolist() for row in found] == [[0, 1], [2, 3], [4, 5]]


def test_values_of_an_array_keep_their_type(config):
    found = values(same.map({"x": np.array([1.5, 2.5])}, map_over="x", config=config))
    assert [type(value) for value in found] == [np.float64, np.float64]


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        bytearray(b"bytes"),
        np.str_("text"),
        {"a": 1},
        OrderedDict(a=1),
        UserDict(a=1),
        Counter("aab"),
        MappingProxyType({"a": 1}),
        5,
        None,
        3.5,
        object(),
        np.array(5),
        np.float64(2),
        pd.DataFrame({"a": [1], "b": [2]}),
        list,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("mode", ["zip", "product"])
def test_what_is_one_value_is_refused_at_the_call(value, mode):
    for method in (same.map, same.map_iter):
        with pytest.raises(InputError, match="'x'") as caught:
            method({"x": value}, map_over="x", map_mode=mode)
        assert caught.value.name == "x"


# ---------------------------------------------------------------- inputs


def test_other_inputs_are_the_same_object_for_all_items(config):
    shared = [1, 2]
    pipeline = Pipeline([node("y")(lambda x, shared: shared)])
    found = pipeline.map({"x": range(30), "shared": shared}, map_over="x", config=config)
    assert all(result["y"] is shared for result in found)


def test_bound_values_and_defaults_are_the_same_object_for_all_items(config):
    default = object()
    pipeline = Pipeline([node("y")(lambda x, bound, default=default: (bound, default))])
    thing = object()
    found = pipeline.bind(bound=thing).map({"x": range(10)}, map_over="x", config=config)
    assert all(result["y"][0] is thing and result["y"][1] is default for result in found)


def test_items_arrive_as_the_objects_they_are(config):
    things = [object() for _ in range(10)]
    found = values(same.map({"x": things}, map_over="x", config=config))
    assert all(value is thing for value, thing in zip(found, things, strict=True))


def test_items_get_dicts_of_their_own(config):
    first, second = same.map({"x": [1, 1]}, map_over="x", config=config)
    first["y"] = "changed"
    assert second == {"y": 1}


def test_inputs_are_not_changed_by_a_map(config):
    inputs = {"x": [1, 2], "unused": 0}
    Pipeline([node("y")(lambda x: x), node("z")(lambda unused: 0)]).map(
        inputs, map_over="x", config=config
    )
    assert inputs == {"x": [1, 2], "unused": 0}


def test_intermediate_can_be_mapped_over(config):
    pipeline = Pipeline([node("a")(lambda x: x), node("b")(lambda a: a * 2)])
    assert pipeline.map({"a": [1, 2]}, map_over="a", config=config) == [
        {"a": 1, "b": 2},
        {"a": 2, "b": 4},
    ]


def test_bound_value_can_be_mapped_over(config):
    bound = same.bind(x=[1, 2])
    assert values(bound.map({}, map_over="x", config=config)) == [1, 2]
    assert values(bound.map({"x": [3]}, map_over="x", config=config)) == [3]


def test_input_with_a_default_can_be_mapped_over_and_need_not_be():
    pipeline = Pipeline([node("y")(lambda a, b=10: a + b)])
    assert values(pipeline.map({"a": [1, 2]}, map_over="a")) == [11, 12]
    assert values(pipeline.map({"a": 1, "b": [1, 2]}, map_over="b")) == [2, 3]


def test_only_asked_for_outputs_are_computed(config):
    calls = []
    pipeline = Pipeline([node("y")(lambda x: x), node("z")(calls.append).rename({"object": "w"})])
    found = pipeline.map({"x": [1, 2]}, map_over="x", output_name="y", config=config)
    assert found == [{"y": 1}, {"y": 2}]
    assert calls == []


def test_mapped_input_that_nothing_needs_still_counts_the_items(config):
    pipeline = Pipeline([node("y")(lambda x: x), node("z")(lambda w: w)])
    found = pipeline.map({"w": [1, 2, 3], "x": 5}, map_over="w", output_name="y", config=config)
    assert found == [{"y": 5}] * 3


def test_each_item_runs_once(config):
    calls = []
    pipeline = Pipeline([node("y")(lambda x: calls.append(x) or x)])
    pipeline.map({"x": range(500)}, map_over="x", config=config)
    assert sorted(calls) == list(range(500))


def test_ten_thousand_items_come_back_in_order(config):
    assert values(same.map({"x": range(10_000)}, map_over="x", config=config)) == list(
        range(10_000)
    )


def test_items_overlap_on_threads(threads):
    barrier = threading.Barrier(4)
    pipeline = Pipeline([node("y")(lambda x: barrier.wait(SECONDS) and 0)])
    assert len(pipeline.map({"x": range(8)}, map_over="x", config=threads)) == 8


def test_few_items_overlap_on_threads(threads):
    barrier = threading.Barrier(2)
    pipeline = Pipeline([node("y")(lambda x: barrier.wait(SECONDS) and 0)])
    assert len(pipeline.map({"x": range(2)}, map_over="x", config=threads)) == 2


def test_no_more_items_than_workers_run_at_once():
    running, most, lock = set(), [0], threading.Lock()

    def counted(x):
        with lock:
            running.add(x)
            most[0] = max(most[0], len(running))
        time.sleep(0.005)
        with lock:
            running.discard(x)

    config = RuntimeConfig(executor={"kind": "thread", "max_workers": 3})
    Pipeline([node(counted)]).map({"x": range(30)}, map_over="x", config=config)
    assert most[0] <= 3


def test_slow_item_delays_no_other(threads):
    others = threading.Semaphore(0)

    def waits(x):
        if x == 0:
            return all(others.acquire(timeout=SECONDS) for _ in range(50))
        others.release()
        return x

    found = values(Pipeline([node("y")(waits)]).map({"x": range(51)}, map_over="x", config=threads))
    assert found == [True, *range(1, 51)]


# ---------------------------------------------------------------- validation at the call


BOTH = pytest.mark.parametrize("method", ["map", "map_iter"])


@BOTH
@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"map_mode": "zap"}, "map_mode"),
        ({"map_mode": None}, "map_mode"),
        ({"map_mode": ["zip"]}, "map_mode"),
        ({"on_error": "ignore"}, "on_error"),
        ({"on_error": None}, "on_error"),
        ({"map_over": []}, "map_over"),
        ({"map_over": None}, "map_over"),
        ({"map_over": 3}, "map_over"),
        ({"map_over": ["x", "x"]}, "map_over"),
        ({"map_over": ["x", 3]}, "map_over"),
        ({"output_name": "why"}, "why"),
        ({"config": "thread"}, "config"),
    ],
)
def test_wrong_arguments_are_input_errors_at_the_call(method, arguments, argument):
    with pytest.raises(InputError, match=argument):
        getattr(same, method)(**{"inputs": {"x": [1]}, "map_over": "x"} | arguments)


@BOTH
def test_map_over_a_name_without_a_value_is_missing(method):
    with pytest.raises(MissingInputError, match="'a'") as caught:
        getattr(pair, method)({"b": 1}, map_over="a")
    assert caught.value.missing == ("a",)


@BOTH
def test_map_over_an_unknown_name_comes_with_the_nearest(method):
    with pytest.raises(UnknownInputError) as caught:
        getattr(sometimes, method)({"xx": [1], "x": 1}, map_over="xx")
    assert (caught.value.name, caught.value.suggestion) == ("xx", "x")


@BOTH
def test_missing_and_unknown_shared_inputs_are_refused_at_the_call(method):
    with pytest.raises(MissingInputError) as caught:
        getattr(pair, method)({"a": [1]}, map_over="a")
    assert caught.value.missing == ("b",)
    with pytest.raises(UnknownInputError):
        getattr(pair, method)({"a": [1], "b": 1, "c": 1}, map_over="a")


@BOTH
def test_unequal_lengths_are_refused_at_the_call(method):
    with pytest.raises(ValueError, match="length"):
        getattr(pair, method)({"a": [1], "b": [1, 2]}, map_over=["a", "b"])


@BOTH
def test_inputs_that_are_no_mapping_are_refused_at_the_call(method):
    with pytest.raises(InputError, match="mapping"):
        getattr(same, method)([1, 2], map_over="x")


def test_nothing_runs_when_the_inputs_are_wrong(config):
    calls = []
    pipeline = Pipeline([node("y")(lambda a, b: calls.append(a))])
    with pytest.raises(ValueError, match="length"):
        pipeline.map({"a": [1], "b": [1, 2]}, map_over=["a", "b"], config=config)
    assert calls == []


# ---------------------------------------------------------------- failures


def test_first_failure_is_raised_as_its_own_type(config):
    with pytest.raises(ValueError, match="no 3"):
        sometimes.map({"x": [1, 2, 3, 4]}, map_over="x", config=config)


def test_failure_cancels_what_has_not_started(config):
    started = []
    gate = threading.Event()

    def fails_first(x):
        started.append(x)
        if x == 0:
            raise ValueError("first")
        gate.wait(0.02)
        return x

    with pytest.raises(ValueError, match="first"):
        Pipeline([node("y")(fails_first)]).map({"x": range(2000)}, map_over="x", config=config)
    gate.set()
    time.sleep(0.1)
    assert len(started) < 1000


def test_failures_are_returned_in_their_places(config):
    found = sometimes.map({"x": range(8)}, map_over="x", on_error="return", config=config)
    assert [type(result) for result in found] == [
        Failure if x in {3, 5} else dict for x in range(8)
    ]
    assert values([result for result in found if isinstance(result, dict)]) == [0, 1, 2, 4, 6, 7]


def test_failure_tells_the_facts(config):
    pipeline = Pipeline([node(broken), node("z")(lambda broken: broken)], name="outer")
    found = pipeline.map({"x": [1, 3, 2, 5]}, map_over="x", on_error="return", config=config)
    for index, x in ((1, 3), (3, 5)):
        failure = found[index]
        assert isinstance(failure, Failure)
        assert isinstance(failure.error, ValueError)
        assert str(failure.error) == f"no {x}"
        assert (failure.index, failure.node, failure.path) == (index, "broken", ("outer", "broken"))
        assert dict(failure.inputs) == {"x": x}
        assert failure.attempts == 1


def test_inputs_of_a_failure_are_the_items_own(config):
    pipeline = Pipeline([node("y")(lambda a, b, shared: 1 / a)])
    (failure,) = pipeline.map(
        {"a": [0], "b": [5], "shared": 7},
        map_over=["a", "b"],
        on_error="return",
        config=config,
    )
    assert dict(failure.inputs) == {"a": 0, "b": 5}


def test_failure_inside_a_nested_pipeline_tells_the_path(config):
    outer = Pipeline([sometimes], name="outer")
    found = outer.map({"x": [1, 3]}, map_over="x", on_error="return", config=config)
    assert found[1].path == ("outer", "sometimes", "broken")
    assert (found[1].node, found[1].index) == ("broken", 1)


def test_failure_inside_a_nested_map_tells_the_outer_item(config):
    outer = Pipeline([sometimes.as_node(map_over="x")], name="outer")
    found = outer.map({"x": [[1, 2], [4, 5, 6]]}, map_over="x", on_error="return", config=config)
    assert found[0] == {"y": [1, 2]}
    failure = found[1]
    assert (failure.index, failure.node) == (1, "broken")
    assert failure.path == ("outer", "sometimes", "broken")
    assert dict(failure.inputs) == {"x": [4, 5, 6]}
    notes = " ".join(failure.error.__notes__)
    assert "item 1" in notes


@pytest.mark.parametrize("inner_kind", ["sequential", "thread"])
@pytest.mark.parametrize("level", ["node", "pipeline"])
def test_failure_under_a_config_of_its_own_tells_the_same(config, inner_kind, level):
    own = RuntimeConfig(executor={"kind": inner_kind})
    made = node(broken)
    inner = Pipeline([made.with_config(own) if level == "node" else made], name="inner")
    inner = inner.with_config(own) if level == "pipeline" else inner
    outer = Pipeline([inner, node("z")(lambda broken: 0)], name="outer", config=config)
    found = outer.map({"x": [1, 3, 2]}, map_over="x", on_error="return")
    assert [type(result) for result in found] == [dict, Failure, dict]
    failure = found[1]
    assert (failure.index, failure.node, failure.attempts) == (1, "broken", 1)
    assert failure.path == ("outer", "inner", "broken")
    assert dict(failure.inputs) == {"x": 3}


def test_all_items_may_fail(config):
    found = sometimes.map({"x": [3] * 50}, map_over="x", on_error="return", config=config)
    assert [failure.index for failure in found] == list(range(50))


def test_pipeline_works_after_a_failure(config):
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            sometimes.map({"x": range(100)}, map_over="x", config=config)
        assert values(sometimes.map({"x": [1]}, map_over="x", config=config)) == [1]


# ---------------------------------------------------------------- map_iter


def test_results_come_one_by_one_in_order(config):
    results = same.map_iter({"x": range(100)}, map_over="x", config=config)
    assert next(results) == {"y": 0}
    assert next(results) == {"y": 1}
    assert values(results) == list(range(2, 100))
    with pytest.raises(StopIteration):
        next(results)


def test_results_come_as_pairs_as_they_finish(config):
    pairs = list(same.map_iter({"x": range(100)}, map_over="x", config=config, ordered=False))
    assert sorted(pairs, key=lambda entry: entry[0]) == [(n, {"y": n}) for n in range(100)]


def test_finished_items_do_not_wait_for_slow_ones_when_unordered(threads):
    gate = threading.Event()
    pipeline = Pipeline([node("y")(lambda x: x or gate.wait(SECONDS))])
    results = pipeline.map_iter({"x": range(4)}, map_over="x", config=threads, ordered=False)
    first = [next(results) for _ in range(3)]
    gate.set()
    assert {index for index, _ in first} == {1, 2, 3}
    assert list(results) == [(0, {"y": True})]


def test_items_are_taken_as_results_are_consumed_one_by_one_when_sequential(sequential):
    taken = []
    numbers = (taken.append(n) or n for n in itertools.count())
    results = same.map_iter({"x": numbers}, map_over="x", config=sequential)
    for expected in range(10):
        assert next(results) == {"y": expected}
        assert len(taken) <= expected + 2


def test_infinite_inputs_are_taken_a_bounded_number_ahead(config):
    taken = []
    numbers = (taken.append(n) or n for n in itertools.count())
    results = same.map_iter({"x": numbers}, map_over="x", config=config)
    for expected in range(5000):
        assert next(results) == {"y": expected}
        assert len(taken) <= expected + 2000
    before = len(taken)
    time.sleep(0.05)
    assert len(taken) == before
    results.close()


def test_infinite_inputs_of_several_names_are_zipped_lazily(config):
    results = pair.map_iter(
        {"a": itertools.count(), "b": itertools.count(10)}, map_over=["a", "b"], config=config
    )
    assert values(itertools.islice(results, 3), "pair") == [(0, 10), (1, 11), (2, 12)]
    results.close()


def test_consumer_gets_each_result_before_the_next_item_is_asked_for(sequential):
    got_first = threading.Event()

    def producer():
        yield 0
        yield 1 if got_first.wait(SECONDS / 10) else "too late"

    results = same.map_iter({"x": producer()}, map_over="x", config=sequential)
    assert next(results) == {"y": 0}
    got_first.set()
    assert values(results) == [1]


def test_closing_early_cancels_the_rest(config):
    started = []

    def slow(x):
        started.append(x)
        time.sleep(0.002)
        return x

    pipeline = Pipeline([node("y")(slow)])
    results = pipeline.map_iter({"x": range(100_000)}, map_over="x", config=config)
    next(results)
    results.close()
    assert settled(started) < 5000
    with pytest.raises(StopIteration):
        next(results)


def test_leaving_a_loop_cancels_the_rest(config):
    started = []
    pipeline = Pipeline([node("y")(lambda x: started.append(x) or time.sleep(0.002))])
    for _ in pipeline.map_iter({"x": itertools.count()}, map_over="x", config=config):
        break
    gc.collect()
    settled(started)


def settled(begun):
    """Return how many there are, once threads have begun what they had in hand."""
    deadline, count = time.monotonic() + SECONDS, -1
    while count < len(begun):
        assert time.monotonic() < deadline
        count = len(begun)
        time.sleep(0.1)
    return count


def test_iterator_that_was_never_started_can_be_closed(config):
    results = same.map_iter({"x": itertools.count()}, map_over="x", config=config)
    results.close()
    assert list(results) == []


def test_results_that_were_consumed_are_let_go(config):
    class Large:
        pass

    pipeline = Pipeline([node("y")(lambda x: Large() or x)])
    results = pipeline.map_iter({"x": range(50)}, map_over="x", config=config)
    watched = weakref.ref(next(results)["y"])
    for _ in range(20):
        next(results)
    end = time.monotonic() + SECONDS
    while watched() is not None and time.monotonic() < end:
        time.sleep(0.001)  # a worker drops its last piece of work in a moment
        gc.collect()
    assert watched() is None
    results.close()


def test_failure_is_raised_where_it_stands_in_the_order(config):
    results = sometimes.map_iter({"x": range(8)}, map_over="x", config=config)
    got = []
    with pytest.raises(ValueError, match="no 3"):
        got.extend(iter(lambda: next(results)["y"], "end"))
    assert got == [0, 1, 2]
    with pytest.raises(StopIteration):
        next(results)


def test_failures_are_returned_where_they_stand(config):
    found = list(
        sometimes.map_iter({"x": range(8)}, map_over="x", on_error="return", config=config)
    )
    assert [number for number, r in enumerate(found) if isinstance(r, Failure)] == [3, 5]
    pairs = sometimes.map_iter(
        {"x": range(8)}, map_over="x", on_error="return", ordered=False, config=config
    )
    assert sorted(index for index, r in pairs if isinstance(r, Failure)) == [3, 5]


def broken_generator():
    yield 1
    yield 2
    yield 3
    raise KeyError("the user's generator")


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_error_of_the_users_generator_surfaces_as_itself(on_error, config):
    with pytest.raises(KeyError, match="the user's generator"):
        same.map({"x": broken_generator()}, map_over="x", on_error=on_error, config=config)
    with pytest.raises(KeyError, match="the user's generator"):
        list(same.map_iter({"x": broken_generator()}, map_over="x", config=config))


def test_error_of_the_users_generator_comes_after_the_results_of_the_items_before(config):
    got = []
    with pytest.raises(KeyError, match="the user's generator"):
        got.extend(
            result["y"]
            for result in same.map_iter({"x": broken_generator()}, map_over="x", config=config)
        )
    assert got == [1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_error_of_the_users_generator_is_never_lost_wherever_it_stands(ordered, config):
    def fails_after(count):
        yield from range(count)
        raise KeyError("the user's generator")

    for count in range(1, 40):
        seen = []
        results = same.map_iter(
            {"x": fails_after(count)}, map_over="x", config=config, ordered=ordered
        )
        with pytest.raises(KeyError, match="the user's generator"):
            seen.extend(results)
        with pytest.raises(KeyError, match="the user's generator"):
            same.map({"x": fails_after(count)}, map_over="x", config=config)


def test_users_generator_is_closed_with_the_iterator(config):
    closed = threading.Event()

    def numbers():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = same.map_iter({"x": numbers()}, map_over="x", config=config)
    next(results)
    results.close()
    del results
    for _ in range(100):  # a worker may hold on to it for a moment
        gc.collect()
        if closed.wait(0.05):
            break
    assert closed.is_set()


def test_two_iterators_of_one_pipeline_do_not_disturb_each_other(config):
    first = same.map_iter({"x": range(50)}, map_over="x", config=config)
    second = same.map_iter({"x": range(100, 150)}, map_over="x", config=config)
    mixed = [(next(first)["y"], next(second)["y"]) for _ in range(50)]
    assert mixed == [(n, n + 100) for n in range(50)]


def test_map_inside_the_consumer_of_a_map_works(config):
    found = [
        values(same.map({"x": range(result["y"])}, map_over="x", config=config))
        for result in same.map_iter({"x": range(5)}, map_over="x", config=config)
    ]
    assert found == [list(range(n)) for n in range(5)]


def test_map_inside_the_users_generator_works(config):
    def numbers():
        for _ in range(5):
            yield sum(values(same.map({"x": range(4)}, map_over="x", config=config)))

    assert values(same.map({"x": numbers()}, map_over="x", config=config)) == [6] * 5


@pytest.mark.parametrize("way", ["run", "map"])
def test_pipelines_called_inside_nodes_never_deadlock(way, config):
    def inside(x):
        if way == "run":
            return pair.run({"a": x, "b": x}, config=config)["pair"]
        return values(same.map({"x": [x, x]}, map_over="x", config=config))

    middle = Pipeline([node("z")(inside), node("z2")(inside), node("z3")(lambda z, z2: (z, z2))])

    def outermost(x):
        return values(middle.map({"x": [x] * 6}, map_over="x", config=config), "z3")

    found = Pipeline([node("y")(outermost)]).map({"x": range(6)}, map_over="x", config=config)
    assert [len(value) for value in values(found)] == [6] * 6


USER_THREADS = """
import contextvars, threading
from hypernodes import Pipeline, RuntimeConfig, ThreadPoolExecutor, node

config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))
inner = Pipeline([node("y")(lambda x: x)])

def starts_a_thread(x):
    found = []
    def work():
        found.extend(inner.map({"x": [1, 2, 3]}, map_over="x", config=config))
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    thread.join()
    return found

outer = Pipeline([node("y")(starts_a_thread)])
found = outer.map({"x": [1, 2]}, map_over="x", config=config)
assert found == [{"y": [{"y": 1}, {"y": 2}, {"y": 3}]}] * 2
"""


def test_map_in_a_thread_with_its_nodes_context_does_not_deadlock(run_script):
    run_script(USER_THREADS)


class OneShot:
    """Rows behind a header that is read when iteration begins, as readers and cursors do."""

    def __init__(self, *rows):
        self._rows = iter(["header", *rows])

    def __iter__(self):
        next(self._rows)
        return self._rows


def test_values_are_gone_through_once_and_none_is_lost(config):
    assert same.map({"x": OneShot(1, 2, 3)}, map_over="x", config=config) == [
        {"y": 1},
        {"y": 2},
        {"y": 3},
    ]
    assert values(same.map_iter({"x": OneShot(1, 2)}, map_over="x", config=config)) == [1, 2]


def test_lazy_results_that_a_node_makes_outlive_its_run(config):
    def later(x):
        return same.map_iter({"x": [x, x + 1]}, map_over="x", config=config)

    pipeline = Pipeline([node("results")(later), node("beside")(lambda x: x)])
    found = pipeline.run({"x": 1}, config=config)
    assert values(found["results"]) == [1, 2]
    (item,) = pipeline.map({"x": [5]}, map_over="x", config=config)
    assert values(item["results"]) == [5, 6]
