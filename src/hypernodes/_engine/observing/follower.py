"""Witnesses that follow what they are told, and so know which runs are open inside a pass."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypernodes._engine.observing.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.observing.passes import Entrance
    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.observing.tally import Tally
    from hypernodes._engine.observing.watched import Watched

LODGER: Final = -1
"""In the place of an item's index: the pass of a node that runs elsewhere, inside the pass."""


class Site(Protocol):
    """Where what runs now belongs."""

    @property
    def run(self) -> Run:
        """The run."""

    def enter(self, engine: Watched, index: int | None = None) -> Follower:
        """Return who is told of a pass: of the run itself, or of one of its items."""

    def number(self, index: int) -> int:
        """Return what an item is called in the driver; here it may be counted otherwise."""


class Follower(Witness):
    """A witness where plans are driven from: it knows of the runs inside."""

    @property
    @abstractmethod
    def run(self) -> Run:
        """What the pass belongs to."""

    @property
    @abstractmethod
    def index(self) -> int | None:
        """The item's index; None for the run itself."""

    @property
    @abstractmethod
    def signatures(self) -> Mapping[int, str]:
        """Under what steps that are under way were looked up."""

    @abstractmethod
    def tally(self, index: int) -> Tally:
        """Return where the items of the map inside a step are counted."""

    @abstractmethod
    def entrance(self, step: int, engine: Watched) -> Entrance | None:
        """Return who is told of the items of the map inside a step, if it has started."""

    @abstractmethod
    def inside(self, step: int) -> Site | None:
        """Return the site of the pipeline inside a step, if its run has started."""

    @abstractmethod
    def touch(self, index: int, when: float) -> Site:
        """Note the start of a node that runs elsewhere; return the site for it."""

    @abstractmethod
    def release(self, index: int, when: float, value: Any) -> None:
        """Note the end of such a node."""

    @abstractmethod
    def within(self) -> Site:
        """Return the site for all of an item, run by another executor."""
