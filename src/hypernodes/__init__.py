"""hypernodes: plain functions become pipelines; how and where they run is one config.

Names are imported when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypernodes._engine.caching.explanation import Explanation
    from hypernodes._engine.failure import Failure
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._nested import PipelineNode
    from hypernodes._node import Node, node
    from hypernodes._stateful import stateful
    from hypernodes.abc import MISS, Backend, Cache, CacheStats, Executor, RunContext
    from hypernodes.backends import LocalBackend, RemoteBackend
    from hypernodes.cache import CacheSpec, DiskCache, MemoryCache
    from hypernodes.callbacks import (
        Callback,
        CallbackContext,
        register_plugins,
        report,
        unregister_plugins,
    )
    from hypernodes.config import (
        RetryPolicy,
        RuntimeConfig,
        get_default_config,
        set_default_config,
    )
    from hypernodes.exceptions import (
        CacheError,
        CacheWarning,
        CallbackError,
        CycleError,
        DuplicateOutputError,
        HyperNodesError,
        InputError,
        MissingDependencyError,
        MissingInputError,
        NodeDefinitionError,
        NodeOutputError,
        NodeTimeoutError,
        PipelineDefinitionError,
        ResourceError,
        SerializationError,
        TypeConflictError,
        UnknownInputError,
        WorkerCrashedError,
    )
    from hypernodes.executors import (
        AsyncExecutor,
        CompositeExecutor,
        DaskExecutor,
        ProcessPoolExecutor,
        RayExecutor,
        SequentialExecutor,
        ThreadPoolExecutor,
    )
    from hypernodes.pipeline import Pipeline

__all__ = [
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

__version__ = "0.1.0"

_PLACES = {
    "hypernodes._engine.caching.explanation": ("Explanation",),
    "hypernodes._engine.failure": ("Failure",),
    "hypernodes._engine.kernel": ("PipelineExecutionEngine",),
    "hypernodes.abc": ("MISS", "Backend", "Cache", "CacheStats", "Executor", "RunContext"),
    "hypernodes.cache": ("CacheSpec", "DiskCache", "MemoryCache"),
    "hypernodes.callbacks": (
        "Callback",
        "CallbackContext",
        "register_plugins",
        "report",
        "unregister_plugins",
    ),
    "hypernodes.backends": ("LocalBackend", "RemoteBackend"),
    "hypernodes.config": (
        "RetryPolicy",
        "RuntimeConfig",
        "get_default_config",
        "set_default_config",
    ),
    "hypernodes.exceptions": (
        "CacheError",
        "CacheWarning",
        "CallbackError",
        "CycleError",
        "DuplicateOutputError",
        "HyperNodesError",
        "InputError",
        "MissingDependencyError",
        "MissingInputError",
        "NodeDefinitionError",
        "NodeOutputError",
        "NodeTimeoutError",
        "PipelineDefinitionError",
        "ResourceError",
        "SerializationError",
        "TypeConflictError",
        "UnknownInputError",
        "WorkerCrashedError",
    ),
    "hypernodes.executors": (
        "AsyncExecutor",
        "CompositeExecutor",
        "DaskExecutor",
        "ProcessPoolExecutor",
        "RayExecutor",
        "SequentialExecutor",
        "ThreadPoolExecutor",
    ),
    "hypernodes._nested": ("PipelineNode",),
    "hypernodes._node": ("Node", "node"),
    "hypernodes._stateful": ("stateful",),
    "hypernodes.pipeline": ("Pipeline",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
