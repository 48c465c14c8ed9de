"""Where there are seats on a Ray cluster: one for each of its CPUs, and others for what nodes need.

A seat takes no CPU in the books of Ray, as actors by default. So nothing waits for a CPU that
somebody else holds, nor anybody for one of ours: not a node that calls Ray itself, either. A seat
for what nodes ask for holds that, and is given back when it is idle.
"""

from __future__ import annotations

from itertools import chain, count, islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hypernodes._engine.clusters.ray_seats import Kind, Seat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.clusters.needs import Needs

NAMES: Final = {"num_cpus": "CPU", "num_gpus": "GPU"}
"""What Ray calls resources, where that is not what nodes call them."""
OWN: Final = frozenset({"num_cpus", "num_gpus", "memory"})
"""Resources that Ray has options for."""
ALWAYS: Final = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}


class Floor:
    """Makes seats.

    Args:
        facts: What every actor is told when it begins.
        options: What Ray is told of every actor.
        most: How many seats there are at the most that hold nothing; None for one for each CPU.
    """

    def __init__(
        self, facts: tuple[Any, ...], options: Mapping[str, Any], *, most: int | None
    ) -> None:
        self._facts = facts
        self._options = ALWAYS | dict(options)
        self._most = most
        self._names = count(1)

    def seats(
        self, there: Mapping[str, Mapping[str, float]], taken: Mapping[str, int]
    ) -> list[Seat]:
        """Return more seats that hold nothing, the nodes by turns.

        Args:
            there: The nodes, with their resources.
            taken: How many there are already, by node.
        """
        rows = [[node] * (_cpus(facts) - taken.get(node, 0)) for node, facts in there.items()]
        by_turns = chain.from_iterable(zip_longest(*rows))
        most = None if self._most is None else max(0, self._most - sum(taken.values()))
        return [self._seat(self._pinned(node)) for node in islice(filter(None, by_turns), most)]

    def special_seats(self, needs: Needs) -> list[Seat]:
        """Return seats for nodes with such needs, as many as there can be at once."""
        kind = Kind(needs, "", self._options | _as_options(needs))
        return [self._seat(kind) for _ in range(sum(_fitting(f, needs) for f in nodes().values()))]

    def again(self, seat: Seat) -> Seat:
        """Return a seat in the place of one whose actor is gone."""
        return self._seat(seat.kind)

    def _seat(self, kind: Kind) -> Seat:
        return Seat(f"seat-{next(self._names)}", kind, self._facts)

    def _pinned(self, node: str) -> Kind:
        strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        return Kind((), node, {**self._options, "scheduling_strategy": strategy})


def nodes() -> dict[str, dict[str, float]]:
    """Return the resources of the nodes that are there."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def lacking(needs: Needs) -> str | None:
    """Return the name of a resource that no node has enough of; None where there is none."""
    there = nodes().values()
    if any(_fitting(facts, needs) for facts in there):
        return None
    alone = (need[0] for need in needs if not any(_fitting(facts, (need,)) for facts in there))
    return next(alone, needs[0][0])


def is_modest(needs: Needs) -> bool:
    """Whether any seat will do."""
    return all(name == "num_cpus" and amount <= 1 for name, amount in needs)


def _cpus(facts: Mapping[str, float]) -> int:
    return int(facts.get("CPU", 0))


def _fitting(facts: Mapping[str, float], needs: Needs) -> int:
    """Return how often a node has what is needed, and a CPU for each."""
    asked = {NAMES.get(name, name): amount for name, amount in needs if amount}
    counts = (facts.get(name, 0) // amount for name, amount in ({"CPU": 1} | asked).items())
    return int(min(counts))


def _as_options(needs: Needs) -> dict[str, Any]:
    own: dict[str, Any] = {
        name: amount for name, amount in needs if name in {"num_cpus", "num_gpus", "memory"}
    }
    others = {name: amount for name, amount in needs if name not in own}
    return own | ({"resources": others} if others else {})
