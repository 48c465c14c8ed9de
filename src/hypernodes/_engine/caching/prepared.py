"""The inputs of a run or map, with what is known for all of its items: keys, code, warnings given."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from hypernodes.exceptions import CacheWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from hypernodes._engine.caching.keys import Key


class Codes(NamedTuple):
    """What the signatures of a plan's steps begin with.

    Attributes:
        prefixes: By the index of the step; empty for those that have no signature.
        inner: Those of the plans of mapped steps, by the index of the step.
        parts: What the prefixes are made of, for those who want to know what has changed.
    """

    prefixes: tuple[str, ...]
    inner: Mapping[int, Codes]
    parts: tuple[str, ...]


class Once:
    """What one run has warned of: each thing once."""

    def __init__(self) -> None:
        self._told: dict[Hashable, object] = {}

    def warn(self, about: Hashable, message: Callable[[], str]) -> None:
        """Issue a `CacheWarning`, unless there was one about the same.

        Args:
            about: What it is about.
            message: Says what is wrong; only called where that is needed.
        """
        mine = object()
        if self._told.setdefault(about, mine) is mine:
            warnings.warn(message(), CacheWarning, stacklevel=2)


class Prepared(dict[str, Any]):
    """Inputs of a run, or those that the items of a map share.

    They go the way of plain inputs, also to other processes, and take along what would otherwise
    have to be found out for each item.

    Attributes:
        keys: Keys of shared inputs and of constants, by slot.
        codes: What signatures begin with.
        once: What the run has warned of.
    """

    __slots__ = ("codes", "keys_by_slot", "once")

    def __init__(
        self, inputs: Mapping[str, Any], codes: Codes, keys: dict[int, Key], once: Once
    ) -> None:
        super().__init__(inputs)
        self.codes = codes
        self.keys_by_slot = keys
        self.once = once

    def with_only(self, names: Any) -> Prepared:
        """Return the same for some of the inputs."""
        inputs = {name: self[name] for name in names}
        return Prepared(inputs, self.codes, self.keys_by_slot, self.once)

    def __reduce__(self) -> Any:
        return _arrived, (dict(self), self.codes, self.keys_by_slot)


def _arrived(inputs: dict[str, Any], codes: Codes, keys: dict[int, Key]) -> Prepared:
    return Prepared(inputs, codes, keys, Once())


class Item(dict[str, Any]):
    """An item's own inputs, with what was found when it was looked up.

    Attributes:
        keys: All keys that are known before anything runs, by slot; None where there is none.
        found: The outputs of steps that were looked up, by signature; None for a miss.
    """

    __slots__ = ("found", "keys_by_slot")

    def __init__(
        self,
        inputs: Mapping[str, Any],
        keys: list[Key | None],
        found: dict[str, tuple[Any, ...] | None],
    ) -> None:
        super().__init__(inputs)
        self.keys_by_slot = keys
        self.found = found

    def __reduce__(self) -> Any:
        return dict, (dict(self),)
