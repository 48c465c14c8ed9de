"""What a value hashes to: by content and by type, the same in every process and on every machine.

A value is taken apart by a rule for its type into a tag and the values that it is made of. What
cannot be taken apart further is a leaf. Every tag and every part goes in with its length, so that
no two values read the same. Sets and mappings are sorted by what their items hash to.

The walk keeps a stack of its own: nesting may be as deep as memory allows, and what contains itself
is seen. Raw buffers are hashed where they lie.
"""

from __future__ import annotations

import array
import copyreg
import enum
import functools
import importlib
import reprlib
import struct
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

__all__ = [
    "SCHEME",
    "NoStableIdentityError",
    "digest",
    "encode",
    "hash_value",
    "module_name",
    "register_code",
]

# Another number, and nothing that was stored before is found again.
SCHEME: Final = b"hypernodes 1"

Identify = Callable[[Any], bytes]
OnUnstable = Callable[[Any, str], bytes]

_LONG: Final = 512
_PACKED_FROM: Final = 16
_SHARED_FROM: Final = 64


class NoStableIdentityError(TypeError):
    """A value that cannot be told from others in another process: a lock, a file, a connection.

    Args:
        kind: The type of what has no identity.
        path: Where in the value it is, such as `['model'].lock`; empty for the value itself.
    """

    def __init__(self, kind: type, path: str = "") -> None:
        super().__init__(kind, path)
        self.kind = kind
        self.path = path

    def __str__(self) -> str:
        name = f"{module_name(self.kind)}.{self.kind.__qualname__}"
        where = f" (at {self.path})" if self.path else ""
        return (
            f"a {name}{where} has no identity that lasts beyond this process: give the class a "
            f"__cache_key__() method that returns what tells one from another"
        )


def hash_value(value: Any, *, identify: Identify | None = None) -> str:
    """Return what `value` hashes to: the same for the same content and types, everywhere.

    `__cache_key__()` comes first, beside the class. Of plain objects the class and the attributes
    count, without those that begin with an underscore.

    Args:
        value: Anything.
        identify: What classes, functions and modules hash to; `CodeSnapshot.identify` reads each of
            them once for many values. By default they are read anew.

    Returns:
        A lowercase hex string of 64 characters.

    Raises:
        NoStableIdentityError: The value, or something in it, cannot be told apart elsewhere.

    Example:
        >>> hash_value({"a": 1, "b": (2, 3)}) == hash_value({"b": (2, 3), "a": 1})
        True
        >>> hash_value(1) == hash_value(True)
        False
    """
    return digest(b"value", encode(value, identify=identify)).hex()


def encode(
    value: Any, *, identify: Identify | None = None, on_unstable: OnUnstable | None = None
) -> bytes:
    """Return bytes that only equal values share; at most some hundred of them.

    Args:
        value: Anything.
        identify: See `hash_value`.
        on_unstable: What to put for a part without a stable identity; called with it and its path.

    Raises:
        NoStableIdentityError: Without `on_unstable`, there is such a part.
    """
    leaf = _LEAVES.get(type(value))
    if leaf:
        return leaf(value)
    if identify and type(value) in _DEFINITIONS:
        return b"d" + identify(value)
    return _Encoder(identify, on_unstable).encode(value)


def digest(tag: bytes, *parts: bytes) -> bytes:
    """Return 32 bytes that stand for `tag` and `parts`, in this order and with these borders."""
    lengths = struct.pack(f"<{len(parts) + 2}Q", len(parts), len(tag), *map(len, parts))
    return bytes(_blake3(b"".join((SCHEME, lengths, tag, *parts))).digest())


def register_code(
    *, new_identify: Callable[[], Identify], is_plain: Callable[[type], bool]
) -> None:
    """Say how code is hashed; the module that knows does so when it is imported.

    Args:
        new_identify: Makes a function that says what a class, function or module hashes to.
        is_plain: Whether all that is in an instance of a class are attributes of the user's own.
    """
    _code.update(new_identify=new_identify, is_plain=is_plain)


_code: dict[str, Callable[..., Any]] = {}


@functools.cache
def _load_blake3() -> Callable[..., Any]:
    return importlib.import_module("blake3").blake3  # type: ignore[no-any-return]


def _blake3(content: Any) -> Any:
    return _load_blake3()(content)


