"""Items on one executor, the nodes of each item on another: every pair that makes sense."""

import asyncio
import itertools
import pickle
import threading
from concurrent import futures
from contextvars import copy_context

import pytest
from pydantic import ValidationError

from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    Executor,
    Failure,
    HyperNodesError,
    NodeTimeoutError,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)
from hypernodes._kinds import AnyExecutor

LIMIT = 10.0
SEQUENTIAL = RuntimeConfig(executor="sequential")
PARTS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=3),
    "one-thread": ThreadPoolExecutor(max_workers=1),
    "async": AsyncExecutor(max_concurrency=3),
    "one-async": AsyncExecutor(max_concurrency=1),
    "process": ProcessPoolExecutor(max_workers=1),
}
PAIRS = {f"{m}-{n}": (PARTS[m], PARTS[n]) for m, n in itertools.product(PARTS, repeat=2)}
LOCAL_POOLS = {"thread": ThreadPoolExecutor, "async": AsyncExecutor}


def sized(kind, size):
    """Return an executor that runs `size` functions at once."""
    field = "max_workers" if kind == "thread" else "max_concurrency"
    return LOCAL_POOLS[kind](**{field: size})


def composed(map_executor, node_executor):
    """Return a config."""
    executor = CompositeExecutor(map_executor=map_executor, node_executor=node_executor)
    return RuntimeConfig(executor=executor)


@pytest.fixture(params=PAIRS.values(), ids=PAIRS.keys())
def pair(request):
    """A config for each pair of executors."""
    config = composed(*request.param)
    with config.executor:
        yield config


@pytest.fixture(params=itertools.product(LOCAL_POOLS, repeat=2), ids="-".join)
def kinds(request):
    """The kinds of two executors with workers that share our memory."""
    return request.param


def started(function):
    """Return the future of `function`, which runs in a thread of its own."""
    future = futures.Future()

    def call():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(call,), daemon=True).start()
    return future


def within(function):
    """Return what `function` returns; fail if that takes too long."""
    return started(function).result(LIMIT)


def spot():
    """Return which kind of worker this is."""
    return threading.current_thread().name.partition("_")[0]


# ---------------------------------------------------------------- as data


@pytest.mark.parametrize("first", ["thread", {"kind": "thread", "max_workers": 4}])
@pytest.mark.parametrize("second", ["async", {"kind": "async"}, AsyncExecutor()])
def test_fields_take_executors_short_names_and_tables(first, second):
    expected = CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=4), node_executor=AsyncExecutor()
    )
    assert CompositeExecutor(map_executor=first, node_executor=second) == expected


def test_a_config_can_name_it_and_comes_back_from_json(pair):
    data = pair.model_dump(mode="json")
    assert data["executor"]["kind"] == "composite"
    assert RuntimeConfig(**data) == pair


def test_a_file_can_hold_one(tmp_path):
    path = tmp_path / "hypernodes.toml"
    path.write_text(
        '[executor]\nkind = "composite"\nmap_executor = "thread"\n'
        '[executor.node_executor]\nkind = "async"\nmax_concurrency = 9\n',
        encoding="utf-8",
    )
    assert RuntimeConfig.from_file(path) == composed("thread", AsyncExecutor(max_concurrency=9))


def test_equal_parts_make_equal_composites_that_hash_and_pickle_alike():
    one, other = composed("thread", "async"), composed("thread", "async")
    assert one == other
    assert hash(one.executor) == hash(other.executor)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != composed("async", "thread")


@pytest.mark.parametrize("field", ["map_executor", "node_executor"])
def test_a_composite_in_a_composite_is_refused_with_a_remedy(field):
    inner = CompositeExecutor(map_executor="thread", node_executor="async")
    parts = {"map_executor": "thread", "node_executor": "thread"} | {field: inner}
    with pytest.raises(ValidationError, match=rf"(?s){field}.*give one of its parts"):
        CompositeExecutor(**parts)


@pytest.mark.parametrize("wrong", ["threads", 3, ThreadPoolExecutor, {"kind": "composite"}])
def test_what_is_no_executor_is_refused(wrong):
    with pytest.raises(ValidationError, match="node_executor"):
        CompositeExecutor(map_executor="thread", node_executor=wrong)


def test_both_parts_have_to_be_given():
    with pytest.raises(ValidationError, match="map_executor"):
        RuntimeConfig(executor="composite")


# ---------------------------------------------------------------- the same results


@node
def low(x):
    return x - 1


@node
async def high(x):
    await asyncio.sleep(0)
    return x + 1


@node(output_name=("total", "product"))
def both(low, high):
    return low + high, low * high


ITEM = Pipeline([low, high, both], name="item")


def nested(levels):
    """Return a pipeline that maps over lists in lists, so many levels deep, and their depth."""
    inner = ITEM
    for level in range(levels):
        name = f"level{level}"
        over = {"x": "x"} if level == 0 else {"xs": "xs"}
        renamed = {"xs": next(iter(over))}
        inner = Pipeline([inner.as_node(input_mapping=renamed, map_over="xs")], name=name)
    return inner


