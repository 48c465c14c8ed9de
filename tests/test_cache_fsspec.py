"""`FsspecCache`: the entries of a disk cache, in object stores and on shared file systems."""

import importlib
import os
import pickle
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from hypernodes import MISS, CacheError, CacheSpec, CacheWarning, MissingDependencyError
from hypernodes.cache import EntryRecord, FsspecCache
from hypernodes.cache import fsspec as room

fsspec = pytest.importorskip("fsspec")

ONE, TWO, THREE = "1a" * 32, "2b" * 32, "3c" * 32
ARRAY = np.arange(200_000.0)


@pytest.fixture(scope="module")
def s3():
    """A server on this machine that speaks S3, and how to reach it."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "nobody",
        "secret": "nothing",
        "endpoint_url": f"http://{host}:{port}",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    server.stop()


@pytest.fixture(params=["memory", "local", "s3"])
def place(request, tmp_path):
    """A URL and the options for it."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}", {}
    if request.param == "local":
        return f"file://{tmp_path}/cache", {}
    options = request.getfixturevalue("s3")
    bucket = tmp_path.name.replace("_", "-").lower()
    fsspec.filesystem("s3", **options).mkdir(bucket)
    return f"s3://{bucket}/some/where", options


def open_cache(place, **arguments):
    url, options = place
    return FsspecCache(url, storage_options=options, **arguments)


def damage(cache, signature, content):
    fs, _ = cache._open()
    fs.pipe_file(cache._place(signature), content)


def content_of(cache, signature):
    return cache._open()[0].cat_file(cache._place(signature))


def test_values_are_found_by_others(place):
    open_cache(place).put_many({ONE: {"a": ARRAY}, TWO: None})
    other = open_cache(place)
    found = other.get_many([ONE, TWO, THREE])
    assert found.keys() == {ONE, TWO}
    assert np.array_equal(found[ONE]["a"], ARRAY)
    found[ONE]["a"][0] = 7
    assert other.get(ONE)["a"][0] == 0
    assert other.has_many([ONE, TWO, THREE]) == {ONE, TWO}
    stats = other.stats()
    assert (stats.hits, stats.misses, stats.items) == (3, 1, 2)
    assert stats.bytes > ARRAY.nbytes


def test_entries_can_be_deleted_and_cleared(place):
    cache = open_cache(place)
    cache.delete(ONE)
    cache.clear()
    cache.put_many({ONE: 1, TWO: 2})
    cache.delete(ONE)
    cache.delete(ONE)
    assert cache.has_many([ONE, TWO]) == {TWO}
    cache.note([EntryRecord("a", TWO, {})])
    cache.clear()
    assert cache.stats().items == 0
    assert cache.records("a") == []
    cache.put(ONE, 3)
    assert open_cache(place).get(ONE) == 3


def test_a_damaged_entry_is_a_miss_with_a_warning_and_is_replaced(place):
    cache = open_cache(place)
    cache.put_many({ONE: [1], TWO: [2]})
    whole = content_of(cache, ONE)
    for content in (b"", whole[:-1], whole[:30], b"x" * 200, content_of(cache, TWO)):
        damage(cache, ONE, content)
        other = open_cache(place)
        with pytest.warns(CacheWarning, match="damaged") as told:
            assert other.get(ONE) is MISS
            assert other.get(ONE) is MISS
        assert len(told) == 1
    assert [name for name, _ in cache.broken()] == [ONE]
    cache.put(ONE, [1])
    assert open_cache(place).get(ONE) == [1]
    assert list(cache.broken()) == []


def test_a_damaged_key_is_replaced(place):
    cache = open_cache(place)
    cache.put(ONE, 1)
    fs, root = cache._open()
    fs.pipe_file(f"{root}/key", b"rubbish")
    other = open_cache(place)
    with pytest.warns(CacheWarning):
        assert other.get(ONE) is MISS
    other.put(ONE, 2)
    assert cache.get(ONE) == 2


def test_a_shared_key_is_not_written(place):
    cache = open_cache(place, key="secret")
    cache.put(ONE, 1)
    fs, root = cache._open()
    assert not fs.exists(f"{root}/key")
    assert open_cache(place, key="secret").get(ONE) == 1
    with pytest.warns(CacheWarning):
        assert open_cache(place, key="guess").get(ONE) is MISS
    assert "secret" not in repr(cache)


