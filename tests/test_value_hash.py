"""Values hash by content and by type, the same in every process."""

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import itertools
import json
import logging
import operator
import os
import pathlib
import pickle
import re
import subprocess
import sys
import threading
import types
import typing
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._values import NoStableIdentityError, hash_value
from hypernodes.cache._walk import encode


class Plain:
    def __init__(self, x, **others):
        self.x = x
        vars(self).update(others)


class Slotted:
    __slots__ = ("_hidden", "x", "y")

    def __init__(self, x, hidden=None):
        self.x = x
        self._hidden = hidden


class Keyed:
    def __init__(self, key, other=None):
        self.key = key
        self.other = other

    def __cache_key__(self):
        return self.key


class OtherKeyed(Keyed):
    pass


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Bits(enum.Flag):
    A = 1
    B = 2


class Point(typing.NamedTuple):
    x: int
    y: int


class OtherPoint(typing.NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Record:
    x: int
    names: tuple[str, ...] = ()
    _hidden: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenRecord:
    x: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    x: int = 0
    _secret: int = pydantic.PrivateAttr(default=1)


class IntChild(int):
    pass


class StrChild(str):
    __slots__ = ()


class ListChild(list):
    pass


class DictChild(dict):
    pass


class SetChild(set):
    pass


class TupleChild(tuple):
    __slots__ = ()


class Lazy:
    def __init__(self, x):
        self.x = x

    @functools.cached_property
    def doubled(self):
        return 2 * self.x


class Frame(pd.DataFrame):
    pass


class Matrix(np.ndarray):
    pass


class Measured(pd.DataFrame):
    _metadata: typing.ClassVar = ["_unit"]

    @property
    def _constructor(self):
        return Measured


class MaskedMatrix(np.ma.MaskedArray):
    pass


class Date(dt.datetime):
    pass


class Number(decimal.Decimal):
    __slots__ = ("_note", "unit")


class SlottedSet(set):
    __slots__ = ("unit",)


class Deprecated(pydantic.BaseModel):
    old: int = pydantic.Field(0, deprecated=True)


def marked(value, **attributes):
    """Return `value` with attributes."""
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value


def double(x):
    return 2 * x


def triple(x):
    return 3 * x


UTC = dt.UTC
ZONE = zoneinfo.ZoneInfo("Europe/Berlin")

# In each group, all differ from one another.
DIFFERENT = {
    "numbers": [1, 1.0, True, "1", 1 + 0j, b"1", decimal.Decimal(1), fractions.Fraction(1)],
    "zeros": [0, 0.0, -0.0, False, None, "", b"", (), [], {}, set(), frozenset(), 0j, -0j],
    "big integers": [2**64, 2**64 + 1, -(2**64), 10**5000, 10**5000 + 1, 255, -1, 256, 127, 128],
    "floats": [float("nan"), float("inf"), float("-inf"), 0.1, 0.1 + 1e-17 + 2e-17],
    "complex": [complex(0, 1), complex(1, 0), complex(0.0, -0.0), complex(-0.0, 0.0)],
    "strings": ["a", "b", "ab", "a" * 600, "a" * 601, "\ud800", "é", "e\u0301"],
    "bytes": [b"a", bytearray(b"a"), memoryview(b"a"), "a", b"a" * 600, bytearray(b"a" * 600)],
    "memoryviews": [memoryview(b"ab"), memoryview(array.array("h", b"ab"))],
    "sequences": [[1], (1,), {1}, frozenset({1}), [[1]], [(1,)], [1, 1], {1: 1}, {1: None}],
    "borders": [["ab", "c"], ["a", "bc"], ["abc"], [["ab"], "c"], ["ab", ["c"]]],
    "dicts": [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, [("a", 1), ("b", 2)], {1: "a"}],
    "dict kinds": [
        {"a": 1},
        collections.OrderedDict(a=1),
        collections.Counter(a=1),
        collections.defaultdict(int, a=1),
        collections.defaultdict(list, a=1),
        DictChild(a=1),
        types.SimpleNamespace(a=1),
    ],
    "ordered dicts": [
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
    ],
    "packed": [
        [0] * 16,
        [0.0] * 16,
        [False] * 16,
        (0,) * 16,
        [0] * 17,
        [0] * 15,
        [-0.0] * 16,
        [0.0] * 15 + [0],
        [2**63] + [0] * 15,
    ],
    "subclasses": [1, IntChild(1), "1", StrChild("1"), Level.LOW, np.int64(1)],
    "list subclasses": [[1], ListChild([1]), collections.deque([1]), collections.UserList([1])],
    "deques": [collections.deque([1]), collections.deque([1], maxlen=3)],
    "sets": [{1}, SetChild({1}), SetChild({2}), frozenset({1})],
    "tuples": [(1, 2), TupleChild((1, 2)), Point(1, 2), OtherPoint(1, 2), Point(2, 1)],
    "ranges": [range(3), range(4), range(0, 3, 2), slice(3), slice(0, 3), [0, 1, 2]],
    "enums": [Color.RED, Color.BLUE, Color, 1, Level.LOW, Bits.A, Bits.A | Bits.B],
    "paths": [
        pathlib.Path("a"),
        pathlib.Path("b"),
        pathlib.PurePosixPath("a"),
        pathlib.PureWindowsPath("a"),
        "a",
    ],
    "moments": [
        dt.datetime(2024, 1, 1),  # noqa: DTZ001
        dt.datetime(2024, 1, 1, tzinfo=UTC),
        dt.datetime(2024, 1, 1, tzinfo=ZONE),
        dt.datetime(2024, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.datetime(2024, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "X")),
        dt.datetime(2024, 1, 1, fold=1),  # noqa: DTZ001
        dt.datetime(2024, 1, 1, microsecond=1),  # noqa: DTZ001
        dt.date(2024, 1, 1),
        dt.time(0),
        dt.time(0, tzinfo=UTC),
        pd.Timestamp("2024-01-01"),
        np.datetime64("2024-01-01"),
        dt.timedelta(0),
    ],
    "time spans": [
        dt.timedelta(1),
        dt.timedelta(seconds=1),
        pd.Timedelta(1),
        np.timedelta64(1, "D"),
    ],
    "decimals": [decimal.Decimal("1.0"), decimal.Decimal("1.00"), decimal.Decimal("NaN")],
    "identifiers": [uuid.UUID(int=1), uuid.UUID(int=2), 1],
    "patterns": [re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a"), "a"],
    "objects": [
        Plain(1),
        Plain(2),
        Plain(1, y=2),
        Slotted(1),
        Record(1),
        FrozenRecord(1),
        Model(x=1),
    ],
    "records": [Record(1), Record(2), Record(1, ("a",)), Record(True), FrozenRecord(2)],
    "models": [Model(x=1), Model(x=2), Model(x=1, y=2), Model(x=1, y=3), Model(), Model(x=0)],
    "views": [types.MappingProxyType({1: 1}), types.MappingProxyType({1: 2}), {1: 1}],
    "attributes of frames": [
        marked(Measured({"a": [1]}), _unit="m"),
        marked(Measured({"a": [1]}), _unit="km"),
        Measured({"a": [1]}),
        marked(pd.DataFrame({"a": [1]}), unit="m"),
        pd.DataFrame({"a": [1]}),
        pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
        marked(pd.Series([1]), unit="m"),
        pd.Series([1]),
    ],
    "attributes of what derives from Python's": [
        marked(Date(2020, 1, 1), unit="m"),
        marked(Date(2020, 1, 1), unit="km"),
        Date(2020, 1, 1),
        marked(Number(1), unit="m"),
        marked(Number(1), unit="km"),
        Number(1),
        marked(SlottedSet([1]), unit="m"),
        marked(SlottedSet([1]), unit="km"),
        SlottedSet([1]),
    ],
    "keys": [Keyed(1), Keyed(2), OtherKeyed(1), 1],
    "code": [double, triple, Plain, Slotted, len, max, str.upper, str.lower, json, json.loads],
    "partials": [
        functools.partial(double, 1),
        functools.partial(double, 2),
        functools.partial(triple, 1),
        functools.partial(double, x=1),
        double,
    ],
    "methods": [Plain(1).__init__, Plain(2).__init__, Plain.__init__, [1].append, [2].append],
    "getters": [operator.itemgetter("a"), operator.itemgetter("b"), operator.attrgetter("a")],
    "types": [
        int,
        float,
        list[int],
        list[str],
        int | None,
        int | str,
        list,
        typing.Any,
        type(None),
    ],
    "sentinels": [None, ..., NotImplemented, pd.NA, pd.NaT, dataclasses.MISSING],
    "errors": [ValueError("a"), ValueError("b"), TypeError("a")],
    "streams": [io.BytesIO(b"a"), io.BytesIO(b"b"), io.StringIO("a")],
    "numpy scalars": [np.float64(1), np.float32(1), np.int64(1), np.str_("1"), np.bool_(1), 1.0, 1],
    "numpy kinds": [
        np.zeros(2),
        np.zeros(2, "f4"),
        np.zeros(2, "i8"),
        np.zeros((2, 1)),
        np.zeros((1, 2)),
        np.zeros(2, "S8"),
        np.zeros(2, "U2"),
        np.zeros(2, "V8"),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "M8[ms]"),
        np.zeros(2, "m8[s]"),
        np.zeros(2, object),
        np.zeros(2).view(Matrix),
        np.zeros(2).tolist(),
        np.ma.array([0.0, 0.0], mask=[0, 1]),
        np.ma.array([0.0, 0.0]),
        np.ma.array([0.0, 1.0], mask=[0, 1]),
    ],
    "masks": [
        np.ma.array([0.0, 0.0]),
        np.ma.array([0.0, 0.0], hard_mask=True),
        marked(np.zeros(2).view(MaskedMatrix), unit="m"),
        marked(np.zeros(2).view(MaskedMatrix), unit="km"),
    ],
    "byte orders": [np.zeros(2, ">f8"), np.zeros(2, "<f8")],
    "metadata of types": [
        np.zeros(2),
        np.zeros(2, np.dtype("f8", metadata={"unit": "m"})),
        np.zeros(2, np.dtype("f8", metadata={"unit": "km"})),
    ],
    "numpy empties": [np.zeros(0), np.zeros((0, 1)), np.zeros((1, 0)), np.zeros(0, "i8"), []],
    "numpy scalars and arrays": [np.array(1.0), np.array([1.0]), np.float64(1.0)],
    "numpy objects": [
        np.array([1, "a"], object),
        np.array([1.0, "a"], object),
        np.array([[1, "a"]], object),
    ],
    "numpy structured": [
        np.zeros(1, [("a", "i4"), ("b", "i4")]),
        np.zeros(1, [("b", "i4"), ("a", "i4")]),
        np.zeros(1, [("a", "i4"), ("b", "f4")]),
        np.zeros(1, [(("title", "a"), "i4"), ("b", "f4")]),
        np.zeros(1, {"names": ["a"], "formats": ["i4"], "offsets": [0], "itemsize": 8}),
        np.zeros(1, {"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 8}),
        np.zeros(1, "i8"),
    ],
    "numpy dtypes": [np.dtype("i4"), np.dtype("i8"), np.dtype([("a", "i4")]), np.dtype("M8[s]")],
    "numpy functions": [np.add, np.multiply, np.mean, np.ma.mean],
    "series": [
        pd.Series([1, 2]),
        pd.Series([1.0, 2.0]),
        pd.Series([1, 2], name="a"),
        pd.Series([1, 2], index=[1, 2]),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, 0], dtype="Int64"),
        pd.Series(["1", "2"]),
        pd.Series(["1", "2"], dtype=object),
        pd.Series(["1", "2"], dtype="category"),
        pd.Series(["1", "2"], dtype=pd.CategoricalDtype(["2", "1"])),
        pd.Series(["1", "2"], dtype=pd.CategoricalDtype(["1", "2"], ordered=True)),
        pd.Series([1, 2], dtype=pd.ArrowDtype(pa.int64())),
        pd.Series(pd.arrays.SparseArray([1, 2])),
        pd.Series(pd.interval_range(0, 2)),
        pd.Series(pd.period_range("2024", periods=2, freq="D")),
        pd.Series(pd.period_range("2024", periods=2, freq="M")),
        pd.Series(pd.date_range("2024", periods=2)),
        pd.Series(pd.date_range("2024", periods=2, tz="UTC")),
        pd.Series(pd.date_range("2024", periods=2, tz="Asia/Tokyo")),
        [1, 2],
    ],
    "frames": [
        pd.DataFrame({"a": [1], "b": [2]}),
        pd.DataFrame({"b": [2], "a": [1]}),
        pd.DataFrame({"a": [1], "c": [2]}),
        pd.DataFrame({"a": [1.0], "b": [2]}),
        pd.DataFrame({"a": [1], "b": [2]}, index=["x"]),
        pd.DataFrame({"a": [1], "b": [2]}).rename_axis("rows"),
        pd.DataFrame({"a": [1], "b": [2]}).rename_axis("columns", axis=1),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        Frame({"a": [1], "b": [2]}),
        pd.DataFrame(),
    ],
    "indexes": [
        pd.RangeIndex(2),
        pd.RangeIndex(3),
        pd.RangeIndex(2, name="a"),
        pd.Index([0, 1]),
        pd.Index([0.0, 1.0]),
        pd.MultiIndex.from_tuples([(0, 1)]),
        pd.MultiIndex.from_tuples([(0, 1)], names=["a", "b"]),
        pd.MultiIndex.from_product([[0, 1], [0, 1]])[:2],
        pd.MultiIndex.from_tuples([(0, 0), (0, 1)]),
        pd.date_range("2024", periods=2),
        pd.date_range("2024", periods=2, freq="W"),
        pd.DatetimeIndex(list(pd.date_range("2024", periods=2))),
    ],
    "arrow arrays": [
        pa.array([1, 2]),
        pa.array([1, 2], pa.int32()),
        pa.array([1.0, 2.0]),
        pa.array([1, None]),
        pa.array([1, 0]),
        pa.array([True, False]),
        pa.array([True, None]),
        pa.array(["a", "b"]),
        pa.array(["ab", ""]),
        pa.array(["a", None]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array([b"a", b"b"]),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([[1], [2]]),
        pa.array([[1, 2], []]),
        pa.array([[1, 2], None]),
        pa.array([[1], [2]], pa.list_(pa.int64(), 1)),
        pa.array([[1], [2]], pa.large_list(pa.int64())),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([{"b": 1}, {"b": 2}]),
        pa.array([{"a": 1}, None]),
        pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())),
        pa.array([decimal.Decimal("1.00")]),
        pa.array([dt.date(2024, 1, 1)]),
        pa.array([1], pa.timestamp("s")),
        pa.array([1], pa.timestamp("s", "UTC")),
        pa.array([b"ab"], pa.binary(2)),
        pa.nulls(2),
        pa.chunked_array([[1, 2]]),
        pa.scalar(1),
        pa.scalar(1, pa.int32()),
        pa.int64(),
        pa.field("a", pa.int64()),
        pa.field("a", pa.int64(), nullable=False),
        pa.struct([pa.field("a", pa.int64(), metadata={"k": "v"})]),
        pa.struct([pa.field("a", pa.int64())]),
    ],
    "arrow tables": [
        pa.table({"a": [1], "b": [2]}),
        pa.table({"b": [2], "a": [1]}),
        pa.table({"a": [1], "b": [3]}),
        pa.table({"a": [1], "b": [2]}).replace_schema_metadata({"k": "v"}),
        pa.RecordBatch.from_pydict({"a": [1], "b": [2]}),
        pa.schema([("a", pa.int64())]),
        pa.schema([("b", pa.int64())]),
    ],
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_values_have_different_hashes(values):
    hashes = [hash_value(value) for value in values]

    same = [
        (one, other)
        for (one, h1), (other, h2) in itertools.combinations(zip(values, hashes, strict=True), 2)
        if h1 == h2
    ]

    assert same == []


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_values_have_different_hashes_inside_a_list_too(values):
    assert len({hash_value([value, 0]) for value in values}) == len(values)


# Numpy's pickles forget some of these, others what a user has put on an object.
UNPICKLABLE = {
    "attributes of frames",
    "attributes of what derives from Python's",
    "byte orders",
    "bytes",
    "code",
    "masks",
    "memoryviews",
    "metadata of types",
    "methods",
    "views",
}


@pytest.mark.parametrize("name", [name for name in DIFFERENT if name not in UNPICKLABLE])
def test_a_copy_made_by_pickle_has_the_same_hash(name):
    for value in DIFFERENT[name]:
        copy = pickle.loads(pickle.dumps(value))

        assert hash_value(copy) == hash_value(value), value


EQUAL = {
    "dicts in another order": [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    "default dicts in another order": [
        collections.defaultdict(int, a=1, b=2),
        collections.defaultdict(int, b=2, a=1),
    ],
    "sets in another order": [{8, 16, 0, "a"}, {"a", 0, 16, 8}],
    "set subclasses in another order": [SetChild([0, 8, 16]), SetChild([16, 8, 0])],
    "not a number": [float("nan"), float("nan")],
    "attributes in another order": [Plain(1, a=2, b=3), Plain(1, b=3, a=2)],
    "hidden attributes": [Plain(1, _a=2), Plain(1, _a=3), Plain(1)],
    "hidden slots": [Slotted(1, 2), Slotted(1, 3)],
    "hidden attributes of what derives from Python's": [
        marked(Number(1), _note=1),
        marked(Number(1), _note=2),
    ],
    "hidden fields": [Record(1, _hidden=2), Record(1, _hidden=3)],
    "keys": [Keyed(1, "a"), Keyed(1, "b"), Keyed(1, threading.Lock())],
    "regular expressions": [re.compile("a"), re.compile("a")],
    "shared and copied parts": [[[1]] * 2, [[1], [1]]],
    "memory order": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))],
    "strides": [np.arange(10)[::2], np.arange(0, 10, 2)],
    "reversed": [np.arange(3)[::-1], np.array([2, 1, 0])],
    "unaligned memoryviews": [memoryview(b"abcd")[::2], memoryview(b"ac")],
    "object arrays in memory order": [
        np.array([[1, "a"], [2, "b"]], object),
        np.asfortranarray(np.array([[1, "a"], [2, "b"]], object)),
    ],
    "chunks": [pa.chunked_array([[1, 2], [3]]), pa.chunked_array([[1], [2, 3]])],
    "slices": [pa.array([1, 2, 3])[1:], pa.array([2, 3])],
    "slices of strings": [pa.array(["a", "bc", "d"])[1:], pa.array(["bc", "d"])],
    "slices of flags": [pa.array([True, False, True])[1:], pa.array([False, True])],
    "slices of lists": [pa.array([[1], [2, 3], None])[1:], pa.array([[2, 3], None])],
    "slices of structs": [pa.array([{"a": 1}, {"a": 2}, None])[1:], pa.array([{"a": 2}, None])],
    "slices of tables": [pa.table({"a": [1, 2]})[1:], pa.table({"a": [2]})],
    "dictionaries in another order": [
        pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), ["a", "b"]),
        pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), ["b", "a"]),
    ],
    "what lies under a null": [
        pa.Array.from_buffers(
            pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1, rest]).tobytes())]
        )
        for rest in (2, 3)
    ],
    "frames of other blocks": [
        pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
        pd.DataFrame(np.array([[1, 3], [2, 4]]), columns=["a", "b"]),
    ],
}


