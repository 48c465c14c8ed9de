"""From the inputs of a map to the inputs of its items."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

from hypernodes._engine.batches import Block
from hypernodes.exceptions import InputError, hint

MODES: Final = ("zip", "product")
_REMEDIES: Final = {
    "dict": "say what of it: list(d), list(d.values()) or list(d.items())",
    "DataFrame": "say what of it: a column, or df.to_dict('records')",
}
_AT_HAND: Final = (list, tuple, range)
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a map.

    Attributes:
        shared: The inputs that all items have in common.
        items: The inputs that are each item's own, made as they are taken.
        count: How many there are, or None where only the end will tell.
    """

    shared: dict[str, Any]
    items: Iterable[Item]
    count: int | None


class Rows(Iterable[Item]):
    """Items whose values are all at hand: to be gone through once, one by one or in blocks.

    Args:
        columns: The values of each name; those of all names are as many.
        labels: What to call the names in a message.
        count: How many there are.

    Attributes:
        names: What the values of an item are called.
        is_empty: Whether there is none.
        error: Set when it is seen that there is not a value of each name for each item any more.
    """

    error: InputError | None = None

    def __init__(
        self, columns: Mapping[str, _Column], labels: Mapping[str, str], count: int
    ) -> None:
        self.names = tuple(columns)
        self.is_empty = not count
        self._values = [column.values for column in columns.values()]
        self._labels = labels
        if len(columns) == 1:
            name, (values,) = self.names[0], self._values
            self._rows: Iterator[Item] = ({name: value} for value in values)
        else:
            self._rows = _rows(columns, labels)

    def __iter__(self) -> Iterator[Item]:
        return self._rows

    def block(self, first: int, most: int) -> Block:
        """Take up to `most` items, of which the first has the index `first`.

        There are less where no more follow, or not a value of each name: see `error`.
        """
        columns = [list(itertools.islice(values, most)) for values in self._values]
        count = min(map(len, columns))
        missing = [len(column) == count for column in columns]
        if not all(missing):
            self.error = _ragged(self.names, self._labels, first + count, missing)
            columns = [column[:count] for column in columns]
        return Block(first, self.names, columns)


class Gathered(Sized, Iterable[Item]):
    """Items whose results are all kept anyway: there is no harm in taking many of them ahead.

    Args:
        items: The items.
        count: How many there are.
    """

    def __init__(self, items: Iterable[Item], count: int) -> None:
        self.items = items
        self._count = count

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return self._count


def check_mode(mode: object, argument: str = "map_mode", modes: Sequence[str] = MODES) -> None:
    """Raise `InputError` unless `mode` is one of `modes`."""
    if mode not in modes:
        message = f"{argument}={mode!r} is unknown; {hint(mode, modes)}"
        raise InputError(message, name=argument)


def read_names(names: object, argument: str) -> tuple[str, ...]:
    """Return a name, or a sequence of names, as a tuple.

    Raises:
        InputError: It is something else, is empty, or has a name twice.
    """
    result: object = (names,) if isinstance(names, str) else names
    if not isinstance(result, Sequence) or not all(isinstance(name, str) for name in result):
        message = f"{argument}={names!r} has to be a name or a sequence of names"
        raise InputError(message, name=argument)
    if not result or len(set(result)) != len(result):
        raise InputError(f"{argument}={names!r} is empty or has a name twice", name=argument)
    return tuple(result)


def split_items(
    inputs: Mapping[str, Any],
    map_over: tuple[str, ...],
    mode: str,
    labels: Mapping[str, str] | None = None,
) -> Items:
    """Split the inputs of a map into those of its items.

    Args:
        inputs: All inputs; those in `map_over` are iterables with a value for each item.
        map_over: The names that are mapped over.
        mode: `"zip"` or `"product"` (the last name varies fastest).
        labels: What to call the names of `map_over` in a message.

    Raises:
        InputError: A value cannot be mapped over, or the lengths to be zipped differ.
    """
    shared = {name: value for name, value in inputs.items() if name not in map_over}
    labels = labels or {}
    columns = {name: _column(inputs, name, labels.get(name, name)) for name in map_over}
    if mode == "product":
        return _product(shared, columns)
    return _zip(shared, columns, labels)


