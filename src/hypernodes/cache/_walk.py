"""The walk through a value: it is taken apart by the rule for its type, down to leaves.

What cannot be taken apart further is a leaf. Every tag and every part goes in with its length, so
that no two values read the same. Sets and mappings are sorted by what their items hash to.

The walk keeps a stack of its own: nesting may be as deep as memory allows, and what contains itself
is seen. Raw buffers are hashed where they lie.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable
from typing import Any, Final

from hypernodes.cache._encoding import LEAVES, digest
from hypernodes.cache._libraries import CODE_FAMILIES, FAMILIES
from hypernodes.cache._objects import described, keyed, object_rule, stand_in
from hypernodes.cache._origin import module_name, package_name
from hypernodes.cache._parts import (
    DESCRIBED,
    Definition,
    Manner,
    NoStableIdentityError,
    Parts,
    Rule,
)
from hypernodes.cache._standard import BY_NAME, BY_TYPE

__all__ = ["Identify", "encode"]

Identify = Callable[[Any], bytes]
OnUnstable = Callable[[Any, str], bytes]

# What counts by its code; so do the instances of metaclasses, and subclasses of modules.
_DEFINITIONS: Final = frozenset({type, types.FunctionType, types.ModuleType})
_SHARED_FROM: Final = 64


def encode(
    value: Any,
    *,
    identify: Identify,
    on_unstable: OnUnstable | None = None,
    manner: Manner = Manner.VALUE,
) -> bytes:
    """Return bytes that only equal values share; at most some hundred of them.

    Args:
        value: Anything.
        identify: What a class, function, module or code object hashes to.
        on_unstable: What to put for a part without a stable identity; called with it and its path.
        manner: Which attributes count.

    Raises:
        NoStableIdentityError: Without `on_unstable`, there is such a part.
    """
    leaf = LEAVES.get(type(value))
    if leaf:
        return leaf(value)
    if type(value) in _DEFINITIONS:
        return b"d" + identify(value)
    return _Encoder(identify, on_unstable, _RULES[manner]).encode(value)


class _Frame:
    """A value whose parts are being encoded."""

    __slots__ = ("done", "lowest", "parts", "rest", "start", "value")

    def __init__(self, value: Any, parts: Parts, depth: int, start: int) -> None:
        self.value = value
        self.parts = parts
        self.rest = iter(parts.children)
        self.done: list[bytes] = []
        self.lowest = depth
        self.start = start

    @property
    def label(self) -> str:
        try:
            return self.parts.label(self.parts.children, len(self.done))
        except Exception:  # noqa: BLE001  # the repr of a user's object may raise anything
            return "[...]"

    def seal(self) -> bytes:
        arrange = self.parts.arrange
        done = arrange(self.done) if arrange else self.done
        return b"#" + digest(self.parts.tag, *done)


_END: Final = object()


class _Encoder:
    """One walk through one value."""

    __slots__ = (
        "_depths", "_finished", "_frames", "_identify", "_kept", "_on_unstable", "_rules", "_steps",
    )  # fmt: skip

    def __init__(self, identify: Identify, on_unstable: OnUnstable | None, rules: _Rules) -> None:
        self._identify = identify
        self._on_unstable = on_unstable
        self._rules = rules
        self._frames: list[_Frame] = []
        self._depths: dict[int, int] = {}
        self._finished: dict[int, bytes] = {}
        self._kept: list[Any] = []
        self._steps = 0

    def encode(self, value: Any) -> bytes:
        frame = self._push(self, Parts(b"", (value,), label=lambda *_: ""))
        while True:
            child = _next_open(frame)
            if child is not _END:
                self._open(child)
            elif len(self._frames) == 1:
                return frame.done[0]
            else:
                self._close()
            frame = self._frames[-1]

    def _push(self, value: Any, parts: Parts) -> _Frame:
        depth = len(self._frames)
        frame = _Frame(value, parts, depth, self._steps)
        self._frames.append(frame)
        self._depths[id(value)] = depth
        return frame

    def _open(self, value: Any) -> None:
        """Encode `value`, or put it on the stack."""
        self._steps += 1
        frame = self._frames[-1]
        depth = self._depths.get(id(value))
        if depth is not None:
            frame.lowest = min(frame.lowest, depth)
            frame.done.append(b"^%d" % (len(self._frames) - depth))
        elif id(value) in self._finished:
            frame.done.append(self._finished[id(value)])
        else:
            self._take_apart(value)

    def _take_apart(self, value: Any) -> None:
        rule = self._rules.of(type(value))
        try:
            found = rule(value)
        except Exception as error:  # noqa: BLE001  # the object's own code ran, it may raise anything
            self._give_up(value, error)
            return
        if isinstance(found, Parts):
            self._push(value, found)
        elif isinstance(found, bytes):
            self._frames[-1].done.append(found)
        elif isinstance(found, Definition):
            self._frames[-1].done.append(b"d" + self._identify(found.value))
        else:
            self._replace(found.value)

    def _replace(self, value: Any) -> None:
        leaf = LEAVES.get(type(value))
        if leaf:
            self._frames[-1].done.append(leaf(value))
        else:
            self._open(value)

    def _close(self) -> None:
        """Take the topmost frame off the stack: all its parts are encoded."""
        frame = self._frames.pop()
        depth = self._depths.pop(id(frame.value))
        encoding = frame.seal()
        parent = self._frames[-1]
        parent.done.append(encoding)
        if frame.lowest < depth:
            parent.lowest = min(parent.lowest, frame.lowest)
        elif self._steps - frame.start >= _SHARED_FROM:
            # Shared parts, met again, are not walked again. Small ones are not worth the memory.
            self._finished[id(frame.value)] = encoding
            self._kept.append(frame.value)

    def _give_up(self, value: Any, error: Exception) -> None:
        """Put something else for what has no stable identity, or raise."""
        if self._on_unstable is None:
            path = "".join([frame.label for frame in self._frames])
            cause = error.__cause__ if isinstance(error, NoStableIdentityError) else error
            reason = getattr(error, "reason", "")
            raise NoStableIdentityError(type(value), path, reason) from cause
        depth = next((n for n, frame in enumerate(self._frames) if frame.parts.is_client), None)
        if depth is not None:
            value = self._frames[depth].value
            self._unwind(depth)
        seen = itertools.takewhile(lambda frame: not frame.parts.is_opaque, self._frames)
        path = "".join([frame.label for frame in seen])
        self._frames[-1].done.append(b"~" + self._on_unstable(value, path))

    def _unwind(self, depth: int) -> None:
        for frame in self._frames[depth:]:
            self._depths.pop(id(frame.value), None)
        del self._frames[depth:]


def _next_open(frame: _Frame) -> Any:
    """Encode leaves up to the next child that is none, and return that, or `_END`."""
    done = frame.done
    for child in frame.rest:
        leaf = LEAVES.get(type(child))
        if leaf is None:
            return child
        done.append(leaf(child))
    return _END


# --- Which rule -----------------------------------------------------------------------------------


class _Rules:
    """The rules of types, for values that come in or for values in code."""

    def __init__(self, manner: Manner) -> None:
        self._families = FAMILIES if manner is Manner.VALUE else FAMILIES | CODE_FAMILIES
        self._manner = manner
        self._known: weakref.WeakKeyDictionary[type, Rule] = weakref.WeakKeyDictionary()

    def of(self, cls: type) -> Rule:
        rule = self._known.get(cls)
        if rule is None:
            rule = self._known[cls] = self._find(cls)
        return rule

    def _find(self, cls: type) -> Rule:
        members = {name for base in cls.__mro__ for name in vars(base)}
        if DESCRIBED in members:
            return described
        if "__cache_key__" in members:
            return keyed
        if "__hypernodes_function__" in members:
            return stand_in
        if cls in BY_TYPE:
            return BY_TYPE[cls]
        known = BY_NAME.get(_short_name(cls)) or self._of_family(cls)
        return known or object_rule(cls, self._manner)

    def _of_family(self, cls: type) -> Rule | None:
        names = map(_short_name, cls.__mro__)
        return next((self._families[name] for name in names if name in self._families), None)


def _short_name(cls: type) -> str:
    return f"{package_name(module_name(cls))}.{cls.__name__}"


_RULES: Final = {manner: _Rules(manner) for manner in Manner}