# --- The walk -------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """A value taken apart.

    Attributes:
        tag: What it is.
        children: What it is made of.
        arrange: Puts the encoded children into an order that does not depend on chance.
        label: Says how one gets at a child, given the children and its place among them.
        is_opaque: Whether, if one child has no stable identity, the whole has none.
    """

    tag: bytes
    children: Sequence[Any]
    arrange: Callable[[list[bytes]], list[bytes]] | None = None
    label: Callable[[Sequence[Any], int], str] = lambda _, index: f"[{index}]"
    is_opaque: bool = False


class _Definition(NamedTuple):
    """A class, function or module: counts by its code."""

    value: Any


class _Instead(NamedTuple):
    """A value that counts as another one."""

    value: Any


Rule = Callable[[Any], "Parts | bytes | _Definition | _Instead"]


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
        return self.parts.label(self.parts.children, len(self.done))

    def seal(self) -> bytes:
        arrange = self.parts.arrange
        done = arrange(self.done) if arrange else self.done
        return b"#" + digest(self.parts.tag, *done)


_END: Final = object()


class _Encoder:
    """One walk through one value."""

    __slots__ = ("_depths", "_finished", "_frames", "_identify", "_kept", "_on_unstable", "_steps")

    def __init__(self, identify: Identify | None, on_unstable: OnUnstable | None) -> None:
        self._identify = identify
        self._on_unstable = on_unstable
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

    def identify(self, definition: Any) -> bytes:
        if self._identify is None:
            self._identify = _code["new_identify"]()
        return self._identify(definition)

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
        rule = _rule_for(type(value))
        try:
            found = rule(value)
        except Exception as error:  # noqa: BLE001  # the object's own code ran, it may raise anything
            self._give_up(value, error)
            return
        if isinstance(found, Parts):
            self._push(value, found)
        elif isinstance(found, bytes):
            self._frames[-1].done.append(found)
        elif isinstance(found, _Definition):
            self._frames[-1].done.append(b"d" + self.identify(found.value))
        else:
            self._replace(found.value)

    def _replace(self, value: Any) -> None:
        leaf = _LEAVES.get(type(value))
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
        path = "".join([frame.label for frame in self._frames])
        if self._on_unstable is None:
            cause = error.__cause__ if isinstance(error, NoStableIdentityError) else error
            raise NoStableIdentityError(type(value), path) from cause
        opaque = [depth for depth, frame in enumerate(self._frames) if frame.parts.is_opaque]
        if opaque:
            value = self._frames[opaque[0]].value
            self._unwind(opaque[0])
            path = "".join([frame.label for frame in self._frames])
        self._frames[-1].done.append(b"~" + self._on_unstable(value, path))

    def _unwind(self, depth: int) -> None:
        for frame in self._frames[depth:]:
            self._depths.pop(id(frame.value), None)
        del self._frames[depth:]


def _next_open(frame: _Frame) -> Any:
    """Encode leaves up to the next child that is none, and return that, or `_END`."""
    done = frame.done
    for child in frame.rest:
        leaf = _LEAVES.get(type(child))
        if leaf is None:
            return child
        done.append(leaf(child))
    return _END


# --- Leaves ---------------------------------------------------------------------------------------


def buffer_leaf(tag: bytes, content: Any) -> bytes:
    """Return the encoding of raw bytes; what is long is hashed where it lies.

    Args:
        tag: What the bytes are.
        content: Anything contiguous with the buffer protocol.
    """
    view = memoryview(content).cast("B")
    if view.nbytes < _LONG:
        return struct.pack("<Q", len(tag)) + tag + view
    hasher = _blake3(SCHEME + tag)
    hasher.update(view)
    return b"%" + struct.pack("<QQ", len(tag), view.nbytes) + tag + bytes(hasher.digest())


def _integer(value: int) -> bytes:
    return b"i" + value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _string(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"s" + content if len(content) < _LONG else b"S" + buffer_leaf(b"", content)


_LEAVES: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"None",
    type(...): lambda _: b"...",
    type(NotImplemented): lambda _: b"NotImplemented",
    bool: lambda value: b"T" if value else b"F",
    int: _integer,
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: _string,
    bytes: lambda value: b"b" + buffer_leaf(b"", value),
    bytearray: lambda value: b"B" + buffer_leaf(b"", value),
}


# --- Containers of Python -------------------------------------------------------------------------


def _pairs(done: list[bytes]) -> list[bytes]:
    return [part for pair in sorted(zip(done[::2], done[1::2], strict=True)) for part in pair]


def _pair_label(children: Sequence[Any], index: int) -> str:
    key = reprlib.repr(children[index - index % 2])
    return f"[{key}]" if index % 2 else f"[key {key}]"


def _mapping(value: Mapping[Any, Any]) -> Parts:
    children = [part for pair in value.items() for part in pair]
    return Parts(b"dict", children, _pairs, _pair_label)


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


def _builtin(value: Any) -> Parts | _Definition:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return _Definition(value)
    return Parts(b"builtin method", (value.__name__, owner), label=_names("", "__self__"))


def _names(*names: str) -> Callable[[Sequence[Any], int], str]:
    """Return labels for children that are attributes; an empty name for what is only a tag."""
    return lambda _, index: f".{names[index]}" if names[index] else ""


def _made_of(tag: str, *names: str) -> Rule:
    """Return the rule for a type whose content is in the attributes `names`."""
    head, label = tag.encode(), _names(*names)
    return lambda value: Parts(head, [getattr(value, name) for name in names], label=label)


def _told_by(tag: str, tell: Callable[[Any], Sequence[Any]]) -> Rule:
    """Return the rule for a type whose content `tell` puts into a few values."""
    head = tag.encode()
    return lambda value: Parts(head, tell(value))


def _path(value: Any) -> Parts:
    return Parts(b"path", (type(value).__name__, str(value)))


def _moment(value: Any) -> Parts:
    wall_clock = value.replace(tzinfo=None).isoformat()
    return Parts(type(value).__name__.encode(), (wall_clock, value.fold, value.tzinfo))


# What counts by its code; so do the instances of metaclasses, and subclasses of modules.
_DEFINITIONS: Final = frozenset({type, types.FunctionType, types.ModuleType})

_CALL_PARTS = ("func", "args", "keywords")
_EXACT: Final[dict[type, Rule]] = {
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    set: _set,
    frozenset: _set,
    memoryview: _memoryview,
    types.MappingProxyType: _mapping,
    range: _made_of("range", "start", "stop", "step"),
    slice: _made_of("slice", "start", "stop", "step"),
    types.FunctionType: _Definition,
    types.ModuleType: _Definition,
    types.CodeType: _Definition,
    types.BuiltinFunctionType: _builtin,
    types.MethodWrapperType: _made_of("method wrapper", "__name__", "__self__"),
    types.MethodDescriptorType: _made_of("descriptor", "__name__", "__objclass__"),
    types.WrapperDescriptorType: _made_of("descriptor", "__name__", "__objclass__"),
    types.ClassMethodDescriptorType: _made_of("descriptor", "__name__", "__objclass__"),
    types.GetSetDescriptorType: _made_of("descriptor", "__name__", "__objclass__"),
    types.MemberDescriptorType: _made_of("descriptor", "__name__", "__objclass__"),
    types.MethodType: _made_of("method", "__func__", "__self__"),
    functools.partial: _made_of("partial", *_CALL_PARTS),
    functools.partialmethod: _made_of("partialmethod", *_CALL_PARTS),
    functools.cached_property: _made_of("cached_property", "func"),
    functools._lru_cache_wrapper: _told_by(  # noqa: SLF001  # the type has no public name
        "lru_cache", lambda v: (v.__wrapped__, v.cache_parameters())
    ),
    property: _made_of("property", "fget", "fset", "fdel"),
    staticmethod: _made_of("staticmethod", "__func__"),
    classmethod: _made_of("classmethod", "__func__"),
}

# Types of the standard library that few programs need all of: by package and name, not imported.
_BY_NAME: Final[dict[str, Rule]] = {
    "datetime.date": _told_by("date", lambda value: (value.isoformat(),)),
    "datetime.datetime": _moment,
    "datetime.time": _moment,
    "datetime.timedelta": _made_of("timedelta", "days", "seconds", "microseconds"),
    "datetime.timezone": _told_by("timezone", lambda v: (v.utcoffset(None), v.tzname(None))),
    "decimal.Decimal": _told_by("decimal", lambda value: (str(value),)),
    "fractions.Fraction": _made_of("fraction", "numerator", "denominator"),
    "pathlib.PosixPath": _path,
    "pathlib.PurePosixPath": _path,
    "pathlib.PureWindowsPath": _path,
    "pathlib.WindowsPath": _path,
    "uuid.UUID": _told_by("uuid", lambda value: (value.int,)),
}


# --- Objects --------------------------------------------------------------------------------------


def _with_attributes(tag: bytes, kind: Any, attributes: Mapping[str, Any]) -> Parts:
    names = sorted(attributes)
    children = [kind, tuple(names), *[attributes[name] for name in names]]
    return Parts(tag, children, label=_names("", "", *names))


def _plain(value: Any) -> Parts:
    cls = type(value)
    skipped, slots = _layout(cls)
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found.update(getattr(value, "__dict__", {}))
    public = {name: part for name, part in found.items() if name[:1] != "_" and name not in skipped}
    return _with_attributes(b"object", cls, public)


def _layout(cls: type) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the attributes of instances that are only caches, and the slots."""
    members = [(name, member) for base in cls.__mro__ for name, member in vars(base).items()]
    caches = [name for name, member in members if isinstance(member, functools.cached_property)]
    slots = [name for name, member in members if isinstance(member, types.MemberDescriptorType)]
    return frozenset(caches), tuple(slots)


