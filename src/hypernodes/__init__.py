"""hypernodes: plain functions become pipelines; how and where they run is one config."""

from hypernodes._engine.failure import Failure
from hypernodes._engine.kernel import PipelineExecutionEngine
from hypernodes.abc import Backend, Executor, RunContext
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
from hypernodes.executors import SequentialExecutor, ThreadPoolExecutor
from hypernodes.nested import PipelineNode
from hypernodes.node import Node, node
from hypernodes.pipeline import Pipeline

__all__ = [
    "Backend",
    "CacheError",
    "CacheWarning",
    "CallbackError",
    "CycleError",
    "DuplicateOutputError",
    "Executor",
    "Failure",
    "HyperNodesError",
    "InputError",
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
    "set_default_config",
]
