"""Items on one executor, the nodes of each item on another: every pair that makes sense."""

import asyncio
import itertools
import os
import pickle
import threading
from concurrent import futures
from contextvars import copy_context
from functools import partial

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
    SerializationError,
    ThreadPoolExecutor,
    WorkerCrashedError,
    node,
)
from hypernodes._kinds import AnyExecutor

LIMIT = 30.0
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
LOCAL_PAIRS = {name: pair for name, pair in PAIRS.items() if "process" not in name}
PAIRS["process-processes"] = PARTS["process"], ProcessPoolExecutor(max_workers=2)
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
    return composed(*request.param)


@pytest.fixture(params=LOCAL_PAIRS.values(), ids=LOCAL_PAIRS.keys())
def local_pair(request):
    """A config for each pair of executors that share our memory."""
    return composed(*request.param)


@pytest.fixture(scope="module", autouse=True)
def _closed():
    yield
    for part in PARTS.values():
        part.close()


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
    assert list(SEEN) == [f"hypernodes-{first}"] * 3
    assert found == [{"one": f"hypernodes-{second}", "two": f"hypernodes-{second}"}] * 3


def test_a_run_has_its_nodes_on_the_one_and_the_items_of_its_maps_on_the_other(kinds):
    first, second = kinds
    config = composed(sized(first, 2), Probe(inner=sized(second, 4)))
    item = spots().as_node(input_mapping={"xs": "x"}, map_over="xs")
    here, meet = [], threading.Barrier(2)

    def beside(xs):
        meet.wait(LIMIT)
        here.append(spot())

    nodes = [item, node("left")(beside), node("right")(beside)]
    SEEN.clear()
    found = within(lambda: Pipeline(nodes).run({"xs": [1, 2, 3]}, config=config))
    assert SEEN[1:] == [f"hypernodes-{first}"] * 3
    assert found["one"] == found["two"] == [f"hypernodes-{second}"] * 3
    assert here == [f"hypernodes-{second}"] * 2


def test_items_overlap_as_far_as_the_one_goes_and_their_nodes_as_far_as_the_other(kinds):
    config = composed(sized(kinds[0], 2), sized(kinds[1], 6))
    meet = threading.Barrier(6)

    def wait(x):
        meet.wait(LIMIT)
        return x

    pipeline = Pipeline([node(f"n{i}")(wait) for i in range(3)])
    found = within(lambda: pipeline.map({"x": range(8)}, map_over="x", config=config))
    assert found == [{f"n{i}": x for i in range(3)} for x in range(8)]


@pytest.mark.parametrize("kind", LOCAL_POOLS)
def test_no_more_items_are_under_way_than_their_executor_allows(kind):
    config = composed(sized(kind, 2), sized("thread", 8))
    lock, under_way, most = threading.Lock(), set(), []

    def enter(x):
        with lock:
            under_way.add(x)
            most.append(len(under_way))

    def leave(x, one, two):
        with lock:
            under_way.discard(x)

    nodes = [node("one")(enter), node("two")(enter), node("end")(leave)]
    within(lambda: Pipeline(nodes).map({"x": range(50)}, map_over="x", config=config))
    assert max(most) <= 2


@pytest.mark.parametrize("kind", LOCAL_POOLS)
def test_maps_inside_an_item_overlap_on_the_executor_of_the_nodes(kind):
    config = composed(ThreadPoolExecutor(max_workers=1), sized(kind, 3))
    meet = threading.Barrier(3)

    def wait(x):
        meet.wait(LIMIT)
        return spot()

    item = Pipeline([node("y")(wait)], name="inner")
    outer = Pipeline([item.as_node(input_mapping={"xs": "x"}, map_over="xs")])
    found = within(lambda: outer.map({"xs": [range(6)] * 2}, map_over="xs", config=config))
    assert found == [{"y": [f"hypernodes-{kind}"] * 6}] * 2


