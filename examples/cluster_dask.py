"""A map on a Dask cluster whose workers share a cache; the second time, little is left to do.

    python examples/cluster_dask.py                      # a cluster of its own, two workers
    python examples/cluster_dask.py tcp://10.0.0.1:8786  # one that is there

Estimates pi by throwing points at a square, many times over, and improves the estimate later.
"""

import random
import sys
import tempfile

from hypernodes import CacheSpec, DaskExecutor, Pipeline, RuntimeConfig, node
from hypernodes.telemetry import CacheStatsCallback


@node(output_name="inside")
def throw(seed: int, points: int = 20_000) -> int:
    """Count the points that fall into the quarter of a circle."""
    draw = random.Random(seed).random  # noqa: S311 - no secret
    return sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(points))


@node(output_name="pi")
def estimate(inside: list[int], points: int = 20_000) -> float:
    """Turn the share of all points into a number."""
    return 4 * sum(inside) / (len(inside) * points)


throws = Pipeline([throw], name="throws").as_node(input_mapping={"seeds": "seed"}, map_over="seeds")
pi = Pipeline([throws, estimate], name="pi")


def main(address: str | None) -> None:
    """Estimate twice; the second time with twice as many throws, half of which are known."""
    # A directory that all workers can reach, and only you can write to.
    with tempfile.TemporaryDirectory() as shared:
        counts = CacheStatsCallback()
        executor = DaskExecutor(address, num_workers=None if address else 2)
        config = RuntimeConfig(
            executor=executor, cache=CacheSpec(kind="disk", path=shared), callbacks=[counts]
        )
        with executor:
            for times in (40, 80):
                found = pi.run({"seeds": range(times)}, output_name="pi", config=config)["pi"]
                print(f"{times} throws: {found:.4f}")
    known, thrown = counts.by_node["throw"]["hits"], counts.by_node["throw"]["stores"]
    print(f"{thrown} throws were made, {known} were known")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
