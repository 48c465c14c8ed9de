"""What `import hypernodes` offers, and what it costs."""

from importlib import metadata

import hypernodes
from hypernodes import backends, executors, testing

NAMES = [
    "MISS",
    "AsyncExecutor",
    "Backend",
    "Cache",
    "CacheError",
    "CacheSpec",
    "CacheStats",
    "CacheWarning",
    "Callback",
    "CallbackContext",
    "CallbackError",
    "CompositeExecutor",
    "CycleError",
    "DaskExecutor",
    "DiskCache",
    "DuplicateOutputError",
    "Executor",
    "Explanation",
    "Failure",
    "HyperNodesError",
    "InputError",
    "LocalBackend",
    "MemoryCache",
    "MissingDependencyError",
    "MissingInputError",
    "Node",
    "NodeDefinitionError",
    "NodeOutputError",
    "NodeTimeoutError",
    "Pipeline",
    "PipelineDefinitionError",
    "PipelineExecutionEngine",
    "PipelineNode",
    "ProcessPoolExecutor",
    "RayExecutor",
    "RemoteBackend",
    "ResourceError",
    "RetryPolicy",
    "RunContext",
    "RuntimeConfig",
    "SequentialExecutor",
    "SerializationError",
    "ThreadPoolExecutor",
    "TypeConflictError",
    "UnknownInputError",
    "WorkerCrashedError",
    "get_default_config",
    "node",
    "register_plugins",
    "report",
    "set_default_config",
    "stateful",
    "unregister_plugins",
]

EXTRAS = [
    "daft",
    "dask",
    "distributed",
    "fsspec",
    "graphviz",
    "jinja2",
    "logfire",
    "modal",
    "numpy",
    "opentelemetry",
    "pandas",
    "pyarrow",
    "pyspark",
    "pytest",
    "ray",
    "rich",
    "tqdm",
]
ONLY_WHEN_NEEDED = ["asyncio", "pluggy", "tenacity"]

LIST_MODULES = """
import sys
{work}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""

PLAIN_RUN = """
from hypernodes import Pipeline, node
double = Pipeline([node("double")(lambda x: 2 * x)])
assert double.run({"x": 2}) == {"double": 4}
assert double.map({"x": [1, 2]}, map_over="x") == [{"double": 2}, {"double": 4}]
"""


def modules_after(run_script, work):
    # Plugins of pydantic (logfire brings one) are loaded by pydantic, for whoever uses it.
    env = {"PYDANTIC_DISABLE_PLUGINS": "1"}
    return set(run_script(LIST_MODULES.format(work=work), env=env).stdout.split())


def test_the_public_names_are_these_and_sorted():
    constants = [name for name in NAMES if name.isupper()]
    assert hypernodes.__all__ == NAMES
    assert [*sorted(constants), *sorted(set(NAMES) - set(constants))] == NAMES


def test_every_public_name_is_there():
    assert [name for name in NAMES if not hasattr(hypernodes, name)] == []


def test_star_import_brings_the_public_names_and_no_other():
    space = {}
    exec("from hypernodes import *", space)  # noqa: S102 - a star is not allowed in a function
    assert space.keys() - {"__builtins__"} == set(NAMES)


def test_contracts_also_import_from_their_rooms():
    assert executors.Executor is hypernodes.Executor
    assert backends.Backend is hypernodes.Backend
    assert issubclass(backends.LocalBackend, hypernodes.Backend)


def test_the_names_of_the_conformance_suite_are_these():
    assert testing.__all__ == [
        "ExecutorConformance",
        "ParallelConformance",
        "WorkerProcessConformance",
    ]


def test_import_brings_no_extra(run_script):
    assert modules_after(run_script, "import hypernodes") & set(EXTRAS) == set()


def test_import_brings_nothing_that_is_only_needed_later(run_script):
    assert modules_after(run_script, "import hypernodes") & set(ONLY_WHEN_NEEDED) == set()


def test_plain_run_and_map_bring_nothing_that_is_only_needed_later(run_script):
    found = modules_after(run_script, PLAIN_RUN)
    assert found & {*EXTRAS, *ONLY_WHEN_NEEDED} == set()


def test_the_version_is_that_of_the_installed_distribution():
    assert hypernodes.__version__ == metadata.version("hypernodes")