@pytest.mark.parametrize("values", EQUAL.values(), ids=EQUAL.keys())
def test_equal_content_has_one_hash(values):
    assert len({hash_value(value) for value in values}) == 1


def test_padding_of_structured_arrays_does_not_count():
    dtype = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    ones = np.full(dtype.itemsize, 1, "u1").view(dtype)
    twos = np.full(dtype.itemsize, 2, "u1").view(dtype)
    twos["a"], twos["b"] = ones["a"], ones["b"]

    assert ones.tobytes() != twos.tobytes()
    assert hash_value(ones) == hash_value(twos)


def test_a_memory_mapped_array_counts_as_the_array(tmp_path):
    numbers = np.arange(5)
    np.save(tmp_path / "a.npy", numbers)

    assert hash_value(np.load(tmp_path / "a.npy", mmap_mode="r")) == hash_value(numbers)


def test_a_cached_property_that_was_read_does_not_count():
    fresh, read = Lazy(1), Lazy(1)
    assert read.doubled == 2

    assert hash_value(fresh) == hash_value(read)


def test_an_accessor_that_was_used_does_not_count():
    fresh, used = pd.Series(["a"]), pd.Series(["a"])
    assert list(used.str.upper()) == ["A"]

    assert hash_value(fresh) == hash_value(used)