def test_coroutines_of_items_on_threads_share_one_loop():
    config = composed(ThreadPoolExecutor(max_workers=3), AsyncExecutor())
    loops, meet = set(), asyncio.Barrier(6)

    async def wait(x):
        loops.add(asyncio.get_running_loop())
        await asyncio.wait_for(meet.wait(), LIMIT)
        return spot()

    pipeline = Pipeline([node("one")(wait), node("two")(wait)])
    found = within(lambda: pipeline.map({"x": range(3)}, map_over="x", config=config))
    assert found == [{"one": "hypernodes-loop", "two": "hypernodes-loop"}] * 3
    assert len(loops) == 1


@pytest.mark.parametrize("node_executor", ["sequential", "thread", "async"])
def test_items_in_processes_have_their_nodes_in_the_same_process(node_executor):
    def place(x):
        import os
        import threading

        return os.getpid(), threading.current_thread().name.partition("_")[0]

    pipeline = Pipeline([node("one")(place), node("two")(place)])
    config = composed(ProcessPoolExecutor(max_workers=1), node_executor)
    kind = {"sequential": "MainThread"}.get(node_executor, f"hypernodes-{node_executor}")
    for found in within(lambda: pipeline.map({"x": range(3)}, map_over="x", config=config)):
        assert found["one"][0] == found["two"][0] != os.getpid()
        assert found["one"][1] == found["two"][1] == kind


@pytest.mark.parametrize("map_executor", ["sequential", "thread", "async"])
def test_items_here_have_their_nodes_in_processes(map_executor):
    def place(x):
        import os

        return os.getpid()

    pipeline = Pipeline([node("one")(place), node("two")(place)])
    config = composed(map_executor, ProcessPoolExecutor(max_workers=1))
    found = within(lambda: pipeline.map({"x": range(3)}, map_over="x", config=config))
    assert os.getpid() not in {pid for item in found for pid in item.values()}


# ---------------------------------------------------------------- with the sequential executor


def test_nodes_of_sequential_items_follow_one_another_though_workers_are_free():
    config = composed(ThreadPoolExecutor(max_workers=4), "sequential")
    busy, overlaps = threading.Lock(), []

    def work(x):
        overlaps.append(not busy.acquire(blocking=False))
        overlaps.append(ITEM.run({"x": 1}, config=SEQUENTIAL)["total"] != 2)
        busy.release()

    pipeline = Pipeline([node(f"n{i}")(work) for i in range(6)])
    within(lambda: pipeline.map({"x": [1]}, map_over="x", config=config))
    inner = pipeline.as_node(input_mapping={"xs": "x"}, map_over="xs", name="inner")
    within(lambda: Pipeline([inner]).map({"xs": [[1]]}, map_over="xs", config=config))
    assert not any(overlaps)


@pytest.mark.parametrize("kind", LOCAL_POOLS)
def test_maps_inside_sequential_items_use_the_workers_that_the_items_leave(kind):
    config = composed(sized(kind, 4), "sequential")
    meet = threading.Barrier(4)

    def wait(x):
        meet.wait(LIMIT)
        return spot()

    item = Pipeline([node("y")(wait)], name="inner")
    outer = Pipeline([item.as_node(input_mapping={"xs": "x"}, map_over="xs")])
    found = within(lambda: outer.map({"xs": [range(4)] * 2}, map_over="xs", config=config))
    assert found == [{"y": [f"hypernodes-{kind}"] * 4}] * 2


def test_coroutines_of_sequential_items_are_awaited_together():
    config = composed(AsyncExecutor(), "sequential")
    meet = asyncio.Barrier(100)

    async def wait(x):
        await asyncio.wait_for(meet.wait(), LIMIT)
        return x

    pipeline = Pipeline([node("y")(wait), node("z")(lambda y: y)])
    found = within(lambda: pipeline.map({"x": range(100)}, map_over="x", config=config))
    assert found == [{"y": x, "z": x} for x in range(100)]


