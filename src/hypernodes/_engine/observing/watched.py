"""What an engine knows of those who observe the passes through its plan."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from hypernodes._engine.failure import Failure
from hypernodes._engine.observing.passes import Entrance
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.script import Script
from hypernodes._engine.observing.witness import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.failure import Outcome
    from hypernodes._engine.observing.follower import Follower
    from hypernodes._engine.observing.script import Audience
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Plan


class Watched:
    """An engine as those see it who observe.

    Attributes:
        plan: What it runs.
        audience: Who observes; None where nobody does.
    """

    plan: Plan
    audience: Audience | None

    @cached_property
    def is_observed(self) -> bool:
        """Whether there is anything to tell of a pass through the plan."""
        return self.audience is not None and self.audience.is_there

    @cached_property
    def observed(self) -> frozenset[int]:
        """The indexes of the steps whose calls take a witness first."""
        if self.audience is None:
            return frozenset()
        steps = zip(self.plan.steps, self.audience.cues, strict=True)
        return frozenset(s.index for s, cue in steps if s.inner is not None or not cue.is_silent)

    @cached_property
    def script(self) -> Script:
        """Who is called for the events of the plan; only in the driver."""
        assert self.audience is not None  # noqa: S101 - asked by those who observe
        return Script(self.plan, self.audience.watched)

    def opened(
        self,
        inputs: Mapping[str, Any],
        item: Mapping[str, Any],
        witness: Witness | None,
        when: float | None = None,
    ) -> None:
        """Tell a witness of the start of a pass.

        Args:
            inputs: The inputs that all items share.
            item: The item's own.
            witness: Who is told, if somebody observes.
            when: The time; None for now.
        """
        audience = self.audience
        if witness is not None and audience is not None:
            given = audience.values(self.plan, inputs, item)
            own = dict(item) if audience.inputs else None
            witness.started(clock() if when is None else when, own, given)

    def closed(self, witness: Witness | None, outcome: Outcome, when: float | None = None) -> None:
        """Tell a witness of the end of a pass.

        Args:
            witness: Who is told, if somebody observes.
            outcome: How it has ended.
            when: The time; None for now.
        """
        audience = self.audience
        if witness is None or audience is None:
            return
        now = clock() if when is None else when
        if isinstance(outcome, Failure):
            witness.failed(now, outcome.error)
        else:
            witness.ended(now, dict(outcome) if audience.outputs else None)

    def entrance(self) -> Entrance | None:
        """Return what gives, for items by index, who is told of them in the current scene."""
        scene = SCENE.get() if self.is_observed else None
        return None if scene is None else Entrance(scene, self)

    def present(self, index: int | None) -> Follower | None:
        """Return who is told of a pass in the current scene."""
        scene = SCENE.get() if self.is_observed else None
        return None if scene is None else scene.enter(self, index)