def test_a_deprecated_field_is_looked_at_without_a_warning():
    assert hash_value(Deprecated(old=1)) != hash_value(Deprecated(old=2))


def test_docstrings_of_functions_count_in_values():
    def make(text):
        def tool(x):
            return x

        tool.__doc__ = text
        return tool

    assert hash_value(make("a")) == hash_value(make("a"))
    assert hash_value(make("a")) != hash_value(make("b"))


def test_private_attributes_of_pydantic_models_do_not_count():
    one, other = Model(x=1), Model(x=1)
    other._secret = 2

    assert hash_value(one) == hash_value(other)


def test_hidden_attributes_of_library_classes_count():
    one, other = collections.UserDict(a=1), collections.UserDict(a=1)
    other._hidden = 1

    assert hash_value(one) != hash_value(other)


def test_the_code_of_a_class_counts():
    def make(factor):
        class Scaled:
            def scale(self, x):
                return factor * x

        return Scaled()

    assert hash_value(make(2)) == hash_value(make(2))
    assert hash_value(make(2)) != hash_value(make(3))


def test_the_key_counts_beside_the_class():
    class First:
        def __cache_key__(self):
            return 1

    class Second:
        def __cache_key__(self):
            return 1

    assert hash_value(First()) != hash_value(Second())