def test_two_equal_executors_do_what_one_does_alone():
    config = composed(ThreadPoolExecutor(max_workers=4), ThreadPoolExecutor(max_workers=4))
    meet = threading.Barrier(4)

    def wait(x):
        meet.wait(LIMIT)
        return x

    pipeline = Pipeline([node(f"n{i}")(wait) for i in range(2)])
    found = within(lambda: pipeline.map({"x": [1, 2]}, map_over="x", config=config))
    assert found == [{"n0": 1, "n1": 1}, {"n0": 2, "n1": 2}]


# ---------------------------------------------------------------- configs of their own


def test_a_node_and_a_mapped_pipeline_with_a_config_of_their_own_run_under_it(kinds):
    config = composed(sized(kinds[0], 2), sized(kinds[1], 3))
    here = node("own", config=SEQUENTIAL)(lambda x: spot())
    over = Pipeline([node("y")(lambda x: spot())], name="over", config=SEQUENTIAL)
    pipeline = Pipeline(
        [here, over.as_node(input_mapping={"xs": "x"}, map_over="xs"), *spots().nodes],
        config=config,
    )
    found = within(lambda: pipeline.map({"x": [1, 2], "xs": [1]}, map_over="x"))
    for item in found:
        assert item["one"] == item["two"] == f"hypernodes-{kinds[1]}"
    with_probe = config.replace(executor=Probe(inner=SequentialExecutor()))
    SEEN.clear()
    own = here.with_config(with_probe)
    within(lambda: Pipeline([own, node("b")(lambda x: x)], config=config).run({"x": 1}))
    assert len(SEEN) == 1


def test_a_node_may_have_a_composite_of_its_own(threads):
    config = composed("async", ThreadPoolExecutor(max_workers=2))
    nodes = [each.with_config(config) for each in spots().nodes]
    found = within(lambda: Pipeline(nodes).map({"x": [1, 2]}, map_over="x", config=None))
    assert found == [{"one": "hypernodes-thread", "two": "hypernodes-thread"}] * 2


# ---------------------------------------------------------------- failures


def fail(x):
    raise ZeroDivisionError(x)


FAILING = Pipeline([low, node("bad")(fail)], name="failing")


def facts(failure):
    return (
        type(failure.error),
        failure.error.args,
        failure.index,
        failure.node,
        failure.path,
        failure.inputs,
        failure.attempts,
        [note for note in failure.error.__notes__ if note.startswith("hypernodes: in")],
    )


def test_failures_tell_the_same_on_every_pair(pair):
    def failures(config):
        config = config.replace(retries=1)
        found = FAILING.map({"x": [1, 2]}, map_over="x", on_error="return", config=config)
        return list(map(facts, found))

    assert within(lambda: failures(pair)) == failures(SEQUENTIAL)


@pytest.mark.parametrize("mapped", [False, True])
def test_failures_in_nested_pipelines_tell_the_same_on_every_pair(pair, mapped):
    over = {"input_mapping": {"xs": "x"}, "map_over": "xs"} if mapped else {}
    outer = Pipeline([FAILING.as_node(**over)], name="outer")
    (name,) = outer.root_args
    value = [1] if mapped else 1

    def failures(config):
        found = outer.map({name: [value] * 2}, map_over=name, on_error="return", config=config)
        return list(map(facts, found))

    def run(config):
        with pytest.raises(ZeroDivisionError) as caught:
            outer.run({name: value}, config=config)
        notes = caught.value.__notes__
        return [note for note in notes if note.startswith("hypernodes: in")]

    assert within(lambda: failures(pair)) == failures(SEQUENTIAL)
    assert within(lambda: run(pair)) == run(SEQUENTIAL)


