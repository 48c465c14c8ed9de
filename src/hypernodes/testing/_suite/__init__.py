"""The tests, by subject; every failing assertion shows its values."""

from hypernodes.testing._suite.conformance import (
    ExecutorConformance,
    ParallelConformance,
    WorkerProcessConformance,
)

__all__ = ["ExecutorConformance", "ParallelConformance", "WorkerProcessConformance"]
