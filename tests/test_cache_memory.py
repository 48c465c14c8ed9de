"""`MemoryCache`: what is used least goes first; what comes back is a copy."""

import pickle
import threading

import numpy as np
import pytest

from hypernodes import MISS, CacheError, MemoryCache, SerializationError


def put_all(cache, *names):
    for name in names:
        cache.put(name, name)


def found(cache, names):
    return "".join(name for name in names if cache.has(name))


def test_the_least_recently_used_goes_first():
    cache = MemoryCache(max_items=3)
    put_all(cache, *"abc")
    cache.get("a")
    put_all(cache, "d")
    assert found(cache, "abcd") == "acd"


def test_storing_again_counts_as_use():
    cache = MemoryCache(max_items=2)
    put_all(cache, *"aba", "c")
    assert found(cache, "abc") == "ac"


def test_looking_whether_something_is_there_is_no_use():
    cache = MemoryCache(max_items=2)
    put_all(cache, *"ab")
    assert cache.has("a")
    put_all(cache, "c")
    assert found(cache, "abc") == "bc"


def test_bytes_are_bounded():
    cache = MemoryCache(max_bytes=10_000)
    for number in range(50):
        cache.put(str(number), np.zeros(100))
        assert cache.stats().bytes <= 10_000
    assert cache.has("49")
    assert not cache.has("0")
    assert cache.stats().items >= 5


def test_what_is_larger_than_the_cache_is_not_kept_and_pushes_nothing_out():
    cache = MemoryCache(max_bytes=10_000)
    put_all(cache, "a")
    cache.put("b", np.zeros(10_000))
    assert found(cache, "ab") == "a"
    cache.put("a", np.zeros(10_000))
    assert found(cache, "ab") == ""
    assert cache.stats().bytes == 0


def test_both_bounds_hold():
    cache = MemoryCache(max_items=5, max_bytes=2_000)
    put_all(cache, *"abcdefgh")
    assert cache.stats().items <= 5
    assert cache.stats().bytes <= 2_000


def test_sizes_are_given_back():
    cache = MemoryCache()
    for value in (1, "text", (1, (2,)), [1], np.zeros(5)):
        cache.put("a", value)
        assert cache.stats().bytes > 0
        cache.delete("a")
        assert cache.stats().bytes == 0


def test_what_cannot_be_changed_is_kept_as_it_is():
    value = (1, "text", (2.5, None))
    cache = MemoryCache()
    cache.put("a", value)
    assert cache.get("a") is value


class Count(int):
    pass


def test_what_shares_something_with_every_copy_is_refused():
    def counter():
        count = 0

        def following():
            nonlocal count
            count += 1
            return count

        return following

    with pytest.raises(SerializationError, match="this dict cannot be pickled"):
        MemoryCache().put("a", {"count": counter()})


def test_a_tuple_with_something_changeable_inside_is_copied():
    value = (1, [2])
    cache = MemoryCache()
    cache.put("a", value)
    cache.get("a")[1].append(3)
    assert cache.get("a") == (1, [2])


def test_a_subclass_of_a_number_keeps_its_class():
    cache = MemoryCache()
    value = Count(3)
    value.seen = []
    cache.put("a", value)
    assert type(cache.get("a")) is Count
    assert cache.get("a") is not value


def test_a_pickled_memory_cache_arrives_empty_with_its_bounds():
    cache = MemoryCache(max_items=3, max_bytes=10_000)
    put_all(cache, "a")
    copy = pickle.loads(pickle.dumps(cache))
    assert repr(copy) == repr(cache) == "MemoryCache(max_items=3, max_bytes=10000)"
    assert copy.get("a") is MISS


@pytest.mark.parametrize("name", ["max_items", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
def test_a_bound_has_to_be_a_positive_integer(name, value):
    with pytest.raises(CacheError, match=name):
        MemoryCache(**{name: value})


def test_bounds_hold_while_threads_store():
    cache = MemoryCache(max_items=10, max_bytes=20_000)

    def store(start):
        for number in range(start, start + 500):
            cache.put(str(number), [number] * 20)
            cache.get(str(number - 3))

    threads = [threading.Thread(target=store, args=(start,)) for start in (0, 250, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().items == 10
    cache.clear()
    assert cache.stats().bytes == 0