def test_a_run_gives_what_the_sequential_executor_gives(pair):
    assert within(lambda: ITEM.run({"x": 4}, config=pair)) == ITEM.run({"x": 4}, config=SEQUENTIAL)


@pytest.mark.parametrize("count", [0, 1, 2, 40])
@pytest.mark.parametrize("output", [None, "total", ("product", "low")])
def test_a_map_gives_what_the_sequential_executor_gives(pair, count, output):
    def mapped(config):
        return ITEM.map({"x": range(count)}, map_over="x", output_name=output, config=config)

    assert within(lambda: mapped(pair)) == mapped(SEQUENTIAL)


def test_a_map_over_what_a_node_would_make_leaves_that_node_out(pair):
    found = within(lambda: ITEM.map({"low": [1, 2], "x": 5}, map_over="low", config=pair))
    assert found == ITEM.map({"low": [1, 2], "x": 5}, map_over="low", config=SEQUENTIAL)


def test_a_map_in_which_nothing_is_left_to_do_gives_what_was_given(pair):
    made = within(lambda: ITEM.map({"low": [1, 2]}, map_over="low", output_name="low", config=pair))
    assert made == [{"low": 1}, {"low": 2}]


def test_lazy_maps_give_everything_in_order_or_with_indexes(pair):
    def mapped(config, *, ordered):
        found = ITEM.map_iter({"x": iter(range(60))}, map_over="x", ordered=ordered, config=config)
        return list(found)

    expected = mapped(SEQUENTIAL, ordered=True)
    assert within(lambda: mapped(pair, ordered=True)) == expected
    assert sorted(within(lambda: mapped(pair, ordered=False))) == list(enumerate(expected))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_nested_maps_give_the_same_at_any_depth_with_few_workers(pair, levels):
    values = range(3)
    for _ in range(levels):
        values = [values] * 3
    pipeline = nested(levels)
    found = within(lambda: pipeline.run({"xs": values[0]}, config=pair))
    assert found == pipeline.run({"xs": values[0]}, config=SEQUENTIAL)
    found = within(lambda: pipeline.map({"xs": values}, map_over="xs", config=pair))
    assert found == pipeline.map({"xs": values}, map_over="xs", config=SEQUENTIAL)


def test_code_in_nodes_that_calls_run_and_map_works_on_every_pair(pair):
    def deeper(x):
        item = ITEM.run({"x": x}, config=pair)["total"]
        return [
            item,
            *(made["total"] for made in ITEM.map({"x": [x] * 3}, map_over="x", config=pair)),
        ]

    pipeline = Pipeline([node("deeper")(deeper), node("other")(deeper)])
    found = within(lambda: pipeline.map({"x": range(6)}, map_over="x", config=pair))
    assert found == [{"deeper": [2 * x] * 4, "other": [2 * x] * 4} for x in range(6)]


def test_runs_whose_nodes_map_and_maps_whose_items_run_never_wait_for_each_other(pair):
    def mapping(n):
        return len(ITEM.map({"x": range(n)}, map_over="x", config=pair))

    plain, calling = ITEM, Pipeline([node("one")(mapping), node("two")(mapping)])
    runs = [
        started(run)
        for _ in range(4)
        for run in (
            lambda: calling.run({"n": 5}, config=pair),
            lambda: plain.map({"x": range(5)}, map_over="x", config=pair),
        )
    ]
    assert [len(run.result(LIMIT)) for run in runs] == [2, 5] * 4


# ---------------------------------------------------------------- who runs what


SEEN = []


class Probe(Executor):
    """Hands over to another executor, and notes down in which thread it was asked for each item."""

    inner: AnyExecutor

    def run_pipeline(self, pipeline, inputs, ctx, output_name=None):
        SEEN.append(spot())
        return self.inner.run_pipeline(pipeline, inputs, ctx, output_name)

    def map_items(self, pipeline, items, inputs, ctx, output_name=None):
        return self.inner.map_items(pipeline, items, inputs, ctx, output_name)


def spots():
    """Return an item with two nodes that tell where they run, at the same time."""
    meet = threading.Barrier(2)

    def here(x):
        meet.wait(LIMIT)
        return spot()

    return Pipeline([node("one")(here), node("two")(here)], name="spots")


def test_items_run_on_the_one_and_their_nodes_on_the_other(kinds):
    first, second = kinds
    config = composed(sized(first, 1), Probe(inner=sized(second, 2)))
    SEEN.clear()
    found = within(lambda: spots().map({"x": range(3)}, map_over="x", config=config))
    assert SEEN == [f"hypernodes-{first}"] * 3
    assert found == [{"one": f"hypernodes-{second}", "two": f"hypernodes-{second}"}] * 3
