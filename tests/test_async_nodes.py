"""Coroutine functions as nodes: on every executor, from any thread or loop, at any depth."""

import asyncio
import contextvars
import functools
import threading

import pytest

from hypernodes import (
    Failure,
    Pipeline,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
)

SECONDS = 30
variable = contextvars.ContextVar("variable", default="unset")


async def increment(x):
    await asyncio.sleep(0)
    return x + 1


@node
async def doubled(increment):
    await asyncio.sleep(0.001)
    return 2 * increment


@node
def tripled(increment):
    return 3 * increment


MIXED = Pipeline([node(increment), doubled, tripled], name="mixed")


def run(function, config, **options):
    return Pipeline([node("y", **options)(function)], name="p").run({"x": 1}, config=config)["y"]


# ---------------------------------------------------------------- everywhere


def test_async_and_plain_nodes_work_together(config):
    assert MIXED.run({"x": 1}, config=config) == {"increment": 2, "doubled": 4, "tripled": 6}


def test_async_nodes_work_in_maps(config):
    expected = [{"doubled": 2 * (x + 1)} for x in range(30)]
    options = {"map_over": "x", "output_name": "doubled", "config": config}
    assert MIXED.map({"x": range(30)}, **options) == expected
    assert list(MIXED.map_iter({"x": range(30)}, **options)) == expected


def test_async_nodes_work_in_nested_pipelines_and_maps(config):
    total = node("total")(lambda doubled: sum(doubled, 0))
    inner = Pipeline([MIXED.as_node(map_over="x"), total], name="inner")
    outer = Pipeline([inner.as_node(map_over="x")], name="outer")
    found = outer.run({"x": [[1, 2], [], [3]]}, output_name="total", config=config)
    assert found == {"total": [10, 0, 8]}


@pytest.mark.parametrize("own", ["sequential", "thread"])
def test_async_nodes_work_under_a_config_of_their_own(own, config):
    own = RuntimeConfig(executor=own)
    pipeline = Pipeline([node(config=own)(increment), doubled], config=config)
    assert pipeline.run({"x": 1})["doubled"] == 4
    found = pipeline.map({"x": range(6)}, map_over="x", output_name="doubled")
    assert [outputs["doubled"] for outputs in found] == [2 * (x + 1) for x in range(6)]


class Client:
    def __init__(self, step):
        self.step = step

    async def __call__(self, x):
        return x + self.step

    async def fetch(self, x):
        return x + self.step

    @staticmethod
    async def fixed(x):
        return x + 1


@functools.wraps(increment)
def wrapper(*args, **named):
    return increment(*args, **named)


async def with_everything(x, /, y=10, *, z=100):
    return x, y, z


@pytest.mark.parametrize(
    "function",
    [
        increment,
        Client(1),
        Client(1).fetch,
        Client.fixed,
        functools.partial(increment),
        functools.partial(Client(1).fetch),
        functools.partial(Client(1)),
        wrapper,
    ],
    ids=[
        "function",
        "callable object",
        "method",
        "static method",
        "partial",
        "partial of a method",
        "partial of a callable object",
        "wrapper",
    ],
)
def test_every_kind_of_coroutine_function_is_awaited(function, config):
    assert run(function, config) == 2


def test_async_node_takes_defaults_and_keywords(config):
    pipeline = Pipeline([node(with_everything)])
    assert pipeline.run({"x": 1}, config=config) == {"with_everything": (1, 10, 100)}
    assert pipeline.run({"x": 1, "z": 2}, config=config) == {"with_everything": (1, 10, 2)}


def test_async_node_unpacks_several_outputs(config):
    async def pair(x):
        return x, x + 1

    pipeline = Pipeline([node(("a", "b"))(pair)])
    assert pipeline.run({"x": 1}, config=config) == {"a": 1, "b": 2}


def test_calling_an_async_node_gives_the_coroutine():
    assert asyncio.run(doubled(3)) == 6


# ---------------------------------------------------------------- overlap


def test_independent_async_nodes_overlap_on_threads(threads):
    meeting = {}

    async def meet(x):
        barrier = meeting.setdefault("barrier", asyncio.Barrier(3))
        async with asyncio.timeout(SECONDS):
            await barrier.wait()
        return x

    nodes = [node(f"y{n}")(meet) for n in range(3)]
    assert Pipeline(nodes).run({"x": 1}, config=threads) == {"y0": 1, "y1": 1, "y2": 1}


def test_async_items_overlap_on_threads(threads):
    meeting = {}

    async def meet(x):
        barrier = meeting.setdefault("barrier", asyncio.Barrier(4))
        async with asyncio.timeout(SECONDS):
            await barrier.wait()
        return x

    found = Pipeline([node("y")(meet)]).map({"x": range(4)}, map_over="x", config=threads)
    assert [outputs["y"] for outputs in found] == list(range(4))


def test_all_coroutines_share_one_loop(config):
    async def loop(x):
        return asyncio.get_running_loop()

    pipeline = Pipeline([node("y")(loop)])
    loops = {
        outputs["y"] for outputs in pipeline.map({"x": range(20)}, map_over="x", config=config)
    }
    assert len(loops) == 1
    assert pipeline.run({"x": 1}, config=config)["y"] in loops


