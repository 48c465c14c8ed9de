"""What observers are told of caches: of what was found, of what was not, and of what is kept."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.prepared import FoundMap
from hypernodes._engine.caching.scheme import parameters
from hypernodes._engine.inner import items_of
from hypernodes._engine.observing.inside import tell_inner_ended, tell_inner_started
from hypernodes._engine.observing.witness import clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.caching.keyed import KeyedEngine
    from hypernodes._engine.caching.prepared import FoundPart
    from hypernodes._engine.observing.witness import Witness
    from hypernodes._engine.plan import Slot, Step


def tell_found(
    engine: KeyedEngine,
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
    if isinstance(outputs, FoundMap):
        _tell_map(engine, witness, step, values, outputs)
        return
    cue = engine.audience.cues[step.index]
    value = outputs if step.unpacks else outputs[0]
    inputs = _inputs(step, values) if cue.inputs else None
    shown = inputs, value if cue.output else None
    witness.found(step.index, clock(), signature, shown)


def _inputs(step: Step, values: Mapping[Slot, Any]) -> dict[str, Any]:
    names = zip(step.arguments, parameters(step), strict=True)
    return {name: values[a.slot] for a, (_, name) in names if a.slot in values}


def _tell_map(
    engine: KeyedEngine,
    witness: Witness,
    step: Step,
    values: Mapping[Slot, Any],
    found: FoundMap,
) -> None:
    """Tell of a map that was found: of its items, and of the nodes that have made its outputs."""
    inner = step.inner
    assert inner is not None  # noqa: S101 - a map has a pipeline inside
    slots = [argument.slot for argument in step.arguments]
    taken = [values[slot] for slot in slots] if values.keys() >= {*slots} else None
    enter = tell_inner_started(witness, step, len(found.items), taken)
    if enter is not None:
        inside = engine.inner_engines[step.index]
        items = None if taken is None else items_of(inner, taken)
        each = repeat(None, len(found.items)) if items is None else items.items
        shared = {} if items is None else items.shared
        for index, item in enumerate(each):
            outputs = {n: lists[index] for n, lists in zip(inner.outputs, found, strict=True)}
            _tell_item(inside, enter(index), shared, item, (found.items[index], outputs))
    witness.inner_went(step.index, len(found.items), 0)
    tell_inner_ended(witness, step, found)


def _tell_item(
    engine: KeyedEngine,
    witness: Witness,
    shared: Mapping[str, Any],
    item: Mapping[str, Any] | None,
    found: tuple[Sequence[FoundPart], dict[str, Any]],
) -> None:
    """Tell of an item that was found, with its inputs if they are there."""
    if item is None:
        witness.started(clock(), None, {})
    else:
        engine.opened(shared, item, witness)
    values = {} if item is None else engine.plan.values(shared, item)
    parts, outputs = found
    for step, made, each in parts:
        tell_found(engine, witness, step, made, values=values, outputs=each)
    engine.closed(witness, outputs)


def has_replaced(witness: Witness | None, step: Step) -> bool:
    """Tell whether hooks have replaced what a step has made."""
    return witness is not None and witness.has_replaced(step.index)
