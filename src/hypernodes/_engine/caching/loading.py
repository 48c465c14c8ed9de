"""From signatures to values and back: many at once, and maps by way of their items.

Of a mapped step no values are kept, only a list of the signatures that make up its outputs: each
item is an entry of its own, whoever made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.caching.keys import origin_of
from hypernodes._engine.caching.prepared import FoundMap
from hypernodes._engine.caching.records import node_name, parts_of
from hypernodes._node import Node
from hypernodes.abc import EntryRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.caching.keyed import KeyedEngine
    from hypernodes._engine.caching.orders import Order
    from hypernodes._engine.caching.prepared import Found, FoundPart, Once
    from hypernodes._engine.caching.shelf import Shelf
    from hypernodes._engine.plan import Step

    Wanted = Sequence[tuple[Step, str]]
    Row = tuple[str, ...]

_MAP: Final = "map"
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})


def load(engine: KeyedEngine, wanted: Wanted, once: Once) -> list[Found]:
    """Return the outputs of steps as far as they are kept, each time other objects.

    Args:
        engine: Runs the plan that they belong to.
        wanted: Steps, with signatures; any of them may be there several times.
        once: What the run has warned of.
    """
    if len(wanted) == 1:
        return [_load_one(engine, *wanted[0], once)]
    found: list[Found] = [None] * len(wanted)
    if not wanted:
        return found
    for shelf, places in _by_shelf(engine, wanted).items():
        for place, value in _values(shelf, places, once):
            found[place] = _as_outputs(wanted[place][0], value)
    maps = [p for p, (step, _) in enumerate(wanted) if step.index in engine.signed_maps]
    for place in maps:
        kept = found[place]
        if kept is not None:
            found[place] = _load_map(engine, wanted[place][0], kept[0], once)
    return found


def _load_one(engine: KeyedEngine, step: Step, made: str, once: Once) -> Found:
    values = engine.shelf(step).get_many((made,), once)
    found = _as_outputs(step, values[made]) if made in values else None
    if found is None or step.index not in engine.signed_maps:
        return found
    return _load_map(engine, step, found[0], once)


def rows_kept(engine: KeyedEngine, step: Step, made: str, once: Once) -> Sequence[Row] | None:
    """Return the keys of what the items of a mapped step gave, if it is kept.

    Args:
        engine: Runs the plan that it belongs to.
        step: The mapped step.
        made: Its signature.
        once: What the run has warned of.
    """
    values = engine.shelf(step).get_many((made,), once)
    found = _as_outputs(step, values[made]) if made in values else None
    return None if found is None else found[0]


def _by_shelf(engine: KeyedEngine, wanted: Wanted) -> dict[Shelf, dict[str, list[int]]]:
    groups: dict[Shelf, dict[str, list[int]]] = {}
    if engine.only_shelf is not None:
        places = groups[engine.only_shelf] = {}
        for place, (_, made) in enumerate(wanted):
            places.setdefault(made, []).append(place)
        return groups
    for place, (step, made) in enumerate(wanted):
        groups.setdefault(engine.shelf(step), {}).setdefault(made, []).append(place)
    return groups


def _values(shelf: Shelf, places: Mapping[str, list[int]], once: Once) -> list[tuple[int, Any]]:
    """Return values by place; where one is wanted several times, each gets a copy of its own."""
    values: list[tuple[int, Any]] = []
    for made, value in shelf.get_many(places, once).items():
        first, *others = places.get(made, (None,))
        if first is None:  # nobody asked for it
            continue
        values.append((first, value))
        for place in others:
            again = {made: value} if type(value) in _ATOMS else shelf.get_many((made,), once)
            values += [(place, copy) for copy in again.values()]
    return values


def _as_outputs(step: Step, value: Any) -> Found:
    """Return what was kept as outputs, or None if it does not look like them."""
    if not isinstance(step.node, Node):
        fits = isinstance(value, tuple) and len(value) == 2 and value[0] == _MAP  # noqa: PLR2004
        return (value[1],) if fits else None
    if not step.unpacks:
        return (value,)
    fits = isinstance(value, tuple) and len(value) == len(step.outputs)
    return value if fits else None


def _load_map(engine: KeyedEngine, step: Step, rows: Sequence[Row], once: Once) -> Found:
    inner = engine.inner_engines[step.index]
    names = step.inner.outputs if step.inner else ()
    makers = [inner.scheme.makers[inner.plan.results[name]] for name in names]
    wanted: dict[tuple[int, int], tuple[Step, str]] = {}
    for number, row in enumerate(rows):
        for maker, key in zip(makers, row, strict=True):
            wanted[number, maker.index] = maker, origin_of(key)[0]
    found = dict(zip(wanted, load(inner, list(wanted.values()), once), strict=True))
    if None in found.values():
        return None
    lists = (
        [_pick(found[number, maker.index], row[column]) for number, row in enumerate(rows)]
        for column, maker in enumerate(makers)
    )
    return FoundMap(
        lists, [_parts_of(number, makers, wanted, found) for number in range(len(rows))]
    )


def _parts_of(
    number: int,
    makers: Sequence[Step],
    wanted: Mapping[tuple[int, int], tuple[Step, str]],
    found: Mapping[tuple[int, int], Found],
) -> list[FoundPart]:
    places = dict.fromkeys((number, maker.index) for maker in makers)
    return [(*wanted[place], found[place] or ()) for place in places]


def _pick(outputs: Found, key: str) -> Any:
    assert outputs is not None  # noqa: S101 - the caller has looked
    return outputs[origin_of(key)[1]]


def keep(engine: KeyedEngine, step: Step, order: Order, outputs: Sequence[Any]) -> bool:
    """Keep what a step has made; return whether that was possible.

    Args:
        engine: Runs the plan that it belongs to.
        step: The step.
        order: Under which signature.
        outputs: The values.
    """
    return _put(engine, step, order, tuple(outputs) if step.unpacks else outputs[0])


def keep_map(engine: KeyedEngine, step: Step, order: Order, rows: Sequence[Row]) -> None:
    """Keep what the outputs of a mapped step are made of.

    Args:
        engine: Runs the plan that it belongs to.
        step: The step.
        order: Under which signature.
        rows: For each item, the keys of its outputs.
    """
    if all(map(all, rows)):
        _put(engine, step, order, (_MAP, tuple(rows)))


def _put(engine: KeyedEngine, step: Step, order: Order, value: Any) -> bool:
    if not order.once.is_trusted:
        return False
    shelf = engine.shelf(step)
    is_kept = shelf.put(order.made, value, step, order.once)
    if is_kept:
        parts = parts_of(engine.scheme, step, order.code, shelf.salt, order.keys)
        order.once.note(shelf, EntryRecord(node_name(step), order.made, parts))
        if order.guard is not None:
            order.guard.note(shelf, order.made)
    return is_kept