def test_locks_and_queues_made_in_one_node_work_in_another(config):
    async def queue(x):
        made = asyncio.Queue()
        await made.put(x)
        return made

    async def taken(queue):
        return await queue.get()

    assert Pipeline([node(queue), node(taken)]).run({"x": 7}, config=config)["taken"] == 7


def test_tasks_that_a_node_starts_go_on_after_it(config):
    done = threading.Event()
    tasks = []

    async def later():
        await asyncio.sleep(0.01)
        done.set()

    async def starts(x):
        tasks.append(asyncio.ensure_future(later()))
        return x

    assert run(starts, config) == 1
    assert done.wait(SECONDS)


# ---------------------------------------------------------------- inside a running loop


def test_pipeline_runs_inside_a_running_loop(config):
    async def main():
        first = MIXED.run({"x": 1}, config=config)
        second = MIXED.map({"x": range(5)}, map_over="x", config=config)
        third = list(MIXED.map_iter({"x": range(5)}, map_over="x", config=config))
        await asyncio.sleep(0)
        return first, second, third

    first, second, third = asyncio.run(main())
    assert first["doubled"] == 4
    assert [outputs["doubled"] for outputs in second] == [2, 4, 6, 8, 10]
    assert third == second


def test_pipeline_runs_beside_a_running_loop(config):
    async def main():
        runs = (asyncio.to_thread(MIXED.run, {"x": x}, config=config) for x in range(10))
        return await asyncio.gather(*runs)

    assert [outputs["doubled"] for outputs in asyncio.run(main())] == [
        2 * (x + 1) for x in range(10)
    ]


def test_async_nodes_run_from_many_threads_at_once(config):
    found = {}

    def work(number):
        found[number] = MIXED.map({"x": range(20)}, map_over="x", config=config)

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS)
    expected = [2 * (x + 1) for x in range(20)]
    assert len(found) == 8
    assert all([o["doubled"] for o in outputs] == expected for outputs in found.values())


def test_several_loops_one_after_another(config):
    for _ in range(5):
        assert asyncio.run(asyncio.to_thread(MIXED.run, {"x": 1}, config=config))["doubled"] == 4


# ---------------------------------------------------------------- pipelines inside async nodes

CALLS_A_PIPELINE = """
import asyncio, contextvars, faulthandler, itertools
from hypernodes import Pipeline, RuntimeConfig, ThreadPoolExecutor, node

configs = [
    RuntimeConfig(executor="sequential"),
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=4)),
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1)),
]

@node
async def a(x):
    await asyncio.sleep(0.001)
    return x + 1

@node
async def b(x):
    await asyncio.sleep(0.001)
    return x + 2

@node
def c(a, b):
    return a + b

inner = Pipeline([a, b, c], name="inner")
CALLS
outer = Pipeline([node("y")(calls), node("z")(calls)], name="outer")
for outer_config, inner_config in itertools.product(configs, configs):
    faulthandler.dump_traceback_later(5, exit=True)
    print(outer_config.executor, inner_config.executor, flush=True)
    assert outer.run({"x": 1}, config=outer_config) == {"y": 5, "z": 5}
    found = outer.map({"x": range(6)}, map_over="x", config=outer_config)
    assert found == [{"y": 2 * x + 3, "z": 2 * x + 3} for x in range(6)], found
"""

