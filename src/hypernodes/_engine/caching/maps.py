"""Maps inside a plan: their items have keys of their own, made of those that are known outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.loading import keep_map
from hypernodes._engine.caching.orders import FailedError
from hypernodes._engine.caching.prepared import Item
from hypernodes._engine.caching.telling import has_replaced
from hypernodes._engine.inner import items_of
from hypernodes._engine.mapping import Items
from hypernodes._engine.observing.inside import map_told
from hypernodes.cache._code import CodeSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hypernodes._engine.caching.keyed import KeyedEngine
    from hypernodes._engine.caching.keys import Key
    from hypernodes._engine.caching.loading import Row
    from hypernodes._engine.caching.orders import Call, Order
    from hypernodes._engine.caching.prepared import Prepared
    from hypernodes._engine.plan import Slot, Step


def inner_items(
    engine: KeyedEngine,
    step: Step,
    values: Iterable[Any],
    keys: Sequence[Key | None],
    inputs: Prepared,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the shared inputs and the items of a mapped step, with their keys.

    What all items share keeps the key that it has outside; what is each item's own goes by its
    value.

    Args:
        engine: Runs the plan.
        step: The mapped step.
        values: What it takes, in order.
        keys: What is known of keys, by slot.
        inputs: What the run has been given.
    """
    inner, inside = step.inner, engine.inner_engines.get(step.index)
    assert inner is not None  # noqa: S101 - a map has a pipeline inside
    items = items_of(inner, values)
    if inside is None:
        return items.shared, list(items.items)
    taken = zip(inner.inputs, step.arguments, strict=True)
    known = {name: key for name, argument in taken if (key := keys[argument.slot]) is not None}
    codes, identify = inputs.codes.inner[step.index], CodeSnapshot().identify
    shared = inside.prepared_from(items.shared, codes, inputs.once, known, identify)
    return shared, [inside.item(shared, item, identify) for item in items.items]


def rows_of(engine: KeyedEngine, step: Step, items: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the keys of what the items of a mapped step give, empty where there is none.

    Args:
        engine: Runs the plan.
        step: The mapped step.
        items: Its items, as `inner_items` has returned them.
    """
    inside, inner = engine.inner_engines.get(step.index), step.inner
    if inside is None or inner is None or step.index not in engine.signed_maps:
        return [("",)]
    slots = [inside.plan.results[name] for name in inner.outputs]
    keys = [item.slot_keys for item in items if isinstance(item, Item)]
    return [tuple(each[slot] or "" for slot in slots) for each in keys]


def map_inside(
    engine: KeyedEngine,
    step: Step,
    values: Mapping[Slot, Any],
    keys: Sequence[Key | None],
    *,
    order: Order | None,
    inputs: Prepared,
    call: Call,
) -> Sequence[Any]:
    """Return what a mapped step gives, one item after another unless another executor maps.

    Args:
        engine: Runs the plan.
        step: The mapped step.
        values: What it takes, by slot.
        keys: What is known of keys, by slot.
        order: Where to keep what its outputs are made of; None for nowhere.
        inputs: What the run has been given.
        call: For which item, and who is told.

    Raises:
        FailedError: An item has failed.
    """
    inner = step.inner
    assert inner is not None  # noqa: S101 - a map has a pipeline inside
    taken = [values[argument.slot] for argument in step.arguments]
    try:
        shared, items = inner_items(engine, step, taken, keys, inputs)
        mapped = Items(shared, iter(items), len(items))
        lists: Sequence[Any] = map_told(step, inner, call.witness, taken, mapped)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raised
        raise FailedError(engine.failure(error, step, call.item)) from None
    if order is not None and order.is_sound and not has_replaced(call.witness, step):
        keep_map(engine, step, order, rows_of(engine, step, items))
    return lists