def _enum_member(value: enum.Enum) -> Parts:
    return Parts(b"enum", (type(value), value._name_, value._value_), label=_names("", "", "value"))


def _keyed(value: Any) -> Parts:
    label = _names("", "__cache_key__()")
    return Parts(b"key", (type(value), value.__cache_key__()), label=label)


def _stand_in(value: Any) -> _Instead:
    return _Instead(getattr(value, type(value).__hypernodes_function__))


def _set_subclass(value: Any) -> Parts:
    return Parts(b"set subclass", (type(value), frozenset(value), vars(value)))


def _reduced(value: Any) -> Parts:
    """Take apart what knows how to be pickled; the parts are hashed, not the pickle."""
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        found = reducer(value) if reducer else value.__reduce_ex__(4)
    except Exception as error:
        raise NoStableIdentityError(type(value)) from error
    if isinstance(found, str):
        return _named(value, found)
    make, args, state, items, pairs = [*cast("tuple[Any, ...]", found), None, None, None][:5]
    content = None if pairs is None else _items(value, pairs)
    listed = None if items is None else list(items)
    children = (type(value), make, args, state, listed, content)
    return Parts(b"reduced", children, label=lambda *_: "", is_opaque=True)


def _items(value: Any, pairs: Iterable[tuple[Any, Any]]) -> Any:
    return list(pairs) if isinstance(value, OrderedDict) else dict(pairs)