def test_a_process_without_the_shared_key_replaces_nothing(place):
    open_cache(place, key="secret").put(ONE, 1)
    stranger = open_cache(place)
    with pytest.warns(CacheWarning, match="HYPERNODES_CACHE_KEY"):
        stranger.put(ONE, 2)
    assert stranger.get(ONE) is MISS
    for cache in (stranger, open_cache(place, key="guess")):
        with pytest.raises(CacheError, match="HYPERNODES_CACHE_KEY"):
            list(cache.broken())
    fs, root = stranger._open()
    assert not fs.exists(f"{root}/key")
    shared = open_cache(place, key="secret")
    assert shared.get(ONE) == 1
    assert list(shared.broken()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_on_this_machine_all_is_private(tmp_path, scheme):
    before = os.umask(0o022)
    try:
        FsspecCache(f"{scheme}{tmp_path}/cache").put(ONE, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(tmp_path, "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(tmp_path, "cache", "key").stat().st_mode) == 0o600


def test_entries_grow_too_old(place):
    cache = open_cache(place)
    cache.put(ONE, 1)
    assert open_cache(place, ttl=1000).has(ONE)
    impatient = open_cache(place, ttl=1e-9)
    assert impatient.get(ONE) is MISS
    assert not impatient.has(ONE)


def test_records_are_found_by_others(place):
    open_cache(place).note([EntryRecord("a", ONE, {"x": "1"}), EntryRecord("b", THREE, {})])
    open_cache(place).note([EntryRecord("a", TWO, {"x": "2"})])
    other = open_cache(place)
    assert [record.signature for record in other.records("a")] == [TWO, ONE]
    assert other.nearest("a", {"x": "1"}).signature == ONE
    assert other.nodes() == {ONE: "a", TWO: "a", THREE: "b"}


def test_threads_may_use_one_cache(place):
    cache = open_cache(place)
    wrong = []

    def use(number):
        signature = f"{number % 3:064x}"
        cache.put(signature, [number % 3] * 100)
        if cache.get(signature) != [number % 3] * 100:
            wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_pickled_cache_is_the_same_cache(place):
    cache = open_cache(place, ttl=100, key="secret")
    cache.put(ONE, 1)
    assert pickle.loads(pickle.dumps(cache)).get(ONE) == 1


def test_entries_are_written_aside_where_writing_takes_time(tmp_path, monkeypatch):
    cache = FsspecCache(f"file://{tmp_path}/cache")
    cache.put(ONE, 1)
    fs, _ = cache._open()

    def stopped(path, content):
        Path(path).write_bytes(content[:20])
        raise OSError("no space")

    monkeypatch.setattr(type(fs), "pipe_file", lambda _, path, content: stopped(path, content))
    with pytest.warns(CacheWarning, match="no space"):
        cache.put(ONE, 2)
    assert cache.get(ONE) == 1
    assert list(Path(tmp_path, "cache", "drafts").iterdir()) == []


def test_a_store_that_cannot_be_reached_costs_a_warning(place, monkeypatch):
    cache = open_cache(place)

    def refuse(*_, **__):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.warns(CacheWarning, match="nobody there") as told:
        assert cache.get(ONE) is MISS
        cache.put(ONE, 1)
        assert not cache.has(ONE)
        cache.delete(ONE)
        cache.clear()
        cache.note([EntryRecord("a", ONE, {})])
        assert cache.records("a") == []
        assert cache.stats().items == 0
    assert len(told) == 1


def test_without_fsspec_the_error_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "fsspec":
            raise ModuleNotFoundError("No module named 'fsspec'", name="fsspec")
        return real(name, *rest)

    monkeypatch.setattr("hypernodes._extras.import_module", missing)
    spec = CacheSpec(kind="fsspec", path="memory://x")
    with pytest.raises(MissingDependencyError, match=r'pip install "hypernodes\[fsspec\]"') as info:
        spec.create()
    assert info.value.extra == "fsspec"


def test_a_kind_of_url_without_its_package_is_a_missing_dependency(monkeypatch):
    def missing(protocol):
        raise ImportError(f"install {protocol}fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingDependencyError, match="install s3fs"):
        FsspecCache("s3://bucket")


@pytest.mark.parametrize(
    ("path", "arguments"),
    [("nonsense://x", {}), ("memory://x", {"ttl": 0}), ("memory://x", {"key": ""})],
)
def test_wrong_arguments_are_refused(path, arguments):
    with pytest.raises(CacheError):
        FsspecCache(path, **arguments)


def test_nothing_is_imported_or_opened_before_it_is_needed(run_script):
    run_script(
        """
import sys
from hypernodes import CacheSpec
spec = CacheSpec(kind="fsspec", path="memory://x")
assert "fsspec" not in sys.modules
spec.create()
assert "fsspec" in sys.modules
"""
    )


def test_times_are_read_in_every_way_that_file_systems_tell_them():
    assert room._time_of({"mtime": 3}) == 3.0
    assert room._time_of({"created": "yesterday"}) is None
    assert room._time_of({"updated": 2.5}) == 2.5