def test_an_executor_that_does_not_tell_where_an_error_came_up_gives_failures_too():
    class Plain(SequentialExecutor):
        def inside_items(self, ctx):
            return Executor.inside_items(self, ctx)

        def run_pipeline(self, pipeline, inputs, ctx, output_name=None):
            raise ZeroDivisionError

    config = composed("thread", Plain())
    for found in ITEM.map({"x": [1, 2]}, map_over="x", on_error="return", config=config):
        assert isinstance(found, Failure)
        assert isinstance(found.error, ZeroDivisionError)
        assert found.path == ("item",)
        assert found.error.__notes__ == [f"hypernodes: in item {found.index} of pipeline 'item'"]


def test_what_is_no_exception_ends_the_map_as_itself(kinds):
    def leave(x):
        raise SystemExit(3)

    config = composed(sized(kinds[0], 2), sized(kinds[1], 3))
    pipeline = Pipeline([node("bad")(leave), low])
    with pytest.raises(SystemExit):
        within(
            lambda: pipeline.map({"x": range(9)}, map_over="x", on_error="return", config=config)
        )


def test_nodes_keep_their_timeouts(kinds):
    release = threading.Event()
    config = composed(sized(kinds[0], 2), sized(kinds[1], 3))
    late = node("late", timeout=0.05)(lambda x: release.wait(LIMIT))
    pipeline = Pipeline([late, low])
    found = within(lambda: pipeline.map({"x": [1]}, map_over="x", on_error="return", config=config))
    release.set()
    assert isinstance(found[0].error, NodeTimeoutError)
    assert found[0].node == late.name


def test_a_failing_node_stops_a_map_that_runs_beside_it(kinds):
    begun, entered, release = [], threading.Event(), threading.Event()

    def item(x):
        begun.append(x)
        entered.set()
        release.wait(LIMIT)

    def bad(x):
        entered.wait(LIMIT)
        raise ZeroDivisionError

    inner = Pipeline([node("y")(item)], name="inner")
    nodes = [inner.as_node(input_mapping={"xs": "x"}, map_over="xs"), node("bad")(bad)]
    config = composed(sized(kinds[0], 1), sized(kinds[1], 3))
    with pytest.raises(ZeroDivisionError):
        within(lambda: Pipeline([*nodes, low]).run({"xs": range(99), "x": 1}, config=config))
    release.set()
    # The one worker gets to these when it has left the others.
    within(lambda: ITEM.map({"x": range(9)}, map_over="x", config=config))
    assert len(begun) <= 2


def test_an_item_that_cannot_travel_is_blamed_on_the_node_that_takes_it():
    config = composed(PARTS["process"], "thread")
    pipeline = Pipeline([node("first")(lambda x: 1), node("second")(lambda first: first)])
    (found,) = pipeline.map(
        {"x": [threading.Lock()]}, map_over="x", on_error="return", config=config
    )
    assert isinstance(found.error, SerializationError)
    assert "item 0" in str(found.error)
    assert found.node == pipeline.nodes[0].name


def test_an_output_that_cannot_travel_is_blamed_on_the_node_that_made_it():
    def lock(x):
        import threading

        return threading.Lock()

    config = composed(PARTS["process"], "thread")
    pipeline = Pipeline([lock_node := node("made")(lock), low])
    (found,) = pipeline.map({"x": [1]}, map_over="x", on_error="return", config=config)
    assert isinstance(found.error, SerializationError)
    assert found.node == lock_node.name


def test_a_crash_in_an_item_in_a_process_costs_that_item_alone():
    def crash(x):
        import os

        if x == 3:
            os._exit(1)
        return x

    config = composed(PARTS["process"], "thread")
    pipeline = Pipeline([node("y")(crash), node("z")(lambda x: x)])
    found = within(
        lambda: pipeline.map({"x": range(6)}, map_over="x", on_error="return", config=config)
    )
    assert isinstance(found.pop(3).error, WorkerCrashedError)
    assert found == [{"y": x, "z": x} for x in (0, 1, 2, 4, 5)]