def _named(value: Any, name: str) -> Parts:
    """Take apart what its own module knows by name, such as a sentinel."""
    cls = type(value)
    module = getattr(value, "__module__", None)
    # The module of the user's own things differs between a script and an import.
    same = isinstance(module, str) and _package(module) == _package(module_name(cls))
    is_theirs = same and not _code["is_plain"](cls)
    return Parts(b"named", (cls, name, module if is_theirs else None))


def _package(module: str) -> str:
    return module.partition(".")[0]


def _refused(value: Any) -> Parts:
    raise NoStableIdentityError(type(value))


# --- Libraries ------------------------------------------------------------------------------------
# Their modules are there when an object of theirs is. Rules go by package and name of a class: the
# modules in between move from release to release.


def _kind(value: Any) -> Any:
    """Return what tells the type: the name, or the class itself where a user derived one."""
    cls = type(value)
    return cls.__name__ if _package(module_name(cls)) in _LIBRARIES else cls


def _ndarray(value: Any) -> Parts | bytes:
    numpy = sys.modules["numpy"]
    if type(value) not in (numpy.ndarray, numpy.memmap):
        base = value.view(numpy.ndarray)
        return Parts(b"numpy subclass", (_kind(value), base, getattr(value, "__dict__", None)))
    dtype = value.dtype
    if dtype.names is not None:
        # Field by field: the bytes between the fields are whatever was in memory.
        fields = [value[name] for name in dtype.names]
        return Parts(b"numpy structured", (value.shape, dtype.names, *fields))
    if dtype.kind not in "biufcmMSUV" or dtype.hasobject:
        return Parts(b"numpy objects", (str(dtype), value.shape, value.ravel().tolist()))
    tag = f"{dtype.str} {dtype.name} {value.shape}".encode()
    return b"a" + buffer_leaf(tag, _raw(value))


def _raw(value: Any) -> Any:
    """Return the bytes of an array in C order, without a copy where they lie so."""
    numpy = sys.modules["numpy"]
    return numpy.ascontiguousarray(value).reshape(-1).view("u1") if value.nbytes else b""


def _masked_array(value: Any) -> Parts:
    numpy = sys.modules["numpy"]
    mask = numpy.ma.getmaskarray(value)
    return Parts(b"numpy masked", (_kind(value), value.filled(), mask, value.fill_value))


