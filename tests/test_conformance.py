"""Every executor here passes the conformance suite. A new one joins by a line in these lists."""

import pytest

from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    Pipeline,
    ProcessPoolExecutor,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)
from hypernodes.testing import (
    ExecutorConformance,
    ParallelConformance,
    WorkerProcessConformance,
)

ONE_AT_A_TIME = (
    SequentialExecutor(),
    ThreadPoolExecutor(max_workers=1),
    AsyncExecutor(max_concurrency=1),
    ProcessPoolExecutor(max_workers=1),
)
SEVERAL_AT_ONCE = (
    ThreadPoolExecutor(max_workers=4),
    AsyncExecutor(max_concurrency=4),
    ProcessPoolExecutor(max_workers=2),
    CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=AsyncExecutor(max_concurrency=4),
    ),
    CompositeExecutor(
        map_executor=ProcessPoolExecutor(max_workers=2),
        node_executor=ThreadPoolExecutor(max_workers=2),
    ),
)
EXECUTORS = ONE_AT_A_TIME + SEVERAL_AT_ONCE
WITH_PROCESSES = tuple(e for e in EXECUTORS if isinstance(e, ProcessPoolExecutor))


@pytest.fixture(scope="module")
def executor(request):
    with request.param as executor:
        yield executor


def running_on(executors):
    return pytest.mark.parametrize("executor", executors, ids=repr, indirect=True, scope="module")


@running_on(EXECUTORS)
class TestEveryExecutor(ExecutorConformance):
    @pytest.mark.parametrize("other", EXECUTORS, ids=repr)
    def test_any_two_work_together(self, config, other):
        other = RuntimeConfig(executor=other)
        inner = Pipeline(
            [
                node("a")(lambda x: x + 1),
                node("b", config=other)(lambda a: a * 2),
                node("c")(lambda a, b: a + b),
                node("d", config=config)(lambda b, c: b - c),
            ],
            name="inner",
            config=config,
        )
        mappings = {"input_mapping": {"xs": "x"}, "output_mapping": {"c": "cs", "d": "ds"}}
        total = node("total", config=other)(lambda cs, ds: sum(cs) + sum(ds))
        outer = Pipeline([inner.as_node(map_over="xs", **mappings), total], config=other)

        items = self.in_time(lambda: inner.map({"x": range(30)}, map_over="x"))
        lists = self.in_time(lambda: outer.run({"xs": range(30)}, output_name="total"))
        maps = self.in_time(
            lambda: outer.map(
                {"xs": [range(n) for n in range(9)]}, map_over="xs", output_name="total"
            )
        )

        assert items == [
            {"a": x + 1, "b": 2 * x + 2, "c": 3 * x + 3, "d": -x - 1} for x in range(30)
        ]
        assert lists == {"total": sum(2 * x + 2 for x in range(30))}
        assert maps == [{"total": sum(2 * x + 2 for x in range(n))} for n in range(9)]


@running_on(SEVERAL_AT_ONCE)
class TestExecutorsOfSeveralWorkers(ParallelConformance):
    pass


@running_on(WITH_PROCESSES)
class TestExecutorsWithProcesses(WorkerProcessConformance):
    pass