UNSTABLE = {
    "lock": threading.Lock,
    "event": threading.Event,
    "object": object,
    "generator": lambda: (x for x in ()),
    "logger": lambda: logging.getLogger("x"),
    "local": threading.local,
    "thread": threading.Thread,
    "frame": sys._getframe,
}


@pytest.mark.parametrize("make", UNSTABLE.values(), ids=UNSTABLE.keys())
def test_what_has_no_stable_identity_is_refused(make):
    with pytest.raises(NoStableIdentityError):
        hash_value(make())


def test_an_open_file_is_refused(tmp_path):
    with (tmp_path / "a").open("w") as file, pytest.raises(NoStableIdentityError):
        hash_value(file)


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda lock: lock, ""),
        (lambda lock: [0, lock], "[1]"),
        (lambda lock: {"a": [lock]}, "['a'][0]"),
        (lambda lock: {"a": 1, (lock,): 1}, "[key (<"),
        (lambda lock: Plain([lock]), ".x[0]"),
        (Slotted, ".x"),
        (lambda lock: {"r": Record(lock)}, "['r'].x"),
        (lambda lock: Model(lock=lock), ".lock"),
        (lambda lock: functools.partial(double, lock), ".args[0]"),
        (lambda lock: Keyed([lock]), ".__cache_key__()[0]"),
        (lambda lock: np.array([lock, None], object), "[2][0]"),
        (lambda lock: pd.DataFrame({"a": [lock]}), "['a']"),
    ],
)
def test_the_error_says_where_and_what(wrap, path):
    with pytest.raises(NoStableIdentityError) as caught:
        hash_value(wrap(threading.Lock()))

    assert caught.value.path.startswith(path)
    assert caught.value.kind.__name__ == "lock"
    assert path in str(caught.value)
    assert "__cache_key__" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_the_error_pickles():
    error = pickle.loads(pickle.dumps(NoStableIdentityError(Plain, ".x")))

    assert (error.kind, error.path) == (Plain, ".x")


