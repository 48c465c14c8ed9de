"""Coroutines: as nodes, as callers, and both at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from hypernodes._engine.failure import Failure
from hypernodes._node import node
from hypernodes.pipeline import Pipeline
from hypernodes.testing import _work
from hypernodes.testing._suite.base import SEQUENTIAL, Conformance, mapped, single
from hypernodes.testing._suite.runs import STATISTICS

if TYPE_CHECKING:
    from hypernodes.config import RuntimeConfig
    from hypernodes.testing._work import Gate


class Asynchronous(Conformance):
    """What coroutine functions give as nodes, and `arun`, `amap` and `async for` give."""

    def test_coroutine_functions_and_plain_ones_work_together(self, config: RuntimeConfig) -> None:
        async def later(a: int) -> int:
            await asyncio.sleep(0.001)
            return a + 1

        nodes = [node("a")(_work.same), node("b")(later), node("c")(lambda b: -b)]
        pipeline = Pipeline([*nodes, mapped(_work.same_later)])
        found = pipeline.run({"x": 1, "xs": range(9)}, config=config)
        items = pipeline.map(
            {"x": range(20), "xs": []}, map_over="x", output_name="c", config=config
        )
        assert found == {"a": 1, "b": 2, "c": -2, "ys": list(range(9))}
        assert items == [{"c": -x - 1} for x in range(20)]

    def test_it_all_works_inside_a_running_loop(self, config: RuntimeConfig) -> None:
        pipeline = Pipeline([node("a")(_work.same_later), node("b")(lambda x: -x)])

        async def main() -> tuple[Any, Any, Any]:
            run = pipeline.run({"x": 1}, config=config)
            items = pipeline.map({"x": range(9)}, map_over="x", config=config)
            lazy = pipeline.map_iter({"x": iter(range(9))}, map_over="x", config=config)
            return run, items, list(lazy)

        run, items, lazy = self.in_time(lambda: asyncio.run(main()))
        assert run == {"a": 1, "b": -1}
        assert items == lazy == [{"a": x, "b": -x} for x in range(9)]

    def test_arun_and_amap_give_what_run_and_map_give(self, config: RuntimeConfig) -> None:
        inputs = {"values": [3, 1, 8], "unit": 2}
        each = {"values": [[number, -number] for number in range(30)]}

        async def main() -> tuple[Any, Any]:
            run = await STATISTICS.arun(inputs, config=config)
            return run, await STATISTICS.amap(each, map_over="values", config=config)

        run, items = self.in_time(lambda: asyncio.run(main()))
        assert list(run.items()) == list(STATISTICS.run(inputs, config=SEQUENTIAL).items())
        assert items == STATISTICS.map(each, map_over="values", config=SEQUENTIAL)

    @pytest.mark.parametrize("ordered", [True, False])
    def test_async_for_gives_what_for_gives(self, config: RuntimeConfig, *, ordered: bool) -> None:
        async def main() -> list[Any]:
            results = single(lambda x: -x).map_iter(
                {"x": range(50)}, map_over="x", ordered=ordered, config=config
            )
            return [result async for result in results]

        found = self.in_time(lambda: asyncio.run(main()))
        pairs = list(enumerate(found)) if ordered else sorted(found, key=lambda pair: pair[0])
        assert pairs == [(x, {"y": -x}) for x in range(50)]

    @pytest.mark.parametrize("way", ["arun", "amap", "async for"])
    def test_the_loop_of_the_caller_is_not_blocked(
        self, config: RuntimeConfig, gate: Gate, way: str
    ) -> None:
        pipeline = single(lambda x: gate.wait())
        each = {"x": [1, 2]}

        async def call() -> list[Any]:
            if way == "arun":
                return [await pipeline.arun({"x": 1}, config=config)]
            if way == "amap":
                return await pipeline.amap(each, map_over="x", config=config)
            results = pipeline.map_iter(each, map_over="x", config=config)
            return [result async for result in results]

        async def main() -> list[Any]:
            calling = asyncio.create_task(call())
            await asyncio.sleep(0.05)
            gate.open()
            return await calling

        found = self.in_time(lambda: asyncio.run(main()))
        assert all(result == {"y": True} for result in found)

    def test_many_runs_at_once(self, config: RuntimeConfig) -> None:
        async def main() -> list[Any]:
            runs = [STATISTICS.arun({"values": [x, -x]}, config=config) for x in range(12)]
            return list(await asyncio.gather(*runs))

        found = self.in_time(lambda: asyncio.run(main()))
        assert [run["high"] for run in found] == list(range(12))

    def test_failures_surface_as_themselves_or_are_returned(self, config: RuntimeConfig) -> None:
        async def later(x: int) -> int:
            await asyncio.sleep(0)
            return _work.negative_fails(x)

        pipeline = single(later)

        async def main() -> list[Any]:
            with pytest.raises(ValueError, match="no -1") as caught:
                await pipeline.arun({"x": -1}, config=config)
            assert "'later'" in caught.value.__notes__[0]
            with pytest.raises(ValueError, match="no -2"):
                await pipeline.amap({"x": [0, -2]}, map_over="x", config=config)
            return await pipeline.amap(
                {"x": [0, -2]}, map_over="x", on_error="return", config=config
            )

        found = self.in_time(lambda: asyncio.run(main()))
        assert found[0] == {"y": 0}
        assert isinstance(found[1], Failure)
        assert (found[1].index, found[1].node) == (1, "later")
