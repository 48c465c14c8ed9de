"""The resources that nodes ask for: those of a piece of work, and what nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypernodes._node import Node
from hypernodes.exceptions import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Step

Needs = tuple[tuple[str, float], ...]
"""Names of resources, and how much of each, sorted."""

NOTHING: Final[Needs] = ()


def needs_of(steps: Iterable[Step]) -> Needs:
    """Return what steps need that run one after another: the most of each resource."""
    found: dict[str, float] = {}
    for step in _all(steps):
        for name, amount in _own(step):
            found[name] = max(amount, found.get(name, 0))
    return tuple(sorted(found.items()))


def check_needs(engine: PipelineExecutionEngine, lacking: Callable[[Needs], str | None]) -> None:
    """Refuse a plan with a node that no worker can run.

    Args:
        engine: The plan's.
        lacking: Returns the resource that no worker has enough of, or None.

    Raises:
        ResourceError: There is such a node.
    """
    plan = engine.plan.inside or engine.plan
    for step in _all(plan.steps):
        needs = _own(step)
        resource = lacking(needs) if needs else None
        if resource is not None:
            name, amount = step.node.name, dict(needs)[resource]
            message = (
                f"node {name!r} asks for {amount:g} of {resource!r}, which no worker has; ask for "
                f"less, or add workers that have it"
            )
            raise ResourceError(message, node=name, resource=resource)


def _own(step: Step) -> Needs:
    if step.inner is not None or not isinstance(step.node, Node) or not step.node.resources:
        return NOTHING  # with a pipeline of its own, it runs elsewhere
    # Nobody has to have nothing of something: an engine that is asked for it would wait for it.
    return tuple(sorted((name, n) for name, n in step.node.resources.items() if n))


def _all(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield steps, and those of maps inside that the same workers run."""
    for step in steps:
        yield step
        inner = step.inner
        if inner is not None and inner.map_over and not inner.elsewhere:
            yield from _all(inner.item_engine.plan.steps)
