"""What contexts say where nodes run: the same as that of their events, on every executor."""

import pytest

from hypernodes import (
    AsyncExecutor,
    Callback,
    CompositeExecutor,
    MemoryCache,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
    report,
)

EXECUTORS = {
    "sequential": SequentialExecutor(),
    "thread": ThreadPoolExecutor(max_workers=2),
    "async": AsyncExecutor(max_concurrency=2),
    "process": ProcessPoolExecutor(max_workers=2),
    "items in threads": CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=ProcessPoolExecutor(max_workers=2),
    ),
    "items in processes": CompositeExecutor(
        map_executor=ProcessPoolExecutor(max_workers=2),
        node_executor=ThreadPoolExecutor(max_workers=2),
    ),
}


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request):
    return request.param


@node
def more(x):
    return x + 1


@node
def several(more):
    return [more, more + 1]


def absolute(q):
    return abs(q)


LEAF = Pipeline([node("inside")(absolute), node("after")(lambda inside: inside)], name="leaf")
MIDDLE = Pipeline([LEAF.as_node(input_mapping={"more": "q"})], name="middle")
MAPPED = LEAF.as_node(
    map_over="several", input_mapping={"several": "q"}, output_mapping={"after": "each"}
)
TWICE = Pipeline([MAPPED], name="mapping").as_node(name="again", output_mapping={"each": "all"})
PIPELINE = Pipeline([more, several, MIDDLE.as_node(), MAPPED, TWICE], name="outer")


def facts(ctx):
    return (
        ctx.run_id,
        ctx.parent_run_id,
        ctx.mode,
        ctx.pipeline.name,
        ctx.depth,
        ctx.item_index,
        ctx.inputs,
        ctx.signature,
    )


class Compares(Callback):
    """Compares the contexts that `wrap_node` gets with those of events."""

    def __init__(self):
        self.told = []

    def wrap_node(self, ctx, call):
        report("context", facts=facts(ctx))
        return call()

    def on_report(self, ctx, data):
        self.told.append((data["facts"], facts(ctx)))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("how", ["run", "map"])
def test_the_context_of_wrap_node_says_what_those_of_events_say(executor, how, cached):
    compares = Compares()
    cache = MemoryCache() if cached else None
    config = RuntimeConfig(executor=executor, callbacks=[compares], cache=cache)
    if how == "run":
        PIPELINE.run({"x": 1}, config=config)
    else:
        PIPELINE.map({"x": [1, 5]}, map_over="x", config=config)
    assert len(compares.told) >= 6
    for around, told in compares.told:
        assert around == told
        assert (around[-1] is not None) == cached


class Runs(Callback):
    """Keeps the runs by the names of their pipelines."""

    def __init__(self):
        self.seen = {}

    def on_pipeline_start(self, ctx, pipeline):
        self.seen.setdefault(pipeline.name, []).append((ctx.run_id, ctx.parent_run_id))

    def on_node_start(self):
        """Have nodes observed, which tells their code where it stands."""


@pytest.mark.parametrize("map_over", [None, "q"], ids=["nested", "mapped"])
@pytest.mark.parametrize("executor", ["sequential", "thread", "async"])
def test_a_run_that_a_nested_node_asks_for_belongs_to_the_nested_run(executor, map_over):
    deep = Pipeline([node("y")(lambda x: x)], name="deep")
    runs = Runs()
    config = RuntimeConfig(executor=executor, callbacks=[runs])
    asks = node("asks")(lambda q: deep.run({"x": q}, config=config)["y"])
    inner = Pipeline([asks], name="inner").as_node(map_over=map_over)
    pipeline = Pipeline([Pipeline([inner], name="middle").as_node()], name="outer")
    pipeline.run({"q": [1, 2] if map_over else 1}, config=config)
    (inner_id, _), *_ = runs.seen["inner"]
    assert {parent for _, parent in runs.seen["deep"]} == {inner_id}


def test_a_run_that_a_hook_asks_for_belongs_to_the_run_that_it_observes(executor):
    deep = Pipeline([node("y")(lambda x: x)], name="deep")
    runs = Runs()
    plain = RuntimeConfig(executor="sequential", callbacks=[runs])

    class Asks(Callback):
        def on_node_end(self):
            deep.run({"x": 1}, config=plain)

    config = RuntimeConfig(executor=executor, callbacks=[runs, Asks()])
    Pipeline([more], name="outer").run({"x": 1}, config=config)
    ((outer_id, _),) = runs.seen["outer"]
    assert [parent for _, parent in runs.seen["deep"]] == [outer_id]
