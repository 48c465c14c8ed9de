"""Following in a worker what is to be told in the driver, where an executor runs whole pipelines.

What such an executor needs to know of open runs, the worker's own passes know, which tell nobody;
all that they are told is recorded on the side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.observing.follower import LODGER, Follower
from hypernodes._engine.observing.passes import Entrance
from hypernodes._engine.observing.witness import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._dispatch.place import Worker
    from hypernodes._engine.observing.follower import Site
    from hypernodes._engine.observing.runs import Run
    from hypernodes._engine.observing.stage import Stage
    from hypernodes._engine.observing.tally import Tally
    from hypernodes._engine.observing.watched import Watched
    from hypernodes._engine.observing.witness import Witness

    RecorderOf = Callable[[int | None], Recorder]


class RelaySite:
    """A site whose passes are recorded.

    Args:
        site: Where they are followed.
        recorder_of: Returns what makes the records of a pass, by the item's index.
    """

    def __init__(self, site: Site, recorder_of: RecorderOf) -> None:
        self._site = site
        self._recorder_of = recorder_of

    @property
    def run(self) -> Run:
        """The run."""
        return self._site.run

    def enter(self, engine: Watched, index: int | None = None) -> Relay:
        """Return who is told of a pass: of the run itself, or of one of its items."""
        return Relay(self._site.enter(engine, index), self._recorder_of(index))

    def number(self, index: int) -> int:
        """Return what an item is called in the driver."""
        return self._site.number(index)


class Relay(Follower):
    """Hands on what it is told: to a pass that follows it here, and to who makes records of it.

    Args:
        follower: The pass.
        recorder: Makes the records.
    """

    def __init__(self, follower: Follower, recorder: Recorder) -> None:
        self._follower = follower
        self._recorder = recorder
        self.item_index = follower.item_index

    # ------------------------------------------------------------ what is told

    def started(self, when: float, item: Any, given: Any, worker: Worker | None = None) -> None:
        self._recorder.started(when, item, given, worker)
        self._follower.started(when, item, given, worker)

    def ended(self, when: float, outputs: Any) -> None:
        self._recorder.ended(when, outputs)
        self._follower.ended(when, outputs)

    def failed(self, when: float, error: BaseException) -> None:
        self._recorder.failed(when, error)
        self._follower.failed(when, error)

    def node_started(
        self, index: int, when: float, inputs: Any, worker: Worker | None = None
    ) -> None:
        self._recorder.node_started(index, when, inputs, worker)
        self._follower.node_started(index, when, inputs, worker)

    def node_ended(self, *facts: Any) -> None:
        self._recorder.node_ended(*facts)
        self._follower.node_ended(*facts)

    def node_failed(self, *facts: Any) -> None:
        self._recorder.node_failed(*facts)
        self._follower.node_failed(*facts)

    def node_retried(self, *facts: Any) -> None:
        self._recorder.node_retried(*facts)
        self._follower.node_retried(*facts)

    def node_noted(self, *facts: Any) -> None:
        self._recorder.node_noted(*facts)
        self._follower.node_noted(*facts)

    def node_replaced(self, index: int) -> None:
        self._recorder.node_replaced(index)
        self._follower.node_replaced(index)

    def found(
        self, index: int, when: float, signature: str, shown: Any, worker: Worker | None = None
    ) -> None:
        self._recorder.found(index, when, signature, shown, worker)
        self._follower.found(index, when, signature, shown, worker)

    def missed(self, index: int, signature: str) -> None:
        self._recorder.missed(index, signature)
        self._follower.missed(index, signature)

    def kept(self, *facts: Any) -> None:
        self._recorder.kept(*facts)
        self._follower.kept(*facts)

    def reported(self, *facts: Any) -> None:
        self._recorder.reported(*facts)

    def inner_started(self, *facts: Any) -> None:
        self._recorder.inner_started(*facts)
        self._follower.inner_started(*facts)

    def inner_run_started(self, *facts: Any) -> None:
        self._recorder.inner_run_started(*facts)
        self._follower.inner_run_started(*facts)

    def inner_ended(self, index: int, when: float, outputs: Mapping[str, Any] | None) -> None:
        self._tell_tally(index)
        self._recorder.inner_ended(index, when, outputs)
        self._follower.inner_ended(index, when, outputs)

    def inner_failed(self, index: int, when: float, error: BaseException) -> None:
        self._tell_tally(index)
        self._recorder.inner_failed(index, when, error)
        self._follower.inner_failed(index, when, error)

    def _tell_tally(self, index: int) -> None:
        with self.run.session.lock:
            ended, failed = self._follower.tally(index).news()
            if ended:
                self._recorder.inner_went(index, ended, failed)

    def inner_went(self, *facts: Any) -> None:
        self._follower.inner_went(*facts)  # and told by and by, or when the map has ended

    def lost(self, *facts: Any) -> None:
        self._recorder.lost(*facts)
        self._follower.lost(*facts)

    def touched(self, *facts: Any) -> None:
        self._recorder.touched(*facts)
        self._follower.touched(*facts)

    def released(self, *facts: Any) -> None:
        self._recorder.released(*facts)
        self._follower.released(*facts)

    # ------------------------------------------------------------ what is known here

    @property
    def run(self) -> Run:
        return self._follower.run

    @property
    def index(self) -> int | None:
        return self._follower.index

    @property
    def signatures(self) -> Mapping[int, str]:
        return self._follower.signatures

    @property
    def stage(self) -> Stage:
        return self._follower.stage

    def signature(self, index: int) -> str | None:
        return self._follower.signature(index)

    def has_replaced(self, index: int) -> bool:
        return self._follower.has_replaced(index)

    def tally(self, index: int) -> Tally:
        return self._follower.tally(index)

    # ------------------------------------------------------------ what is inside

    def item(self, step: int, index: int | None) -> Witness:
        witness = self._follower.item(step, index)
        if not isinstance(witness, Follower):  # it is over: whatever is told now goes nowhere
            return witness
        return Relay(witness, self._recorder.item(step, index))

    def inside(self, step: int) -> RelaySite | None:
        site = self._follower.inside(step)
        return None if site is None else RelaySite(site, self._recorder_of(step))

    def entrance(self, step: int, engine: Watched) -> Entrance | None:
        site = self.inside(step)
        return None if site is None or not engine.is_observed else Entrance(site, engine)

    def touch(self, index: int, when: float) -> RelaySite:
        self._recorder.touched(index, when)
        site = self._follower.touch(index, when)
        return RelaySite(site, lambda _: self._recorder.item(index, LODGER))

    def release(self, index: int, when: float, value: Any) -> None:
        self._recorder.released(index, when, value)
        self._follower.release(index, when, value)

    def within(self) -> RelaySite:
        return RelaySite(self._follower.within(), lambda _: _Within(self._recorder))

    def _recorder_of(self, step: int) -> RecorderOf:
        return lambda index: self._recorder.item(step, index)


class _Within(Recorder):
    """Makes the records of what another executor runs of an item, as those of the item itself.

    Args:
        outer: Makes the item's records.
    """

    def __init__(self, outer: Recorder) -> None:
        super().__init__(outer._tell, outer._stage, outer.item_index, outer._place)  # noqa: SLF001

    def ended(self, *facts: Any) -> None:
        """Leave that to who has handed the item on."""

    def failed(self, *facts: Any) -> None:
        """Leave that to who has handed the item on."""