def _numpy_scalar(value: Any) -> Parts:
    numpy = sys.modules["numpy"]
    return Parts(b"numpy scalar", (_kind(value), numpy.asarray(value)))


def _numpy_dtype(value: Any) -> Parts:
    fields = value.fields and [(name, *value.fields[name][:2]) for name in value.names]
    subtype = value.subdtype if fields is None else None
    return Parts(b"numpy dtype", (value.str, value.name, value.itemsize, fields, subtype))


def _data_frame(value: Any) -> Parts:
    arrays = [column.array for _, column in value.items()]
    children = (_kind(value), value.columns, value.index, value.attrs, *arrays)
    return Parts(b"pandas frame", children, label=_frame_label)


def _frame_label(children: Sequence[Any], index: int) -> str:
    return f"[{children[1][index - 4]!r}]" if index > 3 else ""  # noqa: PLR2004  # as just above


def _series(value: Any) -> Parts:
    children = (_kind(value), value.name, value.index, value.attrs, value.array)
    return Parts(b"pandas series", children, label=_names("", "name", "index", "attrs", "array"))


def _index(value: Any) -> Parts:
    frequency = getattr(value, "freqstr", None)
    return Parts(b"pandas index", (_kind(value), list(value.names), frequency, value.array))


def _range_index(value: Any) -> Parts:
    return Parts(b"pandas range", (list(value.names), value.start, value.stop, value.step))


def _multi_index(value: Any) -> Parts:
    levels = [value.get_level_values(level).array for level in range(value.nlevels)]
    return Parts(b"pandas multiindex", (list(value.names), *levels))


def _pandas_array(value: Any) -> Parts:
    """Take apart a column; what its dtype tells apart, counts."""
    dtype = str(value.dtype)
    if hasattr(value, "asi8"):
        return Parts(b"pandas times", (dtype, value.asi8))
    if hasattr(value, "codes"):
        return Parts(b"pandas categories", (value.ordered, value.categories, value.codes))
    if type(value).__name__.startswith("Arrow"):
        return Parts(b"pandas arrow", (dtype, value.__arrow_array__()))
    numbers = isinstance(value.dtype, sys.modules["numpy"].dtype)
    content = value.to_numpy() if numbers else value.to_numpy(dtype=object)
    return Parts(b"pandas array", (dtype, content))


def _arrow_table(value: Any) -> Parts:
    return Parts(b"arrow table", (_kind(value), value.schema, *value.columns))


def _arrow_schema(value: Any) -> Parts:
    return Parts(b"arrow schema", (list(value), value.metadata))


def _arrow_field(value: Any) -> Parts:
    return Parts(b"arrow field", (value.name, value.type, value.nullable, value.metadata))


def _arrow_chunks(value: Any) -> Parts:
    whole = value.chunk(0) if value.num_chunks == 1 else value.combine_chunks()
    return Parts(b"arrow chunked", (value.type, whole))


def _arrow_array(value: Any) -> Parts:
    """Take apart an array into which items are null and what the others are.

    What lies under a null, an offset or in a dictionary does not count.
    """
    present = value.drop_null()
    nulls = value.is_null().cast("uint8") if value.null_count else None
    nulls = nulls and _arrow_buffer(nulls, 1)
    return Parts(b"arrow array", (value.type, len(value), nulls, *_arrow_content(present)))


