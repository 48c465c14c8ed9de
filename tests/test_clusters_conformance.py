"""Executors on clusters pass the conformance suite, too: each on one cluster for all its tests."""

import pytest

from hypernodes import DaskExecutor
from hypernodes.testing import (
    ExecutorConformance,
    ParallelConformance,
    WorkerProcessConformance,
)


@pytest.fixture(scope="module")
def executor():
    with DaskExecutor(num_workers=2) as executor:
        yield executor


class TestDask(ExecutorConformance, ParallelConformance, WorkerProcessConformance):
    limit = 120.0  # programs of their own start clusters of their own