def test_what_an_object_raises_of_itself_is_the_cause():
    class Broken:
        def __cache_key__(self):
            raise ZeroDivisionError

    with pytest.raises(NoStableIdentityError) as caught:
        hash_value([Broken()])

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_contains_itself_has_a_hash():
    first, second = [1], [1]
    first.append(first)
    second.append(second)
    other = [2]
    other.append(other)
    node = Plain(1)
    node.next = {"me": node}

    assert hash_value(first) == hash_value(second) != hash_value(other)
    assert hash_value(node) == hash_value(node)


def test_places_in_a_circle_are_told_apart():
    def make(*, back_to_outer):
        outer, inner = [], []
        outer.append(inner)
        inner.append(outer if back_to_outer else inner)
        return outer

    assert hash_value(make(back_to_outer=True)) != hash_value(make(back_to_outer=False))


@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: {"a": x}, Plain], ids=["list", "dict", "object"]
)
def test_nesting_may_be_deep(wrap):
    def make(leaf):
        value = leaf
        for _ in range(5_000):
            value = wrap(value)
        return value

    assert hash_value(make(1)) != hash_value(make(2))


def test_shared_parts_are_walked_once():
    value = [1]
    for _ in range(200):
        value = [value, value]

    assert len(hash_value(value)) == 64