# ---------------------------------------------------------------- pools


def threads_of(kind):
    return {t for t in threading.enumerate() if t.name.startswith(f"hypernodes-{kind}_")}


def test_nothing_is_opened_before_it_is_needed_and_close_ends_both():
    before = threads_of("thread") | threads_of("async")
    config = composed(ThreadPoolExecutor(max_workers=17), AsyncExecutor(max_concurrency=17))
    assert threads_of("thread") | threads_of("async") == before
    with config.executor:
        within(lambda: spots().map({"x": range(3)}, map_over="x", config=config))
        assert threads_of("thread") - before
        assert threads_of("async") - before
    assert threads_of("thread") | threads_of("async") == before
    assert within(lambda: ITEM.run({"x": 1}, config=config))["total"] == 2
    config.executor.close()


def test_pools_are_those_of_equal_executors():
    alone = ThreadPoolExecutor(max_workers=18)
    with alone:
        within(lambda: spots().run({"x": 1}, config=RuntimeConfig(executor=alone)))
        opened = threads_of("thread")
        config = composed("sequential", ThreadPoolExecutor(max_workers=18))
        within(lambda: spots().map({"x": [1]}, map_over="x", config=config))
        assert threads_of("thread") == opened


def test_closing_ends_a_map_that_is_under_way(kinds):
    entered, release = threading.Event(), threading.Event()

    def wait(x):
        entered.set()
        release.wait(LIMIT)

    config = composed(sized(kinds[0], 2), sized(kinds[1], 3))
    pipeline = Pipeline([node("y")(wait), low])
    run = started(lambda: pipeline.map({"x": range(50)}, map_over="x", config=config))
    assert entered.wait(LIMIT)
    closing = started(config.executor.close)
    with pytest.raises(HyperNodesError, match="closed in the middle"):
        run.result(LIMIT)
    release.set()
    closing.result(LIMIT)


# ---------------------------------------------------------------- asynchronous callers


@pytest.mark.parametrize("mapping", [False, True])
def test_asynchronous_calls_leave_the_loop_free(local_pair, mapping):
    ticked = threading.Event()

    def wait(x):
        assert ticked.wait(LIMIT)
        return x

    pipeline = Pipeline([node("y")(wait), low])
    inner = pipeline.as_node(input_mapping={"xs": "x"}, map_over="xs", name="inner")

    async def main():
        asyncio.get_running_loop().call_later(0.01, ticked.set)
        if mapping:
            return await pipeline.amap({"x": [1, 2]}, map_over="x", config=local_pair)
        return await Pipeline([inner, high]).arun({"xs": [1, 2], "x": 2}, config=local_pair)

    found = within(lambda: asyncio.run(main()))
    if mapping:
        assert found == [{"y": 1, "low": 0}, {"y": 2, "low": 1}]
    else:
        assert found == {"y": [1, 2], "low": [0, 1], "high": 3}


@pytest.mark.parametrize("call", ["arun", "amap"])
def test_cancelling_reaches_the_nodes_of_the_items(kinds, call):
    count, cancelled = [], threading.Event()

    async def wait(begin, x):
        count.append(x)
        begin()
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    item = Pipeline([node("y")(wait), low], name="item")
    outer = Pipeline([item.as_node(input_mapping={"xs": "x"}, map_over="xs")])
    config = composed(sized(kinds[0], 2), sized(kinds[1], 3))

    async def main():
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        begin = partial(loop.call_soon_threadsafe, begun.set)
        if call == "arun":
            run = outer.arun({"xs": range(50), "begin": begin}, config=config)
        else:
            inputs = {"x": range(50), "begin": begin}
            run = item.amap(inputs, map_over="x", config=config)
        task = asyncio.create_task(run)
        await asyncio.wait_for(begun.wait(), LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(lambda: asyncio.run(main()))
    assert cancelled.wait(LIMIT)
    config.executor.close()
    assert len(count) <= 4
