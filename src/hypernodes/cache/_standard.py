"""How values of Python's own types are taken apart: containers, callables, dates, paths."""

from __future__ import annotations

import array
import functools
import reprlib
import sys
import types
from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._encoding import buffer_leaf
from hypernodes.cache._parts import Definition, Parts, Rule, attribute_labels, made_of, told_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["BY_NAME", "BY_TYPE"]

_PACKED_FROM: Final = 16


def _pairs(done: list[bytes]) -> list[bytes]:
    return [part for pair in sorted(zip(done[::2], done[1::2], strict=True)) for part in pair]


def _pair_label(children: Sequence[Any], index: int) -> str:
    key = reprlib.repr(children[index - index % 2])
    return f"[{key}]" if index % 2 else f"[key {key}]"


def _mapping(value: Mapping[Any, Any]) -> Parts:
    children = [part for pair in value.items() for part in pair]
    tag = type(value).__name__.encode()
    return Parts(tag, children, _pairs, _pair_label)


def _set(value: Iterable[Any]) -> Parts:
    tag = type(value).__name__.encode()
    return Parts(tag, list(value), sorted, lambda *_: "{...}")


def _sequence(value: Sequence[Any]) -> Parts | bytes:
    tag = type(value).__name__.encode()
    if len(value) >= _PACKED_FROM:
        packed = _packed(tag, value)
        if packed:
            return packed
    return Parts(tag, value)


def _packed(tag: bytes, value: Sequence[Any]) -> bytes | None:
    """Return the encoding of many numbers of one kind at once, or None if they are not."""
    kinds = set(map(type, value))
    code = "d" if kinds == {float} else "q" if kinds == {int} else None
    if code is None:
        return None
    try:
        numbers = array.array(code, value)
    except OverflowError:
        return None
    if sys.byteorder == "big":
        numbers.byteswap()
    return b"n" + buffer_leaf(tag + code.encode(), numbers)


def _memoryview(value: memoryview) -> bytes:
    tag = f"{value.format} {value.shape}".encode()
    return b"m" + buffer_leaf(tag, value if value.c_contiguous else value.tobytes())


def _builtin(value: Any) -> Parts | Definition:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return Definition(value)
    return Parts(b"builtin method", (value.__name__, owner), label=attribute_labels("", "__self__"))


def _path(value: Any) -> Parts:
    return Parts(b"path", (type(value).__name__, str(value)))


def _moment(value: Any) -> Parts:
    wall_clock = value.replace(tzinfo=None).isoformat()
    return Parts(type(value).__name__.encode(), (wall_clock, value.fold, value.tzinfo))


def _cached_function(value: Any) -> Parts:
    added = {name: part for name, part in vars(value).items() if name not in _OF_WRAPPERS}
    return Parts(b"lru_cache", (value.__wrapped__, value.cache_parameters(), added))


def _property(value: property) -> Parts:
    text = value.__doc__
    own = None if text == getattr(value.fget, "__doc__", None) else text
    children = (value.fget, value.fset, value.fdel, own)
    return Parts(b"property", children, label=attribute_labels("fget", "fset", "fdel", "__doc__"))


_OF_WRAPPERS: Final = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "cache_parameters"}
_CALL_PARTS = ("func", "args", "keywords", "__dict__")
BY_TYPE: Final[dict[type, Rule]] = {
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    set: _set,
    frozenset: _set,
    memoryview: _memoryview,
    types.MappingProxyType: _mapping,
    range: made_of("range", "start", "stop", "step"),
    slice: made_of("slice", "start", "stop", "step"),
    types.FunctionType: Definition,
    types.ModuleType: Definition,
    types.CodeType: Definition,
    types.BuiltinFunctionType: _builtin,
    types.MethodWrapperType: made_of("method wrapper", "__name__", "__self__"),
    types.MethodDescriptorType: made_of("descriptor", "__name__", "__objclass__"),
    types.WrapperDescriptorType: made_of("descriptor", "__name__", "__objclass__"),
    types.ClassMethodDescriptorType: made_of("descriptor", "__name__", "__objclass__"),
    types.GetSetDescriptorType: made_of("descriptor", "__name__", "__objclass__"),
    types.MemberDescriptorType: made_of("descriptor", "__name__", "__objclass__"),
    types.MethodType: made_of("method", "__func__", "__self__"),
    functools.partial: made_of("partial", *_CALL_PARTS),
    functools.partialmethod: made_of("partialmethod", *_CALL_PARTS),
    functools.cached_property: made_of("cached_property", "func"),
    functools._lru_cache_wrapper: _cached_function,  # noqa: SLF001  # it has no public name
    property: _property,
    staticmethod: made_of("staticmethod", "__func__"),
    classmethod: made_of("classmethod", "__func__"),
}

# Types of the standard library that few programs need all of: by package and name, not imported.
BY_NAME: Final[dict[str, Rule]] = {
    "datetime.date": told_by("date", lambda value: (value.isoformat(),)),
    "datetime.datetime": _moment,
    "datetime.time": _moment,
    "datetime.timedelta": made_of("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": told_by("timezone", lambda v: (v.utcoffset(None), v.tzname(None))),
    "decimal.Decimal": told_by("decimal", lambda value: (str(value),)),
    "fractions.Fraction": made_of("fraction", "numerator", "denominator"),
    "pathlib.PosixPath": _path,
    "pathlib.PurePosixPath": _path,
    "pathlib.PureWindowsPath": _path,
    "pathlib.WindowsPath": _path,
    "uuid.UUID": told_by("uuid", lambda value: (value.int,)),
    "weakref.KeyedRef": told_by("weak", lambda value: (value(),)),
    "weakref.ReferenceType": told_by("weak", lambda value: (value(),)),
}