WAYS = {
    "run": """
async def calls(x):
    await asyncio.sleep(0)
    return inner.run({"x": x}, config=inner_config)["c"]
""",
    "map": """
async def calls(x):
    await asyncio.sleep(0)
    found = inner.map({"x": [x, x, x]}, map_over="x", config=inner_config)
    return found[-1]["c"]
""",
    "run in a thread": """
async def calls(x):
    return (await asyncio.to_thread(inner.run, {"x": x}, config=inner_config))["c"]
""",
    "map in the loop's own executor": """
def work(x):
    return inner.map({"x": [x, x, x]}, map_over="x", config=inner_config)

async def calls(x):
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    return (await loop.run_in_executor(None, context.run, work, x))[-1]["c"]
""",
    "run through a plain timed node": """
@node(timeout=20)
def between(x):
    return inner.run({"x": x}, config=inner_config)["c"]

async def calls(x):
    return Pipeline([between]).run({"x": x}, config=inner_config)["between"]
""",
    "run two levels down": """
async def deeper(x):
    return inner.run({"x": x}, config=inner_config)["c"]

async def calls(x):
    return Pipeline([node(deeper)]).run({"x": x}, config=inner_config)["deeper"]
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_async_node_can_call_a_pipeline_with_async_nodes_on_any_executor(way, run_script):
    run_script(CALLS_A_PIPELINE.replace("CALLS", WAYS[way]))


# ---------------------------------------------------------------- contexts


def test_context_of_the_caller_is_visible(config):
    async def seen(x):
        await asyncio.sleep(0)
        return variable.get()

    token = variable.set("set")
    try:
        assert run(seen, config) == "set"
        assert run(seen, config, timeout=SECONDS, retries=1) == "set"
        found = Pipeline([node("y")(seen)]).map({"x": range(6)}, map_over="x", config=config)
    finally:
        variable.reset(token)
    assert found == [{"y": "set"}] * 6
    assert run(seen, config) == "unset"


def test_what_an_async_node_sets_stays_with_it(config):
    async def sets(x):
        variable.set(f"by {x}")
        await asyncio.sleep(0)
        return variable.get()

    found = Pipeline([node("y")(sets)]).map({"x": range(8)}, map_over="x", config=config)
    assert [outputs["y"] for outputs in found] == [f"by {x}" for x in range(8)]
    assert variable.get() == "unset"


def test_context_is_visible_in_tasks_and_threads_of_an_async_node(config):
    async def seen(x):
        return await asyncio.gather(
            asyncio.to_thread(variable.get), asyncio.ensure_future(coroutine())
        )

    async def coroutine():
        return variable.get()

    token = variable.set("set")
    try:
        assert run(seen, config) == ["set", "set"]
    finally:
        variable.reset(token)


# ---------------------------------------------------------------- failures


def test_error_of_an_async_node_surfaces_with_its_note(config):
    async def fails(x):
        await asyncio.sleep(0)
        raise ValueError(f"no {x}")

    pipeline = Pipeline([node(fails)], name="outer")
    with pytest.raises(ValueError, match="no 1") as caught:
        pipeline.run({"x": 1}, config=config)
    assert "'fails'" in " ".join(caught.value.__notes__)
    (first, second) = pipeline.map({"x": [1, 2]}, map_over="x", config=config, on_error="return")
    assert (type(first), type(second)) == (Failure, Failure)
    assert (second.index, second.node, dict(second.inputs)) == (1, "fails", {"x": 2})


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_base_exception_of_an_async_node_ends_the_run_and_the_next_one_works(error, config):
    async def fails(x):
        await asyncio.sleep(0)
        raise error("out")

    pipeline = Pipeline([node("y", retries=3)(fails)])
    for _ in range(3):
        with pytest.raises(error, match="out"):
            pipeline.run({"x": 1}, config=config)
        with pytest.raises(error, match="out"):
            pipeline.map({"x": range(6)}, map_over="x", config=config, on_error="return")
        assert run(increment, config) == 2


def test_stop_iteration_of_an_async_node_is_not_lost(config):
    async def stops(x):
        raise StopIteration("lost?")

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(stops, config)


def test_cancellation_inside_an_async_node_is_not_swallowed(config):
    async def cancels(x):
        raise asyncio.CancelledError("by the user")

    with pytest.raises(asyncio.CancelledError):
        run(cancels, config)
    assert run(increment, config) == 2


def test_cancelled_task_inside_an_async_node_is_the_nodes_own_affair(config):
    async def cancels(x):
        task = asyncio.ensure_future(asyncio.sleep(SECONDS))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"

    assert run(cancels, config) == "cancelled"


def test_failure_of_one_async_node_does_not_hold_up_the_next_run(config):
    async def fails(x):
        raise ValueError("at once")

    async def waits(x):
        await asyncio.sleep(0.2)
        return x

    nodes = [node("a")(fails), node("b")(waits)]
    with pytest.raises(ValueError, match="at once"):
        Pipeline(nodes).run({"x": 1}, config=config)
    assert run(increment, config) == 2


# ---------------------------------------------------------------- processes and cost


FORK = """
import os, sys
from hypernodes import Pipeline, RuntimeConfig, node

async def increment(x):
    return x + 1

pipeline = Pipeline([node("y")(increment), node("z")(lambda x: x)])
assert pipeline.run({"x": 1}) == {"y": 2, "z": 1}
child = os.fork()
if child == 0:
    try:
        assert pipeline.run({"x": 2}) == {"y": 3, "z": 2}
        assert pipeline.map({"x": [1, 2]}, map_over="x") == [{"y": 2, "z": 1}, {"y": 3, "z": 2}]
    except BaseException:
        os._exit(1)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_process_has_a_loop_and_threads_of_its_own(run_script):
    run_script(FORK.replace("import os, sys", "import os, sys, warnings"))


EXIT = """
import asyncio
from hypernodes import Pipeline, node

async def forever(x):
    await asyncio.sleep(3600)

@node(timeout=0.05)
def plain(x):
    import time
    time.sleep(3600)

for function in (node(timeout=0.05)(forever), plain):
    try:
        Pipeline([function]).run({"x": 1})
    except TimeoutError:
        print("timed out")
"""


def test_interpreter_ends_while_abandoned_calls_run_on(run_script):
    assert run_script(EXIT).stdout.split() == ["timed", "out"] * 2


def test_thousand_async_items_on_one_thread_do_not_start_a_thousand_threads():
    before = threading.active_count()
    config = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1))
    found = Pipeline([node("y")(increment)]).map({"x": range(1000)}, map_over="x", config=config)
    assert found[-1] == {"y": 1000}
    assert threading.active_count() <= before + 5
