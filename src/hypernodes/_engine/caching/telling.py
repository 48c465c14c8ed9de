"""What observers are told of caches: of what was found, of what was not, and of what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.scheme import parameters
from hypernodes._engine.observing.passes import Pass
from hypernodes._engine.observing.witness import clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Slot, Step


def tell_found(
    engine: PipelineExecutionEngine,
    witness: Witness | None,
    step: Step,
    signature: str,
    *,
    values: Mapping[Slot, Any],
    outputs: Sequence[Any],
) -> None:
    """Tell a witness that what a node gives was found; of its inputs, those that are there.

    Args:
        engine: Runs the plan that it belongs to.
        witness: Who is told, if somebody observes.
        step: The step.
        signature: Under which it was kept.
        values: What is there, by slot.
        outputs: What was found.
    """
    if witness is None or engine.audience is None or step.index not in engine.observed:
        return
    cue = engine.audience.cues[step.index]
    value = outputs if step.unpacks else outputs[0]
    inputs = _inputs(step, values) if cue.inputs else None
    shown = inputs, value if cue.output else None
    witness.found(step.index, clock(), signature, shown)


def _inputs(step: Step, values: Mapping[Slot, Any]) -> dict[str, Any]:
    names = zip(step.arguments, parameters(step), strict=True)
    return {name: values[a.slot] for a, (_, name) in names if a.slot in values}


def has_replaced(witness: Witness | None, step: Step) -> bool:
    """Tell whether hooks have replaced what a step has made, as far as it is known here."""
    return isinstance(witness, Pass) and witness.has_replaced(step.index)
