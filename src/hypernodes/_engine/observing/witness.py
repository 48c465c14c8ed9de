"""Who is told what happens in one pass through a plan, where it happens or by record."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.place import current_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._dispatch.place import Worker
    from hypernodes._engine.observing.stage import Stage
    from hypernodes._engine.plan import Slot

clock: Final = time.monotonic
"""What events are timed by: seconds, the same in all processes of a machine."""


class Witness(ABC):
    """Is told what happens in one pass through a plan: a run's, or an item's.

    Steps are named by their index in the plan, times are those of `clock`. Values that nobody has
    asked for are None.

    Attributes:
        item_index: The item's index, in a map.
    """

    item_index: int | None = None

    @abstractmethod
    def started(
        self,
        when: float,
        item: Mapping[str, Any] | None,
        given: Mapping[Slot, Any],
        worker: Worker | None = None,
    ) -> None:
        """Note the start of the pass.

        Args:
            when: The time.
            item: The item's own inputs.
            given: Values that are there before any step and that dissolved pipelines take or give.
            worker: Where it runs; None for the current thread.
        """

    @abstractmethod
    def ended(self, when: float, outputs: Mapping[str, Any] | None) -> None:
        """Note the end of the pass."""

    @abstractmethod
    def failed(self, when: float, error: BaseException) -> None:
        """Note that the pass has failed; nothing comes after that."""

    @abstractmethod
    def node_started(
        self,
        index: int,
        when: float,
        inputs: Mapping[str, Any] | None,
        worker: Worker | None = None,
    ) -> None:
        """Note the start of a node."""

    @abstractmethod
    def node_ended(self, index: int, when: float, value: Any, attempt: int = 1) -> None:
        """Note the end of a node."""

    @abstractmethod
    def node_failed(
        self,
        index: int,
        when: float,
        error: BaseException,
        attempt: int,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Note that a node has failed for good; with its inputs if its start came without."""

    @abstractmethod
    def node_retried(
        self, index: int, when: float, error: BaseException, attempt: int, delay: float
    ) -> None:
        """Note that an attempt has failed and another one will be made, after some seconds."""

    @abstractmethod
    def node_noted(self, index: int, note: str) -> None:
        """Note what hooks around a node leave for those at its end."""

    @abstractmethod
    def node_replaced(self, index: int) -> None:
        """Note that hooks have put another value in the place of what a node has made."""

    @abstractmethod
    def has_replaced(self, index: int) -> bool:
        """Tell whether hooks have replaced what a step has made, or something inside it."""

    @abstractmethod
    def found(
        self,
        index: int,
        when: float,
        signature: str,
        shown: tuple[Mapping[str, Any] | None, Any],
        worker: Worker | None = None,
    ) -> None:
        """Note that the value of a node was in its cache; all that there is to tell of the node.

        Args:
            index: The step.
            when: The time.
            signature: Under which it was kept.
            shown: The node's inputs, as far as they are there, and its value.
            worker: Where that was; None for the current thread.
        """

    @abstractmethod
    def missed(self, index: int, signature: str) -> None:
        """Note, before its start, that the value of a node is not in its cache."""

    @abstractmethod
    def kept(self, index: int, when: float, signature: str | None) -> None:
        """Note the end of such a node, whose value has been stored; None where it has not."""

    @abstractmethod
    def reported(self, index: int, when: float, kind: str, data: dict[str, Any]) -> None:
        """Note what the code of a node reports."""

    @abstractmethod
    def inner_started(
        self, index: int, when: float, count: int | None, inputs: Mapping[str, Any] | None
    ) -> None:
        """Note the start of the map inside a step, of so many items."""

    @abstractmethod
    def inner_run_started(self, index: int, when: float, inputs: Mapping[str, Any] | None) -> None:
        """Note the start of the run inside a step, of a pipeline with a config of its own."""

    @abstractmethod
    def inner_ended(self, index: int, when: float, outputs: Mapping[str, Any] | None) -> None:
        """Note the end of the map, or run, inside a step."""

    @abstractmethod
    def inner_failed(self, index: int, when: float, error: BaseException) -> None:
        """Note that the map, or run, inside a step has failed."""

    @abstractmethod
    def inner_went(self, index: int, ended: int, failed: int) -> None:
        """Note that so many items of the map inside a step have ended, some of them by failing."""

    @abstractmethod
    def lost(self, when: float, error: BaseException, delay: float) -> None:
        """Note that who ran the pass is gone, and that all of it runs again, after some seconds."""

    @abstractmethod
    def touched(self, index: int, when: float) -> None:
        """Note the start of a step whose node runs under a config of its own."""

    @abstractmethod
    def released(self, index: int, when: float, value: Any) -> None:
        """Note the end of such a step."""

    @abstractmethod
    def item(self, step: int, index: int | None) -> Witness:
        """Return who is told of an item of the map inside a step, or of the run there."""

    @property
    @abstractmethod
    def stage(self) -> Stage:
        """What is known of the runs around steps, for what is called around nodes."""

    @abstractmethod
    def signature(self, index: int) -> str | None:
        """Return under what a step was looked up, if it was."""


