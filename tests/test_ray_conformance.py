"""Ray passes the conformance suite, too: on one cluster of our own for most of its tests."""

import pytest

from hypernodes import RayExecutor
from hypernodes.testing import (
    ExecutorConformance,
    ParallelConformance,
    WorkerProcessConformance,
)


@pytest.fixture(scope="module")
def executor():
    with RayExecutor(num_cpus=2) as executor:
        yield executor


class TestRay(ExecutorConformance, ParallelConformance, WorkerProcessConformance):
    limit = 120.0  # programs of their own start clusters of their own
