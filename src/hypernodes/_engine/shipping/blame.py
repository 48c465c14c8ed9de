"""Which value cannot travel: looked for only after something could not."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from hypernodes._apart import check
from hypernodes._dispatch.needs import shipping
from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.script import own_configs
from hypernodes._engine.shipping.parcels import unpack
from hypernodes._node import Node
from hypernodes.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Plan, Slot, Step
    from hypernodes._engine.shipping.parcels import Packer

OF_VALUES: Final = "make it inside of the node, or pass what can be pickled"
OF_CALLBACKS: Final = "leave what cannot out of its state (__getstate__), or make it in the hook"

DEFINED_ELSEWHERE: Final = (
    "define what it uses in a module that a new interpreter can import, or in __main__"
)
IMPORTED_ALONE: Final = (
    "see that a new interpreter can import it, without the arguments of this program and what its "
    "__main__ does before"
)


def code_error(
    engine: PipelineExecutionEngine, cause: Exception, packer: Packer
) -> SerializationError:
    """Return the error for an engine that cannot travel: which node, and what of its function."""
    for step in _steps(_nodes(engine)):
        if isinstance(step.node, Node) and not _travels(step.node.func, packer):
            name = _culprit(step.node.func, packer) or step.node.name
            return _error(step.node.name, name, f"{name!r}, which its function uses,", cause)
    for name, value in engine.plan.pipeline.bound.items():
        if not _travels(value, packer):
            return _error(_taker(_nodes(engine), name), name, f"the bound input {name!r}", cause)
    label = _stuck_callback(engine, packer)
    if label is not None:
        what = f"the callback {label!r}, of which a hook is called where nodes run,"
        return _error(None, label, what, cause, remedy=OF_CALLBACKS)
    return _error(None, None, "the pipeline or its config", cause)


def _stuck_callback(engine: PipelineExecutionEngine, packer: Packer) -> str | None:
    """Return the name of a callback that goes along and cannot travel."""
    configs = engine.plan.request.ctx.config, *own_configs(engine.plan.pipeline)
    tables = [config.table for config in configs if config.table is not None]
    calls = (call for table in tables for call in table.travellers)
    return next((call.observer.label for call in calls if not _travels(call.invoke, packer)), None)


def load_error(
    engine: PipelineExecutionEngine, cause: Exception, module: str | None
) -> SerializationError:
    """Return the error for a plan, or shared inputs, that no worker can read.

    Args:
        engine: The plan's.
        cause: What it raised there.
        module: The name of the module that raised it while it was imported.
    """
    node = _node_of(engine, module or getattr(cause, "name", None))
    what = f"node {node!r}: its function" if node else "the pipeline, its config or a shared input"
    told, remedy = f"{type(cause).__name__}: {cause}", DEFINED_ELSEWHERE
    if module is not None:
        told, remedy = f"{told}, while module {module!r} is imported", IMPORTED_ALONE
    message = f"{what} cannot be read in a worker process ({told}); {remedy}"
    error = SerializationError(message, node=node, name=None)
    error.__cause__ = cause
    return error


def _node_of(engine: PipelineExecutionEngine, module: str | None) -> str | None:
    """Return the name of the first node whose function is in a module, or in one inside it."""
    nodes = (s.node for s in _steps(_nodes(engine)) if isinstance(s.node, Node))
    inside = (n.name for n in nodes if module and f"{_module_of(n.func)}.".startswith(f"{module}."))
    return next(inside, None)


def _module_of(function: Any) -> str | None:
    return getattr(inspect.unwrap(function), "__module__", None)


def input_error(
    engine: PipelineExecutionEngine, inputs: Mapping[str, Any], cause: Exception, packer: Packer
) -> SerializationError:
    """Return the error for shared inputs of which one cannot travel."""
    name = _suspect(inputs, packer)
    return _error(_taker(_nodes(engine), name), name, _called("input", name), cause)


def item_failure(
    engine: PipelineExecutionEngine,
    item: Mapping[str, Any],
    index: int,
    cause: Exception,
    packer: Packer,
) -> Failure:
    """Return the failure of an item that cannot travel."""
    name = _suspect(item, packer)
    node = _taker(_nodes(engine), name)
    error = _error(node, name, f"{_called('input', name)} of item {index}", cause, index)
    return Failure(error, index, node, (*engine.plan.request.ctx.path, *([node] if node else ())))


def values_failure(
    engine: PipelineExecutionEngine,
    number: int,
    values: Mapping[Slot, Any],
    index: int | None,
    cause: Exception,
    *,
    packer: Packer,
) -> Failure:
    """Return the failure of a segment that takes a value that cannot travel."""
    segment = engine.segments[number]
    slot = _suspect(values, packer)
    name = _name_of(engine.plan, slot)
    step = next((s for s in segment.steps if any(a.slot == slot for a in s.arguments)), None)
    step = step or segment.steps[0]
    error = _error(step.node.name, name, f"{_called('value', name)} that it takes", cause, index)
    return engine.failure(error, step, index)


def output_failure(
    engine: PipelineExecutionEngine,
    outcome: Any,
    index: int | None,
    cause: Exception,
    packer: Packer,
) -> Failure:
    """Return the failure that takes the place of an outcome that cannot travel."""
    plan = _nodes(engine)
    places = plan.results if all(isinstance(key, str) for key in outcome) else None
    key = next((key for key, value in outcome.items() if not _comes_back(value, packer)), None)
    slot = key if places is None else places.get(str(key))
    name = _name_of(plan, slot) if places is None else str(key)
    step = next((step for step in plan.steps if slot in step.outputs), plan.steps[-1])
    error = _error(step.node.name, name, f"its output {name!r}", cause, index)
    return engine.failure(error, step, index)


def _suspect(values: Mapping[Any, Any], packer: Packer) -> Any:
    """Return the key of the value that cannot travel; None where that may be any of several.

    What can be pickled here and read again only here looks as if it could travel.
    """
    stuck = [key for key, value in values.items() if not _travels(value, packer)]
    if stuck:
        return stuck[0]
    return next(iter(values)) if len(values) == 1 else None


def _called(kind: str, name: str | None) -> str:
    """Return how to call an input or a value, known by its name or not."""
    return f"one {kind}" if name is None else f"the {kind} {name!r}"


def _comes_back(value: Any, packer: Packer) -> bool:
    try:
        unpack(packer.pack(value))
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


def _error(
    node: str | None,
    name: str | None,
    what: str,
    cause: Exception,
    index: int | None = None,
    *,
    remedy: str = OF_VALUES,
) -> SerializationError:
    where = "" if node is None else f"node {node!r}: "
    message = (
        f"{where}{what} cannot travel between processes ({type(cause).__name__}: {cause}); {remedy}"
    )
    error = SerializationError(message, node=node, name=name, index=index)
    error.__cause__ = cause
    return error


def _nodes(engine: PipelineExecutionEngine) -> Plan:
    """Return the plan that has the nodes, also where another executor runs all of an item."""
    return engine.plan.inside or engine.plan


def _steps(plan: Plan) -> Iterator[Step]:
    for step in plan.steps:
        yield step
        if step.inner is not None and step.inner.map_over:
            shared = [name for name in step.inner.inputs if name not in step.inner.map_over]
            yield from _steps(step.inner.engine(shared).plan)


def _travels(value: Any, packer: Packer) -> bool:
    try:
        with shipping():
            check(value, packer.carries)
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        return False
    return True


def _culprit(function: Any, packer: Packer) -> str | None:
    """Return the name of what a function uses and cannot travel."""
    try:
        used = inspect.getclosurevars(inspect.unwrap(function))
    except (TypeError, ValueError):
        return None
    names = {**used.globals, **used.nonlocals}
    return next((name for name, value in names.items() if not _travels(value, packer)), None)


def _name_of(plan: Plan, slot: Slot | None) -> str | None:
    for name, place in (*plan.shared.items(), *plan.mapped.items()):
        if place == slot:
            return name
    for step in plan.steps:
        if slot in step.outputs:
            return step.node.output_names[step.outputs.index(slot)]
    return None


def _taker(plan: Plan, name: str | None) -> str | None:
    """Return the name of the first node that takes an input."""
    slot = {**plan.shared, **plan.mapped}.get(name or "")
    for step in plan.steps:
        if slot is not None and any(argument.slot == slot for argument in step.arguments):
            return step.node.name
    return None
