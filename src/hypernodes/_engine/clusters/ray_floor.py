"""Where there are seats on a Ray cluster: one for each of its CPUs, and others for what nodes need.

A seat takes no CPU in the books of Ray, as actors by default. So nothing waits for a CPU that
somebody else holds, nor anybody for one of ours: not a node that calls Ray itself, either. A seat
for what nodes ask for holds that, and gives it back when it is idle. In a placement group all seats
hold what they need, since the group has it for them.
"""

from __future__ import annotations

from itertools import chain, count, islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from hypernodes._engine.clusters.needs import lack_of
from hypernodes._engine.clusters.ray_seats import Kind, Seat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hypernodes._engine.clusters.needs import Lack, Needs

    Amounts = Mapping[str, float]

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

    def seats(self, there: Mapping[str, Amounts], taken: Mapping[str, int]) -> list[Seat]:
        """Return more seats for what needs nothing, the nodes by turns.

        Args:
            there: The nodes, with their resources.
            taken: How many there are already, by node.
        """
        rows = [[node] * (_cpus(facts) - taken.get(node, 0)) for node, facts in there.items()]
        by_turns = filter(None, chain.from_iterable(zip_longest(*rows)))
        most = None if self._most is None else max(0, self._most - sum(taken.values()))
        return [self._seat((), self._pinned(node), node) for node in islice(by_turns, most)]

    def special_seats(self, needs: Needs, *, taken: int) -> list[Seat]:
        """Return more seats for nodes with such needs, as many as there can be at once.

        Args:
            needs: What each of them holds.
            taken: How many there are already.
        """
        most = sum(_fitting(amounts, needs) for amounts in self.grounds())
        return [self._seat(needs, self._anywhere(needs)) for _ in range(most - taken)]

    def again(self, seat: Seat) -> Seat:
        """Return a seat in the place of one whose actor is gone."""
        return Seat(self._name(), seat.kind, self._facts)

    def lacking(self, needs: Needs) -> Lack | None:
        """Return what is nowhere there together, and a CPU with it; None where all of it is."""
        asked = dict(needs)
        asked.setdefault("num_cpus", 1)
        return lack_of(tuple(asked.items()), map(_renamed, self.grounds()))

    def grounds(self) -> Iterable[Amounts]:
        """Return the resources that there are together in one place."""
        return nodes().values()

    def _anywhere(self, needs: Needs) -> dict[str, Any]:
        """Return what Ray is told of a seat for such needs."""
        return self._options | _as_options(needs)

    def _pinned(self, node: str) -> dict[str, Any]:
        strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        return {**self._options, "scheduling_strategy": strategy}

    def _seat(self, needs: Needs, options: Mapping[str, Any], node: str = "") -> Seat:
        return Seat(self._name(), Kind(needs, node, options), self._facts)

    def _name(self) -> str:
        return f"seat-{next(self._names)}"


class GroupFloor(Floor):
    """Makes seats in a placement group.

    Args:
        group: The group, which is ready.
        facts: See `Floor`.
        options: See `Floor`.
        most: See `Floor`.
    """

    def __init__(
        self,
        group: Any,
        facts: tuple[Any, ...],
        options: Mapping[str, Any],
        *,
        most: int | None,
    ) -> None:
        super().__init__(facts, options, most=most)
        self._group = group
        self._is_taken = False

    def seats(self, there: Mapping[str, Amounts], taken: Mapping[str, int]) -> list[Seat]:
        del there, taken  # a group stays as it was made
        if self._is_taken:
            return []
        self._is_taken = True
        rows = [[place] * _cpus(amounts) for place, amounts in enumerate(self.grounds())]
        places = chain.from_iterable(zip_longest(*rows))
        by_turns = (place for place in places if place is not None)
        return [
            self._seat((), self._within(place) | {"num_cpus": 1})
            for place in islice(by_turns, self._most)
        ]

    def grounds(self) -> Iterable[Amounts]:
        return self._group.bundle_specs  # type: ignore[no-any-return] # extras are Any

    def _anywhere(self, needs: Needs) -> dict[str, Any]:
        return self._within(-1) | _as_options(needs)

    def _within(self, place: int) -> dict[str, Any]:
        """Return what Ray is told of a seat in a bundle; -1 for any."""
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=place
        )
        return {**self._options, "scheduling_strategy": strategy}


def nodes() -> dict[str, Amounts]:
    """Return the resources of the nodes that are there."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def is_modest(needs: Needs) -> bool:
    """Whether any seat will do."""
    return all(name == "num_cpus" and amount <= 1 for name, amount in needs)


def _cpus(amounts: Amounts) -> int:
    return int(amounts.get("CPU", 0))


def _fitting(amounts: Amounts, needs: Needs) -> int:
    """Return how often there is what is needed, and a CPU for each."""
    asked = {NAMES.get(name, name): amount for name, amount in needs if amount}
    counts = (amounts.get(name, 0) // amount for name, amount in ({"CPU": 1} | asked).items())
    return int(min(counts))


def _renamed(amounts: Amounts) -> dict[str, float]:
    """Return resources by the names that nodes use."""
    ours = {theirs: ours for ours, theirs in NAMES.items()}
    return {ours.get(name, name): amount for name, amount in amounts.items()}


def _as_options(needs: Needs) -> dict[str, Any]:
    own: dict[str, Any] = {name: amount for name, amount in needs if name in OWN}
    others = {name: amount for name, amount in needs if name not in own}
    return own | ({"resources": others} if others else {})
