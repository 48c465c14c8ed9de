"""A graph on Ray: a large array stays with the workers, and only small results come back.

    python examples/cluster_ray.py          # a Ray of its own, with two CPUs
    python examples/cluster_ray.py auto     # the one that runs on this machine

Draws a noisy signal of 80 MB, looks at it in three ways at once, and sums up what was found.
"""

import sys

import numpy as np

from hypernodes import Pipeline, RayExecutor, RuntimeConfig, node


@node(output_name="signal")
def draw(length: int, seed: int) -> np.ndarray:
    """Make a slow wave with noise."""
    noise = np.random.default_rng(seed).normal(0, 0.5, length)
    return np.sin(np.linspace(0, 20 * np.pi, length)) + noise


@node(output_name="power")
def power(signal: np.ndarray) -> float:
    """Return the mean of the squares."""
    return float(np.square(signal).mean())


@node(output_name="noise")
def noise(signal: np.ndarray) -> float:
    """Estimate the noise by the differences of neighbours."""
    return float(np.diff(signal).std() / np.sqrt(2))


@node(output_name="waves")
def waves(signal: np.ndarray) -> int:
    """Count how often the smoothed signal rises through zero."""
    smooth = signal.reshape(-1, 10_000).mean(axis=1)
    return int(((smooth[:-1] < 0) & (smooth[1:] >= 0)).sum())


@node(output_name="summary")
def sum_up(power: float, noise: float, waves: int) -> str:
    """Put it into words."""
    return f"{waves + 1} waves, power {power:.2f}, noise {noise:.2f}"


def main(address: str | None) -> None:
    """Run once; then for three seeds."""
    executor = RayExecutor(address, num_cpus=None if address else 2)
    config = RuntimeConfig(executor=executor)
    pipeline = Pipeline([draw, power, noise, waves, sum_up], name="signals")
    asked = {"output_name": "summary", "config": config}
    with executor:
        print(pipeline.run({"length": 10_000_000, "seed": 1}, **asked)["summary"])
        inputs = {"length": 1_000_000, "seed": [1, 2, 3]}
        for row in pipeline.map(inputs, map_over="seed", **asked):
            print(row["summary"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