def test_a_buffer_is_hashed_without_a_copy():
    tracemalloc = pytest.importorskip("tracemalloc")
    numbers = np.zeros(1_000_000)
    hash_value(numbers)
    tracemalloc.start()
    hash_value({"a": [numbers]})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < numbers.nbytes / 10


def test_a_snapshot_can_be_shared_by_many_values():
    snapshot = CodeSnapshot()

    assert hash_value(Plain(1), identify=snapshot.identify) == hash_value(Plain(1))
    assert hash_value(Plain(2), identify=snapshot.identify) == hash_value(Plain(2))


def test_encodings_are_short_whatever_the_value():
    for value in ("x" * 10_000, b"x" * 10_000, list(range(10_000)), np.zeros(10_000)):
        assert len(encode(value, identify=CodeSnapshot().identify)) < 600


def test_tensors_hash_by_content_and_type():
    torch = pytest.importorskip("torch")
    numbers = torch.arange(6.0).reshape(2, 3)
    kinds = [
        numbers,
        numbers.to(torch.float64),
        numbers.to(torch.bfloat16),
        numbers.reshape(3, 2),
        numbers + 1,
        torch.nn.Parameter(numbers),
        numbers.numpy(),
    ]

    assert len({hash_value(each) for each in kinds}) == len(kinds)
    assert hash_value(numbers.T.contiguous().T) == hash_value(numbers)