def _arrow_content(value: Any) -> Sequence[Any]:
    """Return what an array without nulls holds, as buffers, further arrays or Python's values."""
    kinds = importlib.import_module("pyarrow").types
    kind = value.type
    if kinds.is_dictionary(kind):
        return (value.dictionary_decode(),)
    if hasattr(value, "storage"):
        return (value.storage,)
    if kinds.is_struct(kind):
        return tuple(value.flatten())
    if kinds.is_boolean(kind):
        return (_arrow_buffer(value.cast("uint8"), 1),)
    if kinds.is_primitive(kind) or kinds.is_decimal(kind) or kinds.is_fixed_size_binary(kind):
        return (_arrow_buffer(value, kind.bit_width // 8),)
    return _arrow_lists(value, kinds)


def _arrow_lists(value: Any, kinds: Any) -> Sequence[Any]:
    compute = importlib.import_module("pyarrow.compute")
    kind = value.type
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        return compute.list_value_length(value), value.flatten()
    if kinds.is_fixed_size_list(kind):
        return (value.flatten(),)
    texts = (kinds.is_string, kinds.is_binary, kinds.is_large_string, kinds.is_large_binary)
    if any(is_text(kind) for is_text in texts):
        return compute.binary_length(value), _arrow_text(value)
    return (value.to_pylist(),)


def _arrow_buffer(value: Any, width: int) -> memoryview:
    buffer = value.buffers()[1]
    return memoryview(buffer.slice(value.offset * width, len(value) * width) if buffer else b"")


def _arrow_text(value: Any) -> memoryview:
    _, offsets, content = value.buffers()
    if not len(value) or content is None:
        return memoryview(b"")
    raw = memoryview(offsets).cast("B")
    places = raw.cast("q") if "large" in str(value.type) else raw.cast("i")
    first, last = places[value.offset], places[value.offset + len(value)]
    return memoryview(content.slice(first, last - first))


def _arrow_scalar(value: Any) -> Parts:
    return Parts(b"arrow scalar", (value.type, value.as_py()))


def _arrow_type(value: Any) -> Parts:
    return Parts(b"arrow type", (str(value),))


def _tensor(value: Any) -> Parts:
    torch = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized:
        raise NoStableIdentityError(type(value))
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    facts = (str(value.dtype), tuple(value.shape), value.device.type, value.requires_grad)
    content = plain.reshape(-1).view(torch.uint8).numpy()
    return Parts(b"torch tensor", (_kind(value), facts, content))


def _pydantic_model(value: Any) -> Parts:
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    extra = value.__pydantic_extra__ or {}
    return _with_attributes(b"pydantic", type(value), {**extra, **fields})


_LIBRARIES: Final = frozenset({"numpy", "pandas", "pyarrow", "torch"})
_FAMILIES: Final[dict[str, Rule]] = {
    "logging.Logger": _refused,
    "logging.LoggerAdapter": _refused,
    "numpy.MaskedArray": _masked_array,
    "numpy.dtype": _numpy_dtype,
    "numpy.generic": _numpy_scalar,
    "numpy.ndarray": _ndarray,
    "pandas.DataFrame": _data_frame,
    "pandas.ExtensionArray": _pandas_array,
    "pandas.Index": _index,
    "pandas.MultiIndex": _multi_index,
    "pandas.RangeIndex": _range_index,
    "pandas.Series": _series,
    "pyarrow.Array": _arrow_array,
    "pyarrow.ChunkedArray": _arrow_chunks,
    "pyarrow.DataType": _arrow_type,
    "pyarrow.Field": _arrow_field,
    "pyarrow.RecordBatch": _arrow_table,
    "pyarrow.Scalar": _arrow_scalar,
    "pyarrow.Schema": _arrow_schema,
    "pyarrow.Table": _arrow_table,
    "pydantic.BaseModel": _pydantic_model,
    "torch.Tensor": _tensor,
}


# --- Which rule -----------------------------------------------------------------------------------

_rules: weakref.WeakKeyDictionary[type, Rule] = weakref.WeakKeyDictionary()


def _rule_for(cls: type) -> Rule:
    rule = _rules.get(cls)
    if rule is None:
        rule = _rules[cls] = _find_rule(cls)
    return rule


def _find_rule(cls: type) -> Rule:
    members = {name for base in cls.__mro__ for name in vars(base)}
    if "__cache_key__" in members:
        return _keyed
    if "__hypernodes_function__" in members:
        return _stand_in
    if cls in _EXACT:
        return _EXACT[cls]
    return _BY_NAME.get(_short_name(cls)) or _family_rule(cls) or _object_rule(cls)


def _short_name(cls: type) -> str:
    return f"{_package(module_name(cls))}.{cls.__name__}"


def module_name(cls: type) -> str:
    """Return the module of a class; some compiled ones have a descriptor in that place."""
    module: object = cls.__module__
    return module if isinstance(module, str) else ""


def _family_rule(cls: type) -> Rule | None:
    for base in cls.__mro__:
        rule = _FAMILIES.get(_short_name(base))
        if rule:
            return rule
    return None


def _object_rule(cls: type) -> Rule:
    if issubclass(cls, type):
        return _Definition
    if issubclass(cls, enum.Enum):
        return _enum_member
    if issubclass(cls, set | frozenset):
        return _set_subclass
    if issubclass(cls, types.ModuleType):
        return _Definition
    if cls is object:
        return _refused
    return _plain if _code["is_plain"](cls) else _reduced
