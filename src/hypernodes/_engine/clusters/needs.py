"""The resources that nodes ask for: those of a piece of work, and what nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hypernodes._node import Node
from hypernodes.exceptions import ResourceError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Step

Needs = tuple[tuple[str, float], ...]
"""Names of resources, and how much of each, sorted."""

NOTHING: Final[Needs] = ()
USUAL: Final = ("num_cpus", "num_gpus", "memory")
"""What nodes may ask any cluster for, whether it has some or none."""
HABITS: Final = {"cpu": "num_cpus", "gpu": "num_gpus", "num_cpus": "CPU", "num_gpus": "GPU"}
"""What names mean that are right in other places: nodes have ours, the engines their own."""
KIB: Final = 1024
BINARY: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class Lack(NamedTuple):
    """What is asked for and nobody has.

    Attributes:
        needs: One resource that nobody has enough of, or several that nobody has together.
        largest: The most of the first one that anybody has.
        suggestion: What that was most likely meant to be; None where its name is known.
        addition: What to do so that somebody has it; None to say that somebody should.
    """

    needs: Needs
    largest: float
    suggestion: str | None
    addition: str | None = None

    def error(self, who: str, whose: str, node: str | None = None) -> ResourceError:
        """Return what to tell whom it concerns.

        Args:
            who: Asks for it.
            whose: What one of those is called that do not have it.
            node: The name of the node that asks for it.
        """
        name, amount = self.needs[0]
        asked = " and ".join(f"{_shown(each, n)} of {each!r}" for each, n in self.needs)
        how = f" (the largest has {_shown(name, self.largest)})" if self.largest else ""
        if len(self.needs) > 1:
            how = " together"
        remedy = f"ask for less, or {self.addition or f'add {whose}s that have it'}"
        if self.suggestion is not None:
            remedy = f"did you mean {self.suggestion!r}?"
        return ResourceError(
            f"{who} asks for {asked}, which no {whose} has{how}; {remedy}",
            node=node,
            resource=name,
            requested=amount,
            available=self.largest,
            suggestion=self.suggestion,
        )


def lack_of(
    needs: Needs, offers: Iterable[Mapping[str, float]], usual: Iterable[str] = USUAL
) -> Lack | None:
    """Return what of `needs` is offered nowhere, or not together; None where all of it is.

    Args:
        needs: What is asked for.
        offers: The resources of each who has some.
        usual: Names that are right though nobody has any.
    """
    offers = list(offers)
    if any(has(offer, needs) for offer in offers):
        return None
    alone = [need for need in needs if not any(has(offer, (need,)) for offer in offers)]
    lacking = tuple(alone[:1]) or needs
    name = lacking[0][0]
    names = {*usual}.union(*offers)
    suggestion = None if name in names else _meant(name, names)
    return Lack(lacking, max((offer.get(name, 0) for offer in offers), default=0), suggestion)


def _meant(name: str, names: set[str]) -> str | None:
    habit = HABITS.get(name.casefold())
    return habit if habit in names else nearest(name, sorted(names))


def has(offer: Mapping[str, float], needs: Needs) -> bool:
    """Whether somebody's resources are enough."""
    return all(offer.get(name, 0) >= amount for name, amount in needs)


def needs_of(steps: Iterable[Step]) -> Needs:
    """Return what steps need that run one after another: the most of each resource."""
    found: dict[str, float] = {}
    for step in all_steps(steps):
        for name, amount in _own(step):
            found[name] = max(amount, found.get(name, 0))
    return tuple(sorted(found.items()))


def check_needs(engine: PipelineExecutionEngine, lacking: Callable[[Needs], Lack | None]) -> None:
    """Refuse a plan with a node that no worker can run.

    Args:
        engine: The plan's.
        lacking: Returns what no worker has, or None.

    Raises:
        ResourceError: There is such a node.
    """
    plan = engine.plan.inside or engine.plan
    for step in all_steps(plan.steps):
        needs = _own(step)
        lack = lacking(needs) if needs else None
        if lack is not None:
            raise lack.error(f"node {step.node.name!r}", "worker", step.node.name)


def _own(step: Step) -> Needs:
    if step.inner is not None or not isinstance(step.node, Node) or not step.node.resources:
        return NOTHING  # with a pipeline of its own, it runs elsewhere
    # Nobody has to have nothing of something: an engine that is asked for it would wait for it.
    return tuple(sorted((name, n) for name, n in step.node.resources.items() if n))


def all_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield steps, and those of maps inside that the same workers run."""
    for step in steps:
        yield step
        inner = step.inner
        if inner is not None and inner.map_over and not inner.elsewhere:
            yield from all_steps(inner.item_engine.plan.steps)


def _shown(name: str, amount: float) -> str:
    """Return an amount of a resource in words; memory is in bytes."""
    if name != "memory":
        return f"{amount:g}"
    unit = 0
    while amount >= KIB and unit < len(BINARY) - 1:
        amount, unit = amount / KIB, unit + 1
    return f"{amount:.4g} {BINARY[unit]}"