# --- Properties -----------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
)
KEYS = st.integers() | st.text() | st.booleans() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=12,
)


def spelled(value):
    """Return a string that is the same only for the same types and content."""
    if isinstance(value, dict):
        return f"dict{sorted((spelled(k), spelled(v)) for k, v in value.items())}"
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(spelled, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[spelled(each) for each in value]}"
    if isinstance(value, float):
        return f"float {np.float64(value).tobytes().hex()}"
    if isinstance(value, complex):
        return f"complex {np.complex128(value).tobytes().hex()}"
    return f"{type(value).__name__} {value!r}"


@given(VALUES)
def test_a_copy_has_the_same_hash(value):
    assert hash_value(pickle.loads(pickle.dumps(value))) == hash_value(value)


@given(VALUES, VALUES)
def test_values_have_one_hash_just_when_they_are_the_same(one, other):
    assert (hash_value(one) == hash_value(other)) == (spelled(one) == spelled(other))


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.randoms())
def test_the_order_of_a_dict_does_not_count(value, random):
    items = list(value.items())
    random.shuffle(items)

    assert hash_value(dict(items)) == hash_value(value)


@given(st.lists(st.integers() | st.floats() | st.booleans(), min_size=10, max_size=40))
def test_packed_numbers_are_told_apart_like_others(numbers):
    changed = [*numbers[:-1], [numbers[-1]]]

    assert hash_value(numbers) == hash_value(list(numbers))
    assert hash_value(numbers) != hash_value(changed)
    assert hash_value(numbers) != hash_value(tuple(numbers))


@given(st.lists(st.none() | st.text(max_size=3), max_size=8), st.integers(0, 8))
def test_arrow_arrays_hash_by_content_however_they_are_cut(values, cut):
    whole = pa.array(values, pa.string())
    parts = pa.chunked_array([values[:cut], values[cut:]], pa.string())
    padded = pa.array(["pad", *values], pa.string())[1:]

    assert hash_value(whole) == hash_value(padded)
    assert hash_value(parts) == hash_value(pa.chunked_array([whole]))


# --- Other processes ------------------------------------------------------------------------------

SCRIPT = """
import datetime, decimal, enum, pathlib, re, sys
import numpy as np, pandas as pd
from hypernodes.cache._code import hash_code
from hypernodes.cache._values import hash_value

class Point:
    def __init__(self, x):
        self.x = x

class Color(enum.Enum):
    RED = "red"

def double(x):
    return 2 * x

values = [
    {"a", "b", "c", ("d", 1)},
    {"x": {"y": frozenset("abcdef")}},
    {Point, Color, double, len},
    {Point: 1, Color: 2, double: 3},
    Point({"a", "b"}), Color.RED, double,
    pathlib.PurePosixPath("a"), re.compile("a"), decimal.Decimal("1.5"),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    np.arange(3), pd.DataFrame({"a": ["x", "y"]}),
]
for value in values:
    print(hash_value(value))
"""


