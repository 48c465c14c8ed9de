"""What a run would find, and not only what has a name: whole entries, and maps by way of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.caching.keys import origin_of
from hypernodes._engine.caching.loading import rows_kept
from hypernodes._engine.caching.maps import inner_items, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypernodes._engine.caching.keyed import KeyedEngine
    from hypernodes._engine.caching.keys import Key
    from hypernodes._engine.caching.loading import Row
    from hypernodes._engine.caching.prepared import Once, Prepared
    from hypernodes._engine.caching.shelf import Shelf
    from hypernodes._engine.plan import Slot, Step

    Signed = Sequence[tuple[Step, str]]


def present(engine: KeyedEngine, wanted: Signed, once: Once) -> list[bool]:
    """Return which steps a run would find: of maps, those all of whose items it would find.

    Args:
        engine: Runs the plan that they belong to.
        wanted: Steps, with signatures.
        once: What has been warned of.
    """
    there = _whole(engine, wanted, once)
    return [
        is_there and (step.index not in engine.signed_maps or _has_kept(engine, step, made, once))
        for is_there, (step, made) in zip(there, wanted, strict=True)
    ]


def has_items(
    engine: KeyedEngine,
    step: Step,
    values: Mapping[Slot, Any],
    keys: Sequence[Key | None],
    inputs: Prepared,
) -> bool:
    """Tell whether all items of a mapped step would be found, if they are known before it runs.

    Args:
        engine: Runs the plan that it belongs to.
        step: The mapped step.
        values: What is there before anything runs, by slot.
        keys: What is known of keys, by slot.
        inputs: What the run has been given.
    """
    slots = [argument.slot for argument in step.arguments]
    if not all(slot in values for slot in slots):
        return False
    try:
        taken = [values[slot] for slot in slots]
        rows = rows_of(engine, step, inner_items(engine, step, taken, keys, inputs)[1])
    except Exception:  # noqa: BLE001 - whatever the user's values raise: a run will tell
        return False
    return all(map(all, rows)) and _has_rows(engine, step, rows, inputs.once)


def _whole(engine: KeyedEngine, wanted: Signed, once: Once) -> list[bool]:
    by_shelf: dict[Shelf, list[str]] = {}
    for step, made in wanted:
        by_shelf.setdefault(engine.shelf(step), []).append(made)
    sound = {shelf: shelf.sound_many(made, once) for shelf, made in by_shelf.items()}
    return [made in sound[engine.shelf(step)] for step, made in wanted]


def _has_kept(engine: KeyedEngine, step: Step, made: str, once: Once) -> bool:
    rows = rows_kept(engine, step, made, once)
    return rows is not None and _has_rows(engine, step, rows, once)


def _has_rows(engine: KeyedEngine, step: Step, rows: Sequence[Row], once: Once) -> bool:
    inner = engine.inner_engines[step.index]
    names = step.inner.outputs if step.inner else ()
    makers = [inner.scheme.makers[inner.plan.results[name]] for name in names]
    wanted = {
        (maker.index, made): (maker, made)
        for row in rows
        for maker, key in zip(makers, row, strict=True)
        for made in origin_of(key)[:1]
    }
    return all(present(inner, list(wanted.values()), once))
