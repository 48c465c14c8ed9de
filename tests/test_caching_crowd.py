"""Many runs at once, on several executors, over one cache that is too small for them."""

import random
from concurrent import futures

from hypernodes import (
    AsyncExecutor,
    CompositeExecutor,
    MemoryCache,
    Pipeline,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)

SECONDS = 100
EXECUTORS = (
    SequentialExecutor(),
    ThreadPoolExecutor(max_workers=3),
    AsyncExecutor(max_concurrency=3),
    CompositeExecutor(
        map_executor=ThreadPoolExecutor(max_workers=2),
        node_executor=AsyncExecutor(max_concurrency=2),
    ),
)


@node
def raised(x):
    return x + 1


@node
def thrice(raised):
    return [raised] * 3


@node(cache=False)
def rest(x):
    return x % 3


@node
def both(thrice, rest):
    return sum(thrice), rest


INNER = Pipeline([raised, thrice, rest, both])
OUTER = Pipeline(
    [
        node("xs")(lambda n: list(range(n))),
        INNER.as_node(map_over="xs", input_mapping={"xs": "x"}),
        node("total")(lambda both: sum(first for first, _ in both)),
    ]
)


def expected(x):
    return 3 * (x + 1), x % 3


def run_some(seed, cache):
    chance = random.Random(seed)
    for _ in range(20):
        config = RuntimeConfig(executor=chance.choice(EXECUTORS), cache=cache)
        n = chance.randint(0, 6)
        asked = chance.choice(["total", "both", ["total", "thrice"]])
        found = OUTER.run({"n": n}, output_name=asked, config=config)
        assert found.get("total", sum(3 * (i + 1) for i in range(n))) == 3 * n * (n + 1) // 2
        assert found.get("both", [expected(i) for i in range(n)]) == [expected(i) for i in range(n)]
        xs = [chance.randint(0, 9) for _ in range(chance.randint(0, 9))]
        items = INNER.map({"x": xs}, map_over="x", output_name="both", config=config)
        assert [item["both"] for item in items] == [expected(x) for x in xs]


def test_all_values_are_right_and_nothing_hangs():
    cache = MemoryCache(max_items=12)
    with futures.ThreadPoolExecutor(6) as threads:
        runs = [threads.submit(run_some, seed, cache) for seed in range(6)]
        for run in runs:
            run.result(SECONDS)
    for executor in EXECUTORS:
        executor.close()
