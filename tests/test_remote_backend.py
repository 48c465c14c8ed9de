"""Pipelines on a cluster that is somewhere else: what goes there, what comes back, what is lost."""

import pytest

from dask_cluster import DaskCluster
from hypernodes import AsyncExecutor, RuntimeConfig, SequentialExecutor, ThreadPoolExecutor
from hypernodes.backends import RemoteBackend
from hypernodes.testing import ExecutorConformance, ParallelConformance


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def backend(cluster):
    with RemoteBackend(kind="dask", address=cluster.address) as backend:
        yield backend


@pytest.fixture(scope="module", params=[ThreadPoolExecutor(max_workers=2)], ids=repr)
def executor(request):
    return request.param


class TestRemotely(ExecutorConformance):
    @pytest.fixture
    def config(self, backend, executor):
        return RuntimeConfig(backend=backend, executor=executor)
