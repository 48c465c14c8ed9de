"""A report of a run: one HTML file with the graph, the workers, the slowest and the failed.

python examples/run_report.py [where it is written]
"""

import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from hypernodes import MemoryCache, Pipeline, ProcessPoolExecutor, RuntimeConfig, node
from hypernodes.telemetry import RunReport


@node(cache=False)
def measured(station: str) -> list[float]:
    """Fetch what a station has measured; one of them is down."""
    number = int(station.rpartition("-")[2])
    if number == 7:
        raise ConnectionError(f"{station} does not answer")
    time.sleep(0.002 * number)
    return [number + step / 10 for step in range(24)]


@node
def smoothed(measured: list[float]) -> list[float]:
    """Average neighbours."""
    return [(a + b) / 2 for a, b in pairwise(measured)]


@node
def peak(smoothed: list[float]) -> float:
    """Find the highest value."""
    return max(smoothed)


weather = Pipeline([measured, smoothed, peak], name="weather")


def main() -> None:
    """Map the pipeline over stations, twice with a cache, and say where the report is."""
    place = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    report = RunReport(Path(place) / "weather.html")
    stations = {"station": [f"north-{number}" for number in range(12)]}
    with ProcessPoolExecutor(max_workers=2) as executor:
        config = RuntimeConfig(executor=executor, cache=MemoryCache(), callbacks=[report])
        for _ in range(2):  # the second time, some of it is in the cache
            results = weather.map(stations, map_over="station", on_error="return", config=config)
    print(sum(isinstance(result, dict) for result in results), "of", len(results), "stations")
    print(report.written)


if __name__ == "__main__":
    main()
