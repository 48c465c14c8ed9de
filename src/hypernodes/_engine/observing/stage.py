"""What is known of the runs around steps, wherever these run: for what is called around nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypernodes._engine.plan import Plan
    from hypernodes.callbacks import Scene
    from hypernodes.pipeline import Pipeline


@dataclass(slots=True)
class Scenery:
    """What is known of a run where it is not followed; see `Scene`."""

    run_id: str
    parent_run_id: str | None
    mode: str
    pipeline: Pipeline
    state: dict[str, Any] = field(default_factory=dict)


class Stage:
    """One pass through a plan, as far as it has to be known to name the runs inside.

    Args:
        plan: The plan.
        scene: The run that it is a pass of.
        index: The item's index; None for the run itself.
    """

    __slots__ = ("_index", "_plan", "_scene")

    def __init__(self, plan: Plan, scene: Scene, index: int | None) -> None:
        self._plan = plan
        self._scene = scene
        self._index = index

    def scene(self, index: int) -> Scene:
        """Return the run that a step belongs to: the innermost pipeline around it."""
        number = self._plan.steps[index].scope
        return self._scene if number is None else self._dissolved(number)

    def item(self, index: int, item: int | None) -> Stage:
        """Return the stage of an item of the map inside a step, or of the run there."""
        inner = self._plan.steps[index].inner
        assert inner is not None  # noqa: S101 - only asked of such steps
        around, state = self.scene(index), self._scene.state
        run_id = nested_id(self._scene, self._index, f"s{index}")
        scene = Scenery(run_id, around.run_id, "map", inner.pipeline, state)
        return Stage(inner.item_engine.plan, scene, item)

    def _dissolved(self, number: int) -> Scene:
        scope, state = self._plan.scopes[number], self._scene.state
        around = self._scene if scope.outer is None else self._dissolved(scope.outer)
        run_id = nested_id(self._scene, self._index, f"p{number}")
        return Scenery(run_id, around.run_id, "run", scope.pipeline, state)


def nested_id(scene: Scene, index: int | None, what: str) -> str:
    """Return what a run inside a pass is called, the same wherever it is asked.

    Args:
        scene: The run that the pass belongs to.
        index: The item's index, if it is one of an item.
        what: What tells it from others inside the pass.
    """
    item = "" if index is None else f"{index}."
    return f"{scene.run_id}.{item}{what}"