Place = tuple[tuple[int, int | None], ...]
"""The steps and items that lead to a pass, from the outermost one of some work."""

Record = tuple[Place, str, tuple[Any, ...]]
"""One thing that a witness was told, fit for travelling: which pass that was of; the method of
`Witness`; its arguments."""


class Recorder(Witness):
    """Makes records, for a witness who is elsewhere.

    Args:
        tell: Takes the records.
        stage: What is known here of the runs.
        item_index: See `Witness`.
        place: The steps and items that lead to the pass.
        around: Makes the records of the pass around, if this is one of an item inside it.
    """

    def __init__(
        self,
        tell: Callable[[Record], None],
        stage: Stage,
        item_index: int | None = None,
        place: Place = (),
        around: Recorder | None = None,
    ) -> None:
        self._tell = tell
        self._stage = stage
        self.item_index = item_index
        self._place = place
        self._around = around
        self._replaced: set[int] = set()
        self._signatures: dict[int, str] = {}

    @property
    def stage(self) -> Stage:
        return self._stage

    def signature(self, index: int) -> str | None:
        return self._signatures.get(index)

    def started(self, when: float, item: Any, given: Any, worker: Worker | None = None) -> None:
        self._tell((self._place, "started", (when, item, given, worker or current_worker())))

    def ended(self, *facts: Any) -> None:
        self._tell((self._place, "ended", facts))

    def failed(self, *facts: Any) -> None:
        self._tell((self._place, "failed", facts))

    def node_started(
        self, index: int, when: float, inputs: Any, worker: Worker | None = None
    ) -> None:
        self._tell((self._place, "node_started", (index, when, inputs, worker or current_worker())))

    def node_ended(self, *facts: Any) -> None:
        self._tell((self._place, "node_ended", facts))

    def node_failed(self, *facts: Any) -> None:
        self._tell((self._place, "node_failed", facts))

    def node_retried(self, *facts: Any) -> None:
        self._tell((self._place, "node_retried", facts))

    def node_noted(self, *facts: Any) -> None:
        self._tell((self._place, "node_noted", facts))

    def node_replaced(self, index: int) -> None:
        self._note_replaced(index)
        self._tell((self._place, "node_replaced", (index,)))

    def _note_replaced(self, index: int) -> None:
        self._replaced.add(index)
        if self._around is not None:
            self._around._note_replaced(self._place[-1][0])  # noqa: SLF001 - one of its own kind

    def has_replaced(self, index: int) -> bool:
        return index in self._replaced

    def found(
        self, index: int, when: float, signature: str, shown: Any, worker: Worker | None = None
    ) -> None:
        facts = index, when, signature, shown, worker or current_worker()
        self._tell((self._place, "found", facts))

    def missed(self, index: int, signature: str) -> None:
        self._signatures[index] = signature
        self._tell((self._place, "missed", (index, signature)))

    def kept(self, *facts: Any) -> None:
        self._tell((self._place, "kept", facts))

    def reported(self, *facts: Any) -> None:
        self._tell((self._place, "reported", facts))

    def inner_started(self, *facts: Any) -> None:
        self._tell((self._place, "inner_started", facts))

    def inner_run_started(self, *facts: Any) -> None:
        self._tell((self._place, "inner_run_started", facts))

    def inner_ended(self, *facts: Any) -> None:
        self._tell((self._place, "inner_ended", facts))

    def inner_failed(self, *facts: Any) -> None:
        self._tell((self._place, "inner_failed", facts))

    def inner_went(self, *facts: Any) -> None:
        self._tell((self._place, "inner_went", facts))

    def lost(self, *facts: Any) -> None:
        self._tell((self._place, "lost", facts))

    def touched(self, *facts: Any) -> None:
        self._tell((self._place, "touched", facts))

    def released(self, *facts: Any) -> None:
        self._tell((self._place, "released", facts))

    def item(self, step: int, index: int | None) -> Recorder:
        place = (*self._place, (step, index))
        return Recorder(self._tell, self._stage.item(step, index), index, place, self)


def replay(witness: Witness, record: Record) -> None:
    """Tell `witness` what a record says."""
    place, told, facts = record
    for step, index in place:
        witness = witness.item(step, index)
    getattr(witness, told)(*facts)