def run(script, seed):
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_hashes_hold_in_other_processes_whatever_the_hash_seed(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    launch = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"

    outputs = {run(launch, seed).stdout for seed in ("0", "1", "2", "3")}

    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 13


# --- The scheme -----------------------------------------------------------------------------------

GOLDEN = {
    "None": ("11e9be3cf956c91099124eff1187c9fd37074fda35296d215476a280494b8a58"),
    "True": ("28daa07bd57d524d88fdd8676a9034e615fbf0ee5c191e18e517d031789c1ce4"),
    "1": ("70fe7ae50f4138de87f1cc35c584f681c86dc22827906fc9e9472dba539f3a46"),
    "1.0": ("da3fcd78f533b92811f4ff7aaf2f7444f4b3fa88480e574b385cc263ae9f3175"),
    "-0.0": ("0b641063b5d4d6d7c2306a202a5efd3bdd0bb65a1918333ac90567c7a606a171"),
    "2**100": ("4a9d255a9b3bc8d12507b9f2f94517c5c161c69250f8cb934361f3f13151f202"),
    "1j": ("6a991bc1e2ef2f55a8cc6e4532e8aa31c681360c61f0e88b97c5c8e93bb3a0e3"),
    "'one'": ("27c99680c29492fbb61286055d5c5e08621f9b8228c1f89aab087776fbe8d0ee"),
    "'é' * 1000": ("69186b7444b8bed477270544c597213978453ecddf0bb35b017153a007680b11"),
    "b'one'": ("398e7aa1ca85438cf4ddd714ba23358aee5c3419f453d326577d59e8872e724b"),
    "bytearray(b'one')": ("19ca49ad04614cdc42af319fd2343948566aaa94cddbd257706b63b8717ba513"),
    "[1, (2, 3)]": ("971a462ce122b37f913bf57dcb830647a89f2999d6ede84f8a3da4abad51200d"),
    "list(range(100))": ("dbaacdbcf67feced32fc716f8bfda44b5d4fddc305c47836e6649193684a1cc7"),
    "{'a': {1, 2}, 'b': frozenset()}": (
        "c6c10f3ed1aad306dfdb5c4a4420c97545195484c0f5a2767e405ef16ff44ac8"
    ),
    "range(3)": ("155cf3007389a38f1d7e5d2468102ad2b60b3e85b83e5c64d2bb47fd59527982"),
    "dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)": (
        "2dff629135366b506bac86793c867529201f5170c1824e8e93e2eb732cb05d6a"
    ),
    "dt.timedelta(1)": ("395c9c6834bbb6300ba947e94f092355fb76eb666a94393b6ee7236bcf349a2b"),
    "decimal.Decimal('1.50')": ("a24bffe4c30db398a6e7c6a559786f7d7870c714a9e80124c6e6d499ff0cdd2c"),
    "pathlib.PurePosixPath('a/b')": (
        "5a8156ae6dd5694ed080e51b246e01cd17dddf91565cb32821335828de297245"
    ),
    "uuid.UUID(int=1)": ("bae8254d3a03c771709ef2d31ba6c039e4597c2c15275c5a857cfe93777eff63"),
    "np.arange(6).reshape(2, 3)": (
        "40e9765f9915ef58d5e45eee69817e8bb9286fbe0ad02efe95b94b6ca5d815ca"
    ),
    "np.float32(1)": ("fc40f80d4c0859ba2ac3c2b10e7205d9893c5f18bfcf2ccb14e39596f812f3c7"),
    "np.array([1, 'a'], object)": (
        "944db5a651ed88c994d0818b11d0b13936550710ea23bb496f7a1f80c2ea82e3"
    ),
    "pd.DataFrame({'a': [1, 2], 'b': [1.5, None]})": (
        "b394d78d2a36e630b461a0d160c21b1d32e5f0ce639906861bc202f422646628"
    ),
    "pd.Series(['x', 'y'], name='s', dtype=object)": (
        "75fc37dfd5e964fa28ec89848101bdf2661733eeae3dd1f52b7705a800d18cd0"
    ),
    "pa.array(['a', None, 'bc'])": (
        "8b042245a12105fcc45fe0a003f78b9e3817697a4c161fe143ed27eb8487ab98"
    ),
    "len": ("6b60de5eea31ef1b00dabc3c757bf81dc83e61eeb152cd1e28f846142cedbb08"),
}


@pytest.mark.parametrize(("spelling", "expected"), GOLDEN.items())
def test_the_scheme_has_not_changed(spelling, expected):
    names = {
        "dt": dt,
        "decimal": decimal,
        "pathlib": pathlib,
        "uuid": uuid,
        "np": np,
        "pa": pa,
        "pd": pd,
    }

    assert hash_value(eval(spelling, names)) == expected  # noqa: S307
