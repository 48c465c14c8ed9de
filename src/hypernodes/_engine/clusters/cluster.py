"""What a pool has to know of an engine that runs tasks somewhere: the contract of its adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hypernodes._engine.shipping.parcels import Hold
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable

    from hypernodes._engine.clusters.briefs import Attempt, Brief, Luggage, Report
    from hypernodes._engine.clusters.needs import Lack, Needs
    from hypernodes._engine.shipping.keeping import Reference
    from hypernodes._engine.shipping.parcels import Packer


def unfit(worker: str, error: BaseException, remedy: str) -> HyperNodesError:
    """Return the error for a worker that cannot run chunks at all.

    Args:
        worker: What it is called.
        error: What it has raised.
        remedy: What to do.
    """
    kind = type(error).__name__
    found = HyperNodesError(f"{worker} cannot run chunks of hypernodes ({kind}: {error}); {remedy}")
    found.__cause__ = error
    return found


class Order(NamedTuple):
    """A chunk for a place.

    Attributes:
        brief: What the task is told.
        place: Where it runs.
        luggage: What all chunks of its plan share.
        is_known: Whether that is there already.
        references: Values that other tasks have made, in the order of the brief's places.
        needs: The resources that it takes.
    """

    brief: Brief
    place: str
    luggage: Luggage
    is_known: bool
    references: Collection[Reference]
    needs: Needs


class Listener(Protocol):
    """Who hears of what happens; from any thread."""

    def reported(self, number: int, report: Report) -> None:
        """Hear how far a chunk has come."""

    def looked(self, numbers: Iterable[int]) -> None:
        """Hear that chunks have told how far they are, if they could."""

    def kept(self, number: int, slots: Iterable[int]) -> None:
        """Hear that a chunk has left values where it ran; before its report, in that thread."""

    def crashed(self, number: int) -> None:
        """Hear that a chunk has lost its worker while it ran, and nobody else has."""

    def mislaid(self, number: int) -> None:
        """Hear that a chunk did not run, because what it needs was lost; it goes back."""

    def announced(self, attempt: Attempt) -> None:
        """Hear of an attempt that is about to be made."""

    def joined(self, place: str, capacity: int, needs: Needs = ()) -> None:
        """Hear of a place that is there now, perhaps for certain needs only."""

    def left(self, place: str) -> None:
        """Hear of a place that is gone, with all that it had."""

    def vanished(self, numbers: Collection[int]) -> None:
        """Hear that values are gone that chunks have left."""

    def broken(self, error: BaseException) -> None:
        """Hear that the cluster cannot be reached any more."""

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do; from any thread."""

    def later(self, call: Callable[[], None]) -> None:
        """Have a call made in the thread that deals with all this."""


class Cluster(ABC):
    """Runs chunks as tasks; all but the constructor is called in one thread.

    Attributes:
        packer: Makes parcels of what goes out.
        ground: What it is called by all who are connected to it.
        cost: What a task costs driver and workers besides its work, in seconds.
        isolates: Whether every task has a process to itself.
        values_outlive: Whether values outlive the place where they were made: then it is told which
            are gone.
        settles: Whether workers take over where the driver is: those that we have started do.
    """

    cost: float
    packer: Packer = Hold()
    ground: Hashable | None = None
    isolates: bool = False
    values_outlive: bool = False
    settles: bool = False

    @abstractmethod
    def open(self, listener: Listener) -> None:
        """Begin to tell; of the places that are there, before anything else."""

    @abstractmethod
    def submit(self, order: Order) -> None:
        """Have a chunk run, once; report its end."""

    @abstractmethod
    def look(self, place: str, numbers: Collection[int], *, back: bool, void: bool) -> None:
        """Have chunks report how far they are; see `worker.look`.

        Args:
            place: Where they are.
            numbers: Which ones.
            back: Whether what they have not begun is given back.
            void: Whether nobody wants what they do.
        """

    @abstractmethod
    def release(self, numbers: Iterable[int]) -> None:
        """Let go of values that chunks have left where they were made."""

    @abstractmethod
    def forget(self, places: Collection[str], tokens: Collection[int]) -> None:
        """Have workers let go of plans, and of what they share."""

    def unshare(self, tokens: Collection[int]) -> None:
        """Let go of what is here for plans that no chunk will need again."""
        del tokens

    @abstractmethod
    def lacking(self, needs: Needs) -> Lack | None:
        """Return what no place has of what is needed; None where one has it all."""

    def provide(self, needs: Needs) -> Iterable[str]:
        """Return the names of places for such needs that are there from now on, each for one."""
        del needs
        return ()

    @abstractmethod
    def suits(self, place: str, needs: Needs) -> bool:
        """Return whether a place has the resources, and is for what needs them."""

    @property
    def is_over(self) -> bool:
        """Whether the next run needs another one: it is gone, or not the right one now."""
        return False

    def explained(self, error: BaseException) -> BaseException:
        """Return what to tell of an error that one of these calls has raised."""
        return error

    def bears(self) -> bool:
        """Return whether the processes of all workers may have children."""
        return True

    def kill(self, place: str) -> None:
        """End a worker that is busy with what nobody wants, or has older code than a new one has.

        By default, it is not ours to end; where workers settle, another one has to join then.
        """
        del place

    @abstractmethod
    def close(self) -> None:
        """End what we have started, and leave the rest running."""
