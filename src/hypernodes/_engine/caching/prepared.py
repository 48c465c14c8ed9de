"""Inputs with what is known for all items of a map: keys, code, the warnings that were given."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._trouble import Told, warn_about

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from typing import Self

    from hypernodes._engine.caching.changes import Guard
    from hypernodes._engine.caching.keys import Keys
    from hypernodes._engine.caching.shelf import Shelf
    from hypernodes._engine.plan import Plan, Step
    from hypernodes.abc import EntryRecord

# Records that are written at once.
_TOGETHER: Final = 128


Found = tuple[Any, ...] | None
"""The outputs that were found for a step, or None."""


FoundPart = tuple["Step", str, tuple[Any, ...]]
"""A step, the signature under which its outputs were found, and these."""


Doubt = tuple[tuple[Any, ...], str]
"""Why nothing is kept: what that is about, and a warning that says it."""


Oath = tuple[tuple[str, str], ...]
"""Names of functions, each with what its code hashes to exactly as it runs."""


class FoundMap(tuple[Any, ...]):  # noqa: SLOT001 - slots of a tuple have to be empty
    """The outputs that were found for a mapped step.

    Args:
        lists: The outputs.
        items: For each item, what they are made of.
    """

    items: Sequence[Sequence[FoundPart]]

    def __new__(cls, lists: Iterable[Any], items: Sequence[Sequence[FoundPart]]) -> Self:
        found = super().__new__(cls, lists)
        found.items = items
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class Codes(NamedTuple):
    """What the signatures of a plan's steps begin with.

    Attributes:
        prefixes: By the index of the step; empty for those that have no signature.
        parts: What the code of each hashes to, for those who want to know what has changed.
        inner: The same for the plans of mapped steps, by the index of the step.
    """

    prefixes: tuple[str, ...]
    parts: tuple[str, ...]
    inner: Mapping[int, Codes]


class Once:
    """What one run has warned of, each thing once, and what it has not noted yet.

    In another process it begins anew: one there for each that is sent.

    Attributes:
        told: What the run, or a cache in it, has warned of.
        is_trusted: Whether what it makes is made by the code that it is kept under.
    """

    def __init__(self) -> None:
        self.told = Told()
        self.is_trusted: bool = True
        self._name = ""
        self._unwritten: deque[tuple[Shelf, EntryRecord]] = deque()

    def warn(self, about: Hashable, message: Callable[[], str]) -> None:
        """Issue a `CacheWarning`, unless there was one about the same.

        Args:
            about: What it is about.
            message: Says what is wrong; only called where that is needed.
        """
        if self.told.is_new(about):
            warn_about(about, message())

    def distrust(self, doubt: Doubt) -> None:
        """Keep nothing more.

        Args:
            doubt: Why.
        """
        self.is_trusted = False
        self.warn(doubt[0], lambda: doubt[1])

    def note(self, shelf: Shelf, record: EntryRecord) -> None:
        """Have a record written, with others: that is cheaper by far."""
        self._unwritten.append((shelf, record))
        if len(self._unwritten) >= _TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Write what is not written yet."""
        records: dict[Shelf, list[EntryRecord]] = {}
        while self._unwritten:
            with suppress(IndexError):  # another thread was faster
                shelf, record = self._unwritten.popleft()
                records.setdefault(shelf, []).append(record)
        for shelf, each in records.items():
            shelf.note(each, self)

    def __reduce__(self) -> tuple[Any, ...]:
        self._name = self._name or f"{os.getpid()}-{next(_numbers)}"
        return _arrived, (self._name,)


_numbers: Final = itertools.count()
_known: Final[weakref.WeakValueDictionary[str, Once]] = weakref.WeakValueDictionary()


def _arrived(name: str) -> Once:
    return _known.get(name) or _known.setdefault(name, Once())


class Prepared(dict[str, Any]):
    """The inputs of a run, or those that the items of a map share.

    They go the way of plain inputs, also to other processes, and take along what would otherwise
    have to be found out for each item.

    Args:
        inputs: The inputs.
        codes: What signatures begin with.
        keys: Keys of these inputs and of constants, by slot; None where there is none.
        once: What the run has warned of.

    Attributes:
        codes: As given.
        slot_keys: As `keys`.
        once: As given.
        is_sound: Whether what can be signed can be signed in this run, as far as is known here.
        found: What was looked up before, by the index of the step.
        oath: What the code is in the driver; empty there.
        borrowed: The names of those that have the keys that they have outside of a map.
        guard: Sees to it that they stay what they are; made when something runs.
    """

    __slots__ = (
        "borrowed", "codes", "found", "guard", "is_sound", "oath", "once", "slot_keys"
    )  # fmt: skip

    def __init__(
        self,
        inputs: Mapping[str, Any],
        codes: Codes,
        keys: Keys,
        once: Once,
        *,
        is_sound: bool,
    ) -> None:
        super().__init__(inputs)
        self.codes: Codes = codes
        self.slot_keys: Keys = keys
        self.once: Once = once
        self.is_sound: bool = is_sound
        self.found: Mapping[int, Found] = {}
        self.oath: Oath = ()
        self.borrowed: frozenset[str] = frozenset()
        self.guard: Guard | None = None

    def shipped(self, names: Iterable[str], oath: Oath) -> Prepared:
        """Return the same for some of the inputs, ready to be sent to a worker.

        Args:
            names: The inputs.
            oath: What the code is here.
        """
        inputs = {name: self[name] for name in names}
        facts = self.codes, self.slot_keys, self.once, self.is_sound, oath, self.borrowed
        return _shipped(inputs, *facts)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = self.codes, self.slot_keys, self.once, self.is_sound, self.oath, self.borrowed
        return _shipped, (dict(self), *facts)


def _shipped(  # noqa: PLR0917 - unpickling passes by position
    inputs: dict[str, Any],
    codes: Codes,
    keys: Keys,
    once: Once,
    is_sound: bool,  # noqa: FBT001
    oath: Oath,
    borrowed: frozenset[str],
) -> Prepared:
    prepared = Prepared(inputs, codes, keys, once, is_sound=is_sound)
    prepared.oath = oath
    prepared.borrowed = borrowed
    return prepared


class Item(dict[str, Any]):
    """An item's own inputs, with what is known of them.

    Args:
        inputs: The inputs.
        keys: All keys that are known before anything runs, by slot; None where there is none.
        since: Before it was looked up; see `Flights.now`.

    Attributes:
        slot_keys: As `keys`.
        found: What was looked up, by the index of the step; taken out where it is used.
        since: As given.
    """

    __slots__ = ("found", "since", "slot_keys")

    def __init__(self, inputs: Mapping[str, Any], keys: Keys, since: int) -> None:
        super().__init__(inputs)
        self.slot_keys: Keys = keys
        self.found: dict[int, Found] = {}
        self.since = since

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class Carried(dict[str, Any]):
    """The inputs of a run that is an item of a map elsewhere, with what is known of them there.

    Args:
        inputs: The inputs.
        plan: The plan that the keys belong to.
        prepared: What is known of all items.
        item: What is known of this one.

    Attributes:
        plan: As given.
        prepared: As given.
        item: As given.
    """

    __slots__ = ("item", "plan", "prepared")

    def __init__(
        self, inputs: Mapping[str, Any], plan: Plan, prepared: Prepared, item: Item
    ) -> None:
        super().__init__(inputs)
        self.plan: Plan = plan
        self.prepared: Prepared = prepared
        self.item: Item = item

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
