"""What somebody listens to and wants to know: all that workers elsewhere are told of callbacks."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTING: Final = "_around_node"
COUNTER: Final = "_on_tally"
NODE_EVENTS: Final = frozenset({"on_node_start", "on_node_end", "on_node_error", "on_node_retry"})
CACHE_EVENTS: Final = frozenset(
    {"on_cache_check", "on_cache_hit", "on_cache_miss", "on_cache_store"}
)
RUN_EVENTS: Final = frozenset({"on_pipeline_start", "on_pipeline_end", "on_pipeline_error"})
MAP_EVENTS: Final = frozenset({"on_map_start", "on_map_end", COUNTER})
ITEM_EVENTS: Final = frozenset({"on_item_start", "on_item_end", "on_item_error"})

Events = frozenset[tuple[str, frozenset[str]]]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the callbacks of a config ask for; it stands for them in other processes.

    Attributes:
        events: The hooks that there are, with the values (`inputs`, `outputs`) that each reads.
        wrappers: What is called around each node, from the outside in.
        settings: What sets up where a node runs, from the outside in; each returns what undoes it.
        inside: Those of `events` that are wanted of what is inside the items of maps, too.
    """

    events: Events
    wrappers: tuple[Callable[..., Any], ...] = ()
    settings: tuple[Callable[..., Any], ...] = ()
    inside: Events = frozenset()

    def listens(self, *names: str) -> bool:
        """Return whether there is one of some hooks."""
        return any(name in names for name, _ in self.events)

    def reads(self, value: str, *names: str) -> bool:
        """Return whether one of some hooks reads `value`."""
        return any(name in names and value in values for name, values in self.events)

    def of_items(self) -> Needs:
        """Return what is asked for inside the items of maps."""
        if self.inside == self.events:
            return self
        return Needs(self.inside, self.wrappers, self.settings, self.inside)


SHIPPING: Final[ContextVar[bool]] = ContextVar("hypernodes_shipping", default=False)
"""Whether what is pickled now goes to a worker process: then callbacks stay behind."""


@contextmanager
def shipping() -> Iterator[None]:
    """Pickle configs without their callbacks."""
    token = SHIPPING.set(True)
    try:
        yield
    finally:
        SHIPPING.reset(token)


def identity(given: object) -> object:
    """Return what tells a callback from others: names and methods by value, others as they are."""
    return given if isinstance(given, str | MethodType | Needs) else id(given)


def identities(callbacks: tuple[object, ...]) -> tuple[object, ...]:
    """Return what tells callbacks apart; see `identity`."""
    return tuple(map(identity, callbacks))
