"""What every cache keeps to: values by signature, never changed by what users do to them."""

import collections
import dataclasses
import doctest
import enum
import pickle
import threading
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hypernodes
from hypernodes import (
    MISS,
    Cache,
    CacheStats,
    DiskCache,
    MemoryCache,
    SerializationError,
    abc,
)
from hypernodes.cache import EntryRecord, FsspecCache, disk, fsspec, memory, spec

ONE, TWO, THREE = ("1a" * 32, "2b" * 32, "3c" * 32)


class Plain(Cache):
    """As little as a third party has to write."""

    def __init__(self):
        self.pickles = {}
        self.found = collections.Counter()

    def get(self, signature):
        self.found[signature in self.pickles] += 1
        return pickle.loads(self.pickles[signature]) if signature in self.pickles else MISS

    def put(self, signature, value):
        try:
            self.pickles[signature] = pickle.dumps(value)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise SerializationError(str(error)) from error

    def delete(self, signature):
        self.pickles.pop(signature, None)

    def clear(self):
        self.pickles.clear()
        self.__dict__.pop("_history", None)

    def stats(self):
        size = sum(map(len, self.pickles.values()))
        return CacheStats(self.found[True], self.found[False], len(self.pickles), size)


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    tags: list


def make_plain(_):
    return Plain()


def make_memory(_):
    return MemoryCache()


def make_disk(path):
    return DiskCache(path / "cache")


def make_disk_in_a_burst(path):
    cache = DiskCache(path / "cache")
    cache.put_many({f"{number:064x}": number for number in range(50)})
    cache.clear()
    return cache


def make_fsspec_memory(path):
    return FsspecCache(f"memory://{path.name}")


def make_fsspec_local(path):
    return FsspecCache(f"file://{path / 'cache'}")


MAKERS = [
    make_plain,
    make_memory,
    make_disk,
    make_disk_in_a_burst,
    make_fsspec_memory,
    make_fsspec_local,
]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__.removeprefix("make_"))
def cache(request, tmp_path):
    if "fsspec" in request.param.__name__:
        pytest.importorskip("fsspec")
    return request.param(tmp_path)


def equal(left, right):
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, pd.DataFrame | pd.Series):
        return left.equals(right)
    return left == right and type(left) is type(right)


# --- Values ---------------------------------------------------------------------------------------


def test_what_was_stored_is_found_and_what_was_not_is_a_miss(cache):
    assert cache.get(ONE) is MISS
    cache.put(ONE, 5)
    assert cache.get(ONE) == 5
    assert cache.get(TWO) is MISS


def test_none_is_a_value(cache):
    cache.put(ONE, None)
    assert cache.get(ONE) is None
    assert cache.has(ONE)


def test_a_value_is_replaced_by_the_next_of_its_signature(cache):
    cache.put(ONE, [1])
    cache.put(ONE, [2])
    assert cache.get(ONE) == [2]
    assert cache.stats().items == 1


def test_what_cannot_be_stored_leaves_nothing_that_was_there_before(cache):
    if isinstance(cache, Plain):
        # The plainest cache that the contract allows: it is told nothing of earlier values.
        pytest.skip("this one keeps what it had")
    cache.put(ONE, [1])
    cache.put(TWO, [2])
    with pytest.raises(SerializationError):
        cache.put(ONE, (number for number in ()))
    assert cache.put_many({TWO: threading.Lock(), THREE: 3}).keys() == {TWO}
    assert cache.get_many([ONE, TWO, THREE]) == {THREE: 3}


@pytest.mark.parametrize("signature", ["a", "abc", "ff", "0" * 63, "0" * 128, "../../up", "Ü" * 64])
def test_signatures_may_have_any_length(cache, signature):
    cache.put(signature, "found")
    cache.put(signature + "0", "another")
    assert cache.get(signature) == "found"
    assert cache.has(signature)
    assert cache.stats().items == 2
    cache.delete(signature)
    assert cache.get(signature) is MISS


