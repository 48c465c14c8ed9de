"""Seats: one actor each, a worker process that runs one chunk after another.

A seat is a place from the beginning; its actor starts with the first chunk. What comes before the
actor is there waits in the driver, from where it can be taken back.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ray

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from hypernodes._engine.clusters.cluster import Order
    from hypernodes._engine.clusters.needs import Needs

LOOK: Final = "look"
HEAR: Final = "hear"
"""What an actor does beside its work, each of them in a thread of its own."""


class Kind(NamedTuple):
    """What a seat is.

    Attributes:
        needs: The resources that it holds; none for one that takes whatever needs none.
        node: The node of the cluster where it has to be; empty where Ray finds one.
        options: What Ray is told of the actor.
    """

    needs: Needs
    node: str
    options: Mapping[str, Any]


class Seat:
    """An actor as its driver sees it.

    Args:
        name: What the pool calls it.
        kind: What it is.
        facts: What the actor is told when it begins.

    Attributes:
        actor: The handle, while there is one.
        turn: How often it has been started or stopped: news of another turn are old.
        node: The node of the cluster where it is, while the actor is ready; else empty.
        waiting: Chunks for when the actor is ready, by number.
        flying: Chunks that have been sent and have not come back, by number.
        tokens: Plans that have been sent.
        busy_at: When it had something to do for the last time.
    """

    def __init__(self, name: str, kind: Kind, facts: tuple[Any, ...]) -> None:
        self.name = name
        self.kind = kind
        self.actor: Any = None
        self.turn = 0
        self.node = ""
        self.waiting: dict[int, Order] = {}
        self.flying: dict[int, Order] = {}
        self.tokens: set[int] = set()
        self.busy_at = time.monotonic()
        self._facts = facts

    @property
    def is_ready(self) -> bool:
        """Whether the actor has answered."""
        return bool(self.node)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.waiting or self.flying)

    def start(self) -> None:
        """Start the actor."""
        self.turn += 1
        self.actor = _actor_class().options(**self.kind.options).remote(*self._facts)

    def ask(self, method: str, *facts: Any, beside: str = LOOK) -> Any:
        """Call a method of the actor beside its work; return what leads to the answer."""
        return getattr(self.actor, method).options(concurrency_group=beside).remote(*facts)

    def stop(self) -> None:
        """End the actor; it may be started again."""
        actor, self.actor, self.node = self.actor, None, ""
        self.turn += 1
        self.tokens.clear()
        if actor is not None:
            ray.kill(actor)

    def take_back(self, numbers: Collection[int]) -> list[int]:
        """Drop chunks that have not been sent; return which."""
        found = [number for number in numbers if number in self.waiting]
        for number in found:
            del self.waiting[number]
        return found


@cache
def _actor_class() -> Any:
    """Return the class of the actors.

    As it is in no module it travels by value, so that a process can be told where to find this
    library, and asked for its version, before it needs it.
    """

    class HypernodesWorker:
        def __init__(self, path: list[str] | None, environment: dict[str, str] | None) -> None:
            import sys  # noqa: PLC0415 - it travels alone

            if path is not None:
                sys.path[:] = path
            self._environment = environment

        def answer(self, question: str, here: dict[str, Any]) -> tuple[str, dict[str, Any]]:
            from importlib import import_module  # noqa: PLC0415

            there = eval(question)  # noqa: S307 - our own driver's
            if there == here:
                module = import_module("hypernodes._engine.clusters.ray_worker")
                self._desk = module.Desk(self._environment)
            return str(ray.get_runtime_context().get_node_id()), there

        def work(self, *facts: Any) -> Any:
            return self._desk.work(*facts)

        def look(self, *facts: Any) -> Any:
            return self._desk.look(*facts)

        def forget(self, *facts: Any) -> None:
            self._desk.forget(*facts)

        def hear(self, heard: int) -> Any:
            return self._desk.hear(heard)

    return ray.remote(concurrency_groups={LOOK: 1, HEAR: 1})(HypernodesWorker)