def add_columns(items: Items, columns: Mapping[str, Any], labels: Mapping[str, str]) -> Items:
    """Return `items` with a further value of each column for each item, in their order.

    Raises:
        InputError: A column cannot be mapped over, or has another length.
    """
    entries = list(items.items)
    for name in columns:
        label = labels.get(name, name)
        values = list(_column(columns, name, label).values)
        if len(values) != len(entries):
            raise _unequal({"the map": str(len(entries)), label: str(len(values))})
        for entry, value in zip(entries, values, strict=True):
            entry[name] = value
    return Items(items.shared, iter(entries), len(entries))


@dataclass(slots=True, eq=False)
class _Column:
    """The values of one name.

    Attributes:
        values: They themselves.
        length: How many there are, where that is known.
        at_hand: Whether taking them costs nothing, and runs no code of others.
    """

    values: Iterator[Any]
    length: int | None
    at_hand: bool


def _column(inputs: Mapping[str, Any], name: str, label: str) -> _Column:
    values = inputs[name]
    kind = type(values).__name__
    if getattr(type(values), "__daft_stateful__", False):
        message = f"cannot map over {label!r}: all items share a {kind}; give a list of values"
        raise InputError(message, name=label)
    if isinstance(values, str | bytes | bytearray | Mapping) or kind == "DataFrame":
        remedy = _REMEDIES.get(kind, "put it into a list")
        message = f"cannot map over {label!r}: a {kind} is one value; {remedy}"
        raise InputError(message, name=label)
    try:
        items = iter(values)  # the only time: not everything can be gone through twice
    except TypeError as error:
        message = (
            f"cannot map over {label!r}: it is of type {kind} ({error}); give a list of values"
        )
        raise InputError(message, name=label) from error
    length = len(values) if isinstance(values, Sized) else None
    return _Column(items, length, type(values) in _AT_HAND or _is_array(values))


def _is_array(values: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(values) is numpy.ndarray


def _product(shared: dict[str, Any], columns: dict[str, _Column]) -> Items:
    lists = [list(column.values) for column in columns.values()]
    names = tuple(columns)
    rows = itertools.product(*lists)
    count = math.prod(map(len, lists))
    return Items(shared, (dict(zip(names, row, strict=True)) for row in rows), count)


def _zip(shared: dict[str, Any], columns: dict[str, _Column], labels: Mapping[str, str]) -> Items:
    known = {n: column.length for n, column in columns.items() if column.length is not None}
    if len({*known.values()}) > 1:
        raise _unequal({labels.get(name, name): str(length) for name, length in known.items()})
    count = next(iter(known.values()), None)
    if count is not None and all(column.at_hand for column in columns.values()):
        return Items(shared, Rows(columns, labels, count), count)
    if len(columns) == 1:
        ((name, column),) = columns.items()
        return Items(shared, ({name: value} for value in column.values), count)
    return Items(shared, _rows(columns, labels), count)


def _rows(columns: Mapping[str, _Column], labels: Mapping[str, str]) -> Iterator[Item]:
    names = tuple(columns)
    missing = object()
    rows = itertools.zip_longest(*(c.values for c in columns.values()), fillvalue=missing)
    for number, row in enumerate(rows):
        if any(value is missing for value in row):
            raise _ragged(names, labels, number, [value is missing for value in row])
        yield dict(zip(names, row, strict=True))


def _ragged(
    names: Sequence[str], labels: Mapping[str, str], number: int, missing: Sequence[bool]
) -> InputError:
    """Say which names have no value for an item that others have one for."""
    lengths = [str(number) if is_missing else f"more than {number}" for is_missing in missing]
    spelled = [labels.get(name, name) for name in names]
    return _unequal(dict(zip(spelled, lengths, strict=True)))


def _unequal(lengths: Mapping[str, str]) -> InputError:
    listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
    message = (
        f"cannot zip inputs of unequal length: {listed}; make them equal, or use "
        f"map_mode='product' for all combinations"
    )
    return InputError(message, name="map_over")