@pytest.mark.parametrize(
    "value",
    [
        0,
        -(10**40),
        1.5,
        True,
        "text",
        b"bytes",
        (),
        (1, (2, "three")),
        [1, [2]],
        {"a": {1, 2}},
        frozenset({1}),
        bytearray(b"x" * 100_000),
        b"x" * 300_000,
        ["long"] * 200_000,
        datetime(2026, 1, 2, tzinfo=UTC),
        Colour.RED,
        Point(1, ["a"]),
        collections.OrderedDict(a=1),
        ValueError,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_were(cache, value):
    cache.put(ONE, value)
    assert equal(cache.get(ONE), value)


@pytest.mark.parametrize("length", [0, 3, 5_000, 20_000, 200_000])
@pytest.mark.parametrize("dtype", ["float64", "int8", "datetime64[ns]", "U4", "object"])
def test_arrays_come_back_as_they_were(cache, dtype, length):
    array = np.arange(length).astype(dtype)
    cache.put(ONE, {"array": array, "again": [array]})
    found = cache.get(ONE)
    assert equal(found["array"], array)
    assert equal(found["again"][0], array)


def test_arrays_keep_order_and_writability(cache):
    columns = np.asfortranarray(np.arange(90_000.0).reshape(300, 300))
    fixed = np.arange(90_000)
    fixed.setflags(write=False)
    cache.put(ONE, (columns, fixed, columns[::2, ::3]))
    found = cache.get(ONE)
    assert found[0].flags.f_contiguous
    fixed.setflags(write=isinstance(cache, Plain))  # plain pickles do not keep that
    assert [array.flags.writeable for array in found] == [True, fixed.flags.writeable, True]
    assert all(map(equal, found, (columns, fixed, columns[::2, ::3])))


def test_frames_come_back_as_they_were(cache):
    frame = pd.DataFrame({"n": np.arange(50_000), "x": np.arange(50_000) / 3, "s": "text"})
    cache.put(ONE, frame)
    pd.testing.assert_frame_equal(cache.get(ONE), frame)


def test_values_of_any_length_come_back(cache):
    around = range(2**16 - 80, 2**16 + 20)
    cache.put_many({f"{length:064x}": bytes(length) for length in around})
    found = cache.get_many(f"{length:064x}" for length in around)
    assert [len(value) for value in found.values()] == list(around)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner),
        st.frozensets(st.integers()),
    ),
)


@given(value=NESTED)
def test_any_nested_value_comes_back(cache, value):
    cache.put(ONE, value)
    assert equal(cache.get(ONE), value)


@given(
    content=st.lists(st.floats(width=32, allow_nan=False)),
    repeat=st.sampled_from([1, 30_000]),
    dtype=st.sampled_from(["float32", "float64", "complex128"]),
)
def test_any_array_comes_back(cache, content, repeat, dtype):
    array = np.array(content * (repeat if len(content) < 5 else 1), dtype)
    cache.put(ONE, array)
    assert equal(cache.get(ONE), array)


# --- Users who change what they have --------------------------------------------------------------


@pytest.mark.parametrize("length", [3, 20_000, 200_000])
def test_changing_an_array_changes_nothing_in_the_cache(cache, length):
    array = np.zeros(length)
    cache.put(ONE, array)
    array[:] = 1
    first = cache.get(ONE)
    first[:] = 2
    second = cache.get(ONE)
    assert second.sum() == 0
    assert first.sum() == 2 * length


def test_changing_a_list_changes_nothing_in_the_cache(cache):
    value = [1, {"a": [2]}, (3, [4])]
    cache.put(ONE, value)
    value[1]["a"].append(5)
    found = cache.get(ONE)
    found[2][1].clear()
    assert cache.get(ONE) == [1, {"a": [2]}, (3, [4])]


def test_changing_an_object_or_a_frame_changes_nothing_in_the_cache(cache):
    cache.put(ONE, Point(1, []))
    cache.put(TWO, pd.DataFrame({"a": np.zeros(100_000)}))
    cache.get(ONE).tags.append("changed")
    frame = cache.get(TWO)
    frame.loc[:, "a"] = 1
    assert cache.get(ONE) == Point(1, [])
    assert cache.get(TWO)["a"].sum() == 0


def test_a_bytearray_and_its_copies_are_apart(cache):
    value = bytearray(100_000)
    cache.put(ONE, value)
    value[0] = 1
    cache.get(ONE)[0] = 2
    assert cache.get(ONE)[0] == 0


# --- What cannot be kept --------------------------------------------------------------------------


class Explosive:
    def __reduce__(self):
        raise RuntimeError("never pickled")


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), (number for number in range(3)), lambda: 1, Explosive()],
    ids=["lock", "generator", "lambda", "raises"],
)
def test_what_cannot_be_pickled_is_refused_and_not_stored(cache, value):
    if isinstance(cache, Plain) and isinstance(value, Explosive):
        # What pickle refuses is a `SerializationError` everywhere; a value's own error need not be.
        pytest.skip("this one lets errors of values pass")
    with pytest.raises(SerializationError):
        cache.put(ONE, value)
    assert cache.get(ONE) is MISS


def test_many_are_stored_without_those_that_are_refused(cache):
    refused = cache.put_many({ONE: 1, TWO: threading.Lock(), THREE: [3]})
    assert list(refused) == [TWO]
    assert isinstance(refused[TWO], SerializationError)
    assert cache.get_many([ONE, TWO, THREE]) == {ONE: 1, THREE: [3]}


# --- The other methods ----------------------------------------------------------------------------


