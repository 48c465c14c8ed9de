"""Items of a map by their indexes: by columns where they came so, each as a mapping where asked."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

Item = Mapping[str, Any]

Batch = Mapping[int, Item]
"""Items by index. Not pairs: thousands of tuples that wait set off full garbage collections."""

Columns = list[list[Any]]

FEWEST: Final = 64
"""Items from which on they are kept as a block: what comes in ones and twos is faster alone."""


def as_run(indexes: list[int]) -> Sequence[int]:
    """Return indexes as a range where they follow each other."""
    first = indexes[0] if indexes else None
    if first is None:  # what is no item has no index
        return indexes
    run = range(first, first + len(indexes))
    return run if indexes[-1] == run[-1] and indexes == list(run) else indexes


class Block(Batch):
    """Items that follow each other, by columns.

    Args:
        first: The index of the first.
        names: What the values of an item are called.
        columns: For each name, the values of all items.
    """

    __slots__ = ("columns", "first", "left", "names", "stop")

    def __init__(self, first: int, names: tuple[str, ...], columns: Columns) -> None:
        self.first = first
        self.names = names
        self.columns = columns
        self.left = len(columns[0])
        self.stop = first + self.left

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not self.first <= index < self.stop:
            raise KeyError(index)
        place = index - self.first
        return {n: column[place] for n, column in zip(self.names, self.columns, strict=True)}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.stop))

    def __len__(self) -> int:
        return self.stop - self.first

    def common(self, run: range) -> range:
        """Return which of some indexes are here."""
        return range(max(run.start, self.first), min(run.stop, self.stop))

    def part(self, run: range) -> Columns:
        """Return the columns of some items that are here."""
        begin, end = run.start - self.first, run.stop - self.first
        return [column[begin:end] for column in self.columns]


class Shelf:
    """The items of a map that have no outcome yet.

    Blocks come in the order of their indexes. One thread puts items here and takes them away;
    others may look, and take what came one by one.
    """

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._blocks: tuple[Block, ...] = ()

    def __len__(self) -> int:
        return len(self._items) + sum(block.left for block in self._blocks)

    def __getitem__(self, index: int) -> Item:
        item = self._items.get(index)
        return self._block_of(index)[index] if item is None else item

    def add(self, batch: Batch) -> None:
        """Put items here."""
        if isinstance(batch, Block) and len(batch) >= FEWEST:
            self._blocks = (*self._blocks, batch)
        else:
            self._items.update(batch)

    def pop(self, index: int) -> Item:
        """Take an item away and return it."""
        item = self._items.pop(index, None)
        if item is None:
            item = self._block_of(index)[index]
            self.drop((index,))
        return item

    def drop(self, indexes: Sequence[int]) -> None:
        """Take items away."""
        if self._items:
            for index in indexes:
                self._items.pop(index, None)
        if not self._blocks:
            return
        runs = (indexes,) if isinstance(indexes, range) else (range(i, i + 1) for i in indexes)
        for run in runs:
            for block in self._blocks_of(run):
                block.left -= len(block.common(run))
                if not block.left:
                    self._blocks = tuple(each for each in self._blocks if each is not block)

    def columns(self, indexes: Sequence[int]) -> tuple[tuple[str, ...], Columns]:
        """Return the names of items' values, and for each of them its values."""
        if isinstance(indexes, range) and self._blocks:
            blocks = self._blocks_of(indexes)
            runs = [block.common(indexes) for block in blocks]
            if sum(map(len, runs)) == len(indexes):
                parts = [block.part(run) for block, run in zip(blocks, runs, strict=True)]
                return blocks[0].names, _joined(parts)
        items = [self[index] for index in indexes]
        names = tuple(items[0])
        return names, [[item[name] for item in items] for name in names]

    def _block_of(self, index: int) -> Block:
        for block in self._blocks_of(range(index, index + 1)):
            return block
        raise KeyError(index)

    def _blocks_of(self, run: range) -> Sequence[Block]:
        """Return the blocks that have some of the items of a run."""
        blocks = self._blocks
        begin = bisect_right(blocks, run.start, key=attrgetter("stop"))
        return blocks[begin : bisect_left(blocks, run.stop, begin, key=attrgetter("first"))]


def _joined(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return [list(chain.from_iterable(pieces)) for pieces in zip(*parts, strict=True)]