def test_has_sees_what_is_there(cache):
    cache.put(ONE, 1)
    assert cache.has(ONE)
    assert not cache.has(TWO)
    assert cache.has_many([ONE, TWO]) == {ONE}


def test_many_of_nothing_is_nothing(cache):
    assert cache.get_many([]) == {}
    assert cache.has_many([]) == set()
    assert cache.put_many({}) == {}


def test_what_is_deleted_is_gone_and_what_is_absent_is_no_matter(cache):
    cache.put(ONE, 1)
    cache.delete(ONE)
    cache.delete(ONE)
    cache.delete(TWO)
    assert cache.get(ONE) is MISS
    assert cache.stats().items == 0


def test_clear_forgets_everything(cache):
    cache.put_many({ONE: 1, TWO: [2] * 100})
    cache.note([EntryRecord("a", ONE, {"code": "1"})])
    cache.clear()
    assert cache.get_many([ONE, TWO]) == {}
    assert cache.records("a") == []
    assert (cache.stats().items, cache.stats().bytes) == (0, 0)
    cache.put(ONE, 3)
    assert cache.get(ONE) == 3


def test_stats_count(cache):
    cache.put_many({ONE: 1, TWO: 2})
    cache.get(ONE)
    cache.get_many([ONE, TWO, THREE])
    found = cache.stats()
    assert (found.hits, found.misses, found.items) == (3, 1, 2)
    assert found.bytes > 0


def test_an_empty_cache_has_empty_stats(cache):
    assert cache.stats() == CacheStats(0, 0, 0, 0)


# --- Records --------------------------------------------------------------------------------------


def test_records_come_newest_first_and_by_node(cache):
    cache.note([EntryRecord("a", ONE, {"code": "1"}, 1.0), EntryRecord("b", TWO, {}, 2.0)])
    cache.note([EntryRecord("a", THREE, {"code": "2"}, 3.0)])
    assert [record.signature for record in cache.records("a")] == [THREE, ONE]
    assert cache.records("b") == [EntryRecord("b", TWO, {}, 2.0)]
    assert cache.records("c") == []


def test_the_nearest_record_differs_least_and_is_the_newest_of_several(cache):
    cache.note(
        [
            EntryRecord("a", "1", {"code": "1", "x": "1", "y": "1"}),
            EntryRecord("a", "2", {"code": "1", "x": "2", "y": "2"}),
            EntryRecord("a", "3", {"code": "2", "x": "2", "y": "2"}),
        ]
    )
    assert cache.nearest("a", {"code": "1", "x": "1", "y": "3"}).signature == "1"
    assert cache.nearest("a", {"code": "3", "x": "2", "y": "2"}).signature == "3"
    assert cache.nearest("b", {}) is None


def test_a_record_says_what_changed():
    record = EntryRecord("a", "1", {"code": "1", "x": "1", "gone": "1"})
    assert record.changed({"code": "1", "x": "2", "new": "1"}) == ("gone", "new", "x")


def test_of_many_records_the_last_thousand_are_kept(cache):
    for start in range(0, 3000, 100):
        batch = range(start, start + 100)
        cache.note(EntryRecord("a", f"{n:064x}", {"code": "c" * 64, "x": str(n)}) for n in batch)
    found = cache.records("a")
    assert len(found) >= Cache.RECORDS_KEPT
    assert [int(record.signature, 16) for record in found[:1000]] == [*range(2999, 1999, -1)]


# --- Threads, names -------------------------------------------------------------------------------


def test_threads_may_use_one_cache(cache):
    failures = []

    def use(number):
        try:
            for turn in range(100):
                signature = f"{turn % 20:064x}"
                cache.put(signature, [turn % 20] * 50)
                found = cache.get(signature)
                if found is not MISS and found != [turn % 20] * 50:
                    failures.append(found)
                if turn % 30 == number:
                    cache.delete(signature)
                cache.note([EntryRecord("a", signature, {})])
                cache.records("a")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert cache.stats().hits + cache.stats().misses == 600


@pytest.mark.parametrize("module", [abc, disk, fsspec, memory, spec])
def test_examples_in_docstrings_are_true(module):
    if module is fsspec:
        pytest.importorskip("fsspec")
    assert doctest.testmod(module).failed == 0


def test_miss_is_one_object_everywhere():
    assert pickle.loads(pickle.dumps(MISS)) is MISS
    assert repr(MISS) == "MISS"


def test_contract_and_caches_also_import_from_their_room():
    for name in ("MISS", "Cache", "CacheSpec", "CacheStats", "DiskCache", "MemoryCache"):
        assert getattr(hypernodes.cache, name) is getattr(hypernodes, name)
    assert set(hypernodes.cache.__all__) <= set(dir(hypernodes.cache))
    with pytest.raises(AttributeError):
        hypernodes.cache.Nothing  # noqa: B018 - looking is what is tested
