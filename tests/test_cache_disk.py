"""`DiskCache`: whole or a miss, whatever happens to its files; private; within its bounds."""

import errno
import gc
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from hypernodes import (
    MISS,
    CacheError,
    CacheWarning,
    DiskCache,
    MemoryCache,
    Pipeline,
    RuntimeConfig,
    node,
)
from hypernodes.cache import EntryRecord
from hypernodes.cache._checksum import Checksum
from hypernodes.cache._files import is_local
from hypernodes.cache._trouble import warn_once_each

SIGNATURES = [f"{number:x}" * 64 for number in range(16)]
ONE, TWO = SIGNATURES[10:12]
ARRAY = np.arange(500_000.0)
VALUES = {"small": [1, "two"], "text": "x" * 300_000, "array": ARRAY}

linux = pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache")


def again(cache):
    """Return what another process would have."""
    return pickle.loads(pickle.dumps(cache))


def entry_of(cache, signature):
    return Path(cache.path, signature[0], signature[1:])


def is_same(found, value):
    return np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


# --- What happens to files ------------------------------------------------------------------------


class Bomb:
    """Whoever unpickles it leaves a trace."""

    trace = ""

    def __reduce__(self):
        return os.mkdir, (Bomb.trace,)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_the_head(path):
    path.write_bytes(path.read_bytes()[:40])


def emptied(path):
    path.write_bytes(b"")


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def lengthened(path):
    path.write_bytes(path.read_bytes() + b"\0")


def replaced_by_text(path):
    path.write_text("something else")


def replaced_by_a_bomb(path):
    path.unlink()
    path.write_bytes(pickle.dumps(Bomb()))


def bomb_behind_the_head(path):
    content = path.read_bytes()
    path.write_bytes(content[:88] + pickle.dumps(Bomb()))


def replaced_by_a_directory(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("text")


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_dangling_loop(path):
    path.unlink()
    path.symlink_to(path)


DAMAGES = [
    truncated,
    halved,
    cut_to_the_head,
    emptied,
    zeroed,
    lengthened,
    replaced_by_text,
    replaced_by_a_bomb,
    bomb_behind_the_head,
    replaced_by_a_directory,
    pytest.param(replaced_by_a_pipe, marks=posix),
    pytest.param(replaced_by_a_dangling_loop, marks=posix),
]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_a_miss_with_a_warning_and_is_replaced(cache, damage, value):
    Bomb.trace = f"{cache.path}-exploded"
    cache.put(ONE, value)
    cache.put(TWO, "unharmed")
    damage(entry_of(cache, ONE))
    with pytest.warns(CacheWarning, match="cache at") as told:
        assert cache.get(ONE) is MISS
        assert cache.get(ONE) is MISS
    assert len(told) == 1
    assert not Path(Bomb.trace).exists()
    assert cache.get(TWO) == "unharmed"
    cache.put(ONE, value)
    assert is_same(cache.get(ONE), value)


@pytest.mark.parametrize("size", [1, 100_000])
def test_no_bit_can_be_flipped_unnoticed(cache, size):
    cache.put(ONE, np.full(size, 7, "int8"))
    path = entry_of(cache, ONE)
    content = path.read_bytes()
    sealed_facts = range(100)
    elsewhere = range(100, len(content), max(1, len(content) // 50))
    for place in [*sealed_facts, *elsewhere, len(content) - 1]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.warns(CacheWarning):
            assert again(cache).get(ONE) is MISS


def test_an_entry_is_bound_to_its_signature(cache):
    cache.put(ONE, "one")
    cache.put(TWO, "two")
    first, second = entry_of(cache, ONE), entry_of(cache, TWO)
    one = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(one)
    with pytest.warns(CacheWarning):
        assert cache.get_many([ONE, TWO]) == {}


def test_an_entry_of_another_cache_is_not_trusted(cache, tmp_path):
    other = DiskCache(tmp_path / "other")
    cache.put(ONE, 1)
    other.put(ONE, "forged")
    shutil.copy(entry_of(other, ONE), entry_of(cache, ONE))
    with pytest.warns(CacheWarning):
        assert cache.get(ONE) is MISS


def test_a_value_whose_class_is_gone_is_a_miss(cache, run_script):
    script = f"""
from hypernodes import DiskCache
class Gone: pass
Gone.__module__ = "gone_module"
import sys, types
sys.modules["gone_module"] = types.ModuleType("gone_module")
sys.modules["gone_module"].Gone = Gone
DiskCache({cache.path!r}).put({ONE!r}, Gone())
"""
    run_script(script)
    with pytest.warns(CacheWarning, match="cannot be loaded"):
        assert cache.get(ONE) is MISS


def refuse():
    raise TypeError("not again")


class Grumpy:
    """Pickles, and cannot be brought back."""

    def __reduce__(self):
        return refuse, ()


def test_a_value_that_cannot_be_brought_back_is_a_miss(cache):
    cache.put(ONE, Grumpy())
    with pytest.warns(CacheWarning, match="cannot be loaded"):
        assert cache.get(ONE) is MISS


def test_everything_removed_is_all_misses_and_no_trouble(cache):
    cache.put(ONE, 1)
    shutil.rmtree(cache.path)
    assert cache.get(ONE) is MISS
    cache.put(ONE, 2)
    assert cache.get(ONE) == 2
    assert again(cache).get(ONE) == 2


def test_warnings_come_once_for_each_run(cache):
    cache.put(ONE, 1)
    emptied(entry_of(cache, ONE))
    for _ in range(2):
        with pytest.warns(CacheWarning) as told, warn_once_each():
            cache.get(ONE)
            with warn_once_each():
                cache.get(ONE)
        assert len(told) == 1
    with pytest.warns(CacheWarning) as told:
        cache.get(ONE)
        cache.get(ONE)
    assert len(told) == 1


def test_files_that_are_not_entries_do_no_harm(cache):
    cache.put(ONE, 1)
    for name in ("usage", "counts", "hypernodes-drafts/left", "notes/left", f"{ONE[0]}/left"):
        path = Path(cache.path, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(1000))
    other = again(cache)
    other.put(TWO, 2)
    other.note([EntryRecord("a", ONE, {})])
    assert other.get_many([ONE, TWO]) == {ONE: 1, TWO: 2}
    assert other.stats().items == 2
    assert len(other.records("a")) == 1


def test_damaged_notes_are_left_out(cache):
    cache.note([EntryRecord("a", ONE, {"x": "1"}), EntryRecord("a", TWO, {"x": "2"})])
    (path,) = Path(cache.path, "notes").iterdir()
    first, second = path.read_bytes().splitlines()
    rubbish = [b"[1]", b'["a","s",{"x":1},2]', b'["a","s",[],2]', b"\xff", first[:20]]
    path.write_bytes(b"\n".join([first, *rubbish, second]) + b"\n")
    assert [record.signature for record in cache.records("a")] == [TWO, ONE]


# --- Mapped arrays --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="file systems are told apart on Linux only")
def test_large_arrays_are_mapped_and_small_ones_are_not(cache):
    if not is_local(str(Path(cache.path).parent)):
        # Files are mapped on file systems of the machine itself only; CI's are.
        pytest.skip("the temporary directory is on no local file system")
    cache.put(ONE, ARRAY)
    cache.put(TWO, ARRAY[:1000])
    found, small = cache.get(ONE), cache.get(TWO)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(entry_of(cache, ONE)) in maps
    assert str(entry_of(cache, TWO)) not in maps
    assert found.flags.aligned
    assert small.sum() == ARRAY[:1000].sum()


@pytest.mark.parametrize("change", ["replace", "delete", "clear", "evict"])
def test_a_mapped_array_outlives_its_entry(tmp_path, change):
    cache = DiskCache(tmp_path / "cache", max_bytes=6_000_000)
    cache.put(ONE, ARRAY)
    found = cache.get(ONE)
    if change == "replace":
        cache.put(ONE, ARRAY + 1)
    elif change == "delete":
        cache.delete(ONE)
    elif change == "clear":
        cache.clear()
    else:
        cache.put(TWO, ARRAY + 1)
        assert not cache.has(ONE)
    gc.collect()
    assert np.array_equal(found, ARRAY)
    found[:] = 0
    assert found.sum() == 0


def test_on_other_file_systems_arrays_are_read(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache.disk.is_local", lambda _: False)
    cache.put(ONE, ARRAY)
    found = again(cache).get(ONE)
    found[0] = 7
    assert cache.get(ONE)[0] == 0
    assert str(entry_of(cache, ONE)) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_what_is_unpickled_is_what_was_verified(cache, tmp_path, monkeypatch):
    Bomb.trace = str(tmp_path / "trace")
    cache.put(ONE, [bytes(400_000)])
    evil, head = pickle.dumps(Bomb(), protocol=5), 4 + 32 + 32 + 20
    large = Checksum.large

    def verified_and_then_changed(self, name, pieces):
        digest = large(self, name, pieces)
        with entry_of(cache, ONE).open("r+b") as file:
            file.seek(head)
            file.write(evil)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(Checksum, "large", verified_and_then_changed)
        assert cache.get(ONE) == [bytes(400_000)]
    assert not Path(Bomb.trace).exists()
    with pytest.warns(CacheWarning, match="damaged"):
        assert cache.get(ONE) is MISS


@linux
@pytest.mark.parametrize(("place", "mode"), [("entry", 0o620), ("entry", 0o602), ("", 0o770)])
def test_what_others_can_write_to_is_not_mapped(cache, place, mode):
    cache.put(ONE, ARRAY)
    (entry_of(cache, ONE) if place else Path(cache.path)).chmod(mode)
    found = again(cache).get(ONE)
    assert str(entry_of(cache, ONE)) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    with entry_of(cache, ONE).open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))
    assert np.array_equal(found, ARRAY)


@linux
@as_root
def test_what_another_user_owns_is_not_mapped(cache):
    cache.put(ONE, ARRAY)
    os.chown(entry_of(cache, ONE), 12345, -1)
    assert np.array_equal(found := again(cache).get(ONE), ARRAY)
    assert found.flags.writeable
    assert str(entry_of(cache, ONE)) not in Path("/proc/self/maps").read_text(encoding="utf-8")


class Exits:
    """Whoever unpickles it ends the program."""

    def __reduce__(self):
        return sys.exit, (4,)


def test_a_value_that_ends_the_program_when_it_is_loaded_is_damaged(cache):
    cache.put(ONE, Exits())
    with pytest.warns(CacheWarning, match=r"damaged .* SystemExit\(4\)"):
        assert cache.get(ONE) is MISS


@pytest.mark.parametrize("cache", [MemoryCache, DiskCache])
def test_a_run_survives_values_that_end_the_program(cache, tmp_path):
    cache = cache() if cache is MemoryCache else cache(tmp_path)
    pipeline = Pipeline([node("y")(lambda x: Exits())])
    config = RuntimeConfig(executor="sequential", cache=cache)
    pipeline.run({"x": 1}, config=config)
    with pytest.warns(CacheWarning, match=r"SystemExit\(4\)"):
        assert isinstance(pipeline.run({"x": 1}, config=config)["y"], Exits)


def test_what_is_too_large_or_cannot_be_written_leaves_nothing_that_was_there(
    tmp_path, monkeypatch
):
    cache = DiskCache(tmp_path, max_bytes=10_000)
    cache.put(ONE, 1)
    cache.put(ONE, bytes(20_000))
    assert cache.get(ONE) is MISS
    cache.put(ONE, 1)
    cache.put(TWO, 2)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.warns(CacheWarning, match="No space"):
        patch.setattr(os, "write", full)
        cache.put(ONE, 3)
    assert cache.get_many([ONE, TWO]) == {TWO: 2}


@pytest.mark.parametrize("ttl", [1e12, 1e300])
def test_entries_may_last_for_ages(tmp_path, ttl, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._sweep._ROUND", 1)
    cache = DiskCache(tmp_path, ttl=ttl)
    cache.put_many({name: name for name in SIGNATURES})
    cache.put_many({name: name for name in SIGNATURES})
    assert cache.get_many(SIGNATURES) == {name: name for name in SIGNATURES}


# --- Directories of others ------------------------------------------------------------------------

DIARIES = {
    "a": "a/letter.txt",
    "notes": "notes/diary.txt",
    "key": "key",
    "counts": "counts",
    "usage": "usage",
}


def files_below(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", DIARIES)
def test_a_directory_that_holds_something_else_is_not_used(tmp_path, name):
    file = Path(tmp_path, DIARIES[name])
    file.parent.mkdir(exist_ok=True)
    file.write_text("precious")
    cache = DiskCache(tmp_path)
    with pytest.warns(CacheWarning, match=f"holds '{name}', which no cache has made"):
        cache.put(ONE, 1)
    assert cache.get(ONE) is MISS
    cache.note([EntryRecord("a", ONE, {})])
    cache.clear()
    del cache
    gc.collect()
    assert files_below(tmp_path) == {file: b"precious"}


def test_what_a_cache_has_not_made_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._sweep._ROUND", 1)
    cache = DiskCache(tmp_path, max_bytes=100_000, ttl=10_000)
    cache.put(ONE, 1)
    shelf = Path(tmp_path, "hypernodes-drafts")
    theirs = [
        shelf / "novel.txt",
        shelf / "book" / "1",
        shelf / "1-0123456789ab" / "novel",
        tmp_path / "drafts" / "book" / "1",
        tmp_path / "notes" / "diary",
        *(tmp_path / shard / "letter" for shard in "0123456789abcdef"),
    ]
    long_ago = time.time() - 100_000
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"precious")
        for path in (file, file.parent):
            os.utime(path, (long_ago, long_ago))
    for number in range(300):
        cache.put(f"{number:064x}"[::-1], bytes(1000))
    cache.note([EntryRecord("a", ONE, {})])
    cache.clear()
    assert cache.stats().items == 0
    assert cache.records("a") == []
    assert all(file.read_bytes() == b"precious" for file in theirs)


def test_a_copy_without_empty_directories_is_a_cache(cache, tmp_path):
    cache.put(ONE, 1)
    cache.note([EntryRecord("a", ONE, {})])
    cache.saved_counts()
    path = shutil.copytree(cache.path, tmp_path / "copy")
    shutil.rmtree(path / "hypernodes-drafts")
    assert DiskCache(path).get(ONE) == 1


@posix
def test_a_directory_that_is_removed_is_made_anew_and_private(cache):
    before = os.umask(0o022)
    try:
        cache.put(ONE, 1)
        shutil.rmtree(cache.path)
        cache.put(TWO, 2)
        assert mode_of(Path(cache.path)) == 0o700
        shutil.rmtree(cache.path)
        cache.note([EntryRecord("a", ONE, {})])
        assert mode_of(Path(cache.path)) == 0o700
        assert len(cache.records("a")) == 1
    finally:
        os.umask(before)


# --- Keys and privacy -----------------------------------------------------------------------------


@posix
def test_directory_and_files_are_private(cache):
    before = os.umask(0)
    try:
        cache.put(ONE, 1)
        cache.note([EntryRecord("a", ONE, {})])
        cache.saved_counts()
    finally:
        os.umask(before)
    assert mode_of(Path(cache.path)) == 0o700
    assert mode_of(Path(cache.path, "key")) == 0o600
    for path in Path(cache.path).rglob("*"):
        assert mode_of(path) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_made_before_something_is_stored(cache):
    assert cache.get(ONE) is MISS
    assert not cache.has(ONE)
    cache.delete(ONE)
    cache.clear()
    assert cache.stats().items == 0
    assert cache.records("a") == []
    assert not Path(cache.path).exists()


@pytest.mark.parametrize("damage", [emptied, halved, lengthened, replaced_by_text, Path.unlink])
def test_a_damaged_key_is_replaced_and_all_entries_are_misses(cache, damage):
    cache.put(ONE, 1)
    key = Path(cache.path, "key")
    damage(key)
    other = again(cache)
    with pytest.warns(CacheWarning):
        assert other.get(ONE) is MISS
    other.put(ONE, 2)
    assert other.get(ONE) == 2
    assert len(key.read_bytes()) == 64
    if os.name == "posix":
        assert mode_of(key) == 0o600
    assert cache.get(ONE) == 2  # the one that had the old key takes the new one


def test_another_key_makes_all_entries_misses(cache):
    cache.put(ONE, 1)
    Path(cache.path, "key").write_text("0" * 64)
    with pytest.warns(CacheWarning):
        assert again(cache).get(ONE) is MISS


@posix
def test_a_key_that_others_can_read_is_made_private(cache):
    cache.put(ONE, 1)
    key = Path(cache.path, "key")
    key.chmod(0o644)
    assert again(cache).get(ONE) == 1
    assert mode_of(key) == 0o600


@as_root
def test_the_key_of_another_user_is_not_trusted(cache):
    cache.put(ONE, 1)
    os.chown(Path(cache.path, "key"), 12345, -1)
    other = again(cache)
    with pytest.warns(CacheWarning, match="another user"):
        assert other.get(ONE) is MISS
    other.put(TWO, 2)
    assert not other.has(TWO)


def test_a_shared_key_is_not_written(tmp_path):
    cache = DiskCache(tmp_path / "cache", key="secret")
    cache.put(ONE, 1)
    assert not Path(cache.path, "key").exists()
    assert DiskCache(cache.path, key=b"secret").get(ONE) == 1
    with pytest.warns(CacheWarning):
        assert DiskCache(cache.path, key="guess").get(ONE) is MISS


def test_a_process_without_the_shared_key_replaces_nothing(tmp_path):
    DiskCache(tmp_path, key="secret").put(ONE, 1)
    stranger = DiskCache(tmp_path)
    with pytest.warns(CacheWarning, match="HYPERNODES_CACHE_KEY"):
        stranger.put(ONE, 2)
    assert stranger.get(ONE) is MISS
    stranger.note([EntryRecord("a", ONE, {})])
    for cache in (stranger, DiskCache(tmp_path, key="guess")):
        with pytest.raises(CacheError, match="HYPERNODES_CACHE_KEY"):
            list(cache.broken())
    assert not Path(tmp_path, "key").exists()
    assert DiskCache(tmp_path, key="secret").get(ONE) == 1


@posix
@pytest.mark.parametrize("kind", ["directory", "dangling", "loop", "pipe"])
def test_whatever_lies_in_the_place_of_the_key_is_replaced(cache, kind):
    cache.put(ONE, 1)
    key = Path(cache.path, "key")
    key.unlink()
    if kind == "directory":
        key.mkdir()
    elif kind == "pipe":
        os.mkfifo(key)
    else:
        key.symlink_to("key" if kind == "loop" else "nowhere")
    other = again(cache)
    with pytest.warns(CacheWarning, match="damaged"):
        assert other.get(ONE) is MISS
    other.put(ONE, 2)
    assert again(cache).get(ONE) == 2


def test_a_directory_of_others_in_the_place_of_the_key_stays(cache):
    cache.put(ONE, 1)
    key = Path(cache.path, "key")
    key.unlink()
    key.mkdir()
    (key / "precious").touch()
    with pytest.warns(CacheWarning, match="key"):
        again(cache).put(ONE, 2)
    assert (key / "precious").exists()


@posix
def test_who_shares_a_key_shares_what_the_directory_lets_them(tmp_path):
    tmp_path.chmod(0o2770)
    before = os.umask(0o027)
    try:
        cache = DiskCache(tmp_path, key="secret")
        cache.put_many({ONE: 1, TWO: ARRAY})
        cache.note([EntryRecord("a", ONE, {})])
        cache.get(ONE)
        cache.saved_counts()
    finally:
        os.umask(before)
    rooms = [tmp_path / name for name in ("notes", "hypernodes-drafts", ONE[0])]
    written = [tmp_path / "counts", tmp_path / "usage", *Path(tmp_path, "notes").iterdir()]
    assert [stat.S_IMODE(room.stat().st_mode) & 0o777 for room in rooms] == [0o770] * 3
    assert [mode_of(file) for file in written] == [0o660] * 3
    assert [mode_of(entry_of(cache, name)) for name in (ONE, TWO)] == [0o640] * 2


@as_root
def test_two_users_share_a_directory(run_script):
    script = """
import os, tempfile
from hypernodes import DiskCache
from hypernodes.cache import EntryRecord
path = tempfile.mkdtemp()
os.chmod(path, 0o777)
DiskCache(path, key="k").put("a" * 64, 1)
child = os.fork()
if not child:
    os.setgid(65534)
    os.setuid(65534)
    cache = DiskCache(path, key="k")
    assert cache.get("a" * 64) == 1
    cache.put_many({"a" * 64: 2, "b" * 64: 3})
    cache.note([EntryRecord("a", "a" * 64, {})])
    cache.saved_counts()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert DiskCache(path, key="k").get_many(("a" * 64, "b" * 64)) == {"a" * 64: 2, "b" * 64: 3}
DiskCache(path, key="k").clear()
"""
    run_script(script)


def test_the_key_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERNODES_CACHE_KEY", "secret")
    cache = DiskCache(tmp_path / "cache")
    cache.put(ONE, 1)
    monkeypatch.setenv("HYPERNODES_CACHE_KEY", "other")
    assert DiskCache(cache.path, key="secret").get(ONE) == 1
    with pytest.warns(CacheWarning):
        assert again(cache).get(ONE) is MISS


def test_the_key_does_not_show(tmp_path):
    assert "secret" not in repr(DiskCache(tmp_path, key="secret"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_bytes": 0},
        {"max_bytes": "1"},
        {"ttl": -1},
        {"ttl": True},
        {"ttl": float("inf")},
        {"max_bytes": float("nan")},
        {"key": ""},
        {"key": 5},
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(CacheError, match=next(iter(arguments))):
        DiskCache(tmp_path, **arguments)


def test_a_pickled_cache_is_the_same_cache(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=10**6, ttl=100, key="secret")
    cache.put(ONE, 1)
    copy = again(cache)
    assert (copy.path, copy.max_bytes, copy.ttl) == (cache.path, cache.max_bytes, cache.ttl)
    assert copy.get(ONE) == 1


# --- Trouble --------------------------------------------------------------------------------------


LIMITED = """
import resource, warnings
import numpy as np
from hypernodes import MISS, CacheWarning, DiskCache
cache = DiskCache("cache")
cache.put("a" * 64, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    cache.put("b" * 64, np.zeros(100_000))
    cache.put("c" * 64, np.zeros(100_000))
    cache.put("d" * 64, "small")
assert [each.category for each in told] == [CacheWarning], told
assert "cannot be written" in str(told[0].message)
assert cache.get_many(["a" * 64, "b" * 64, "d" * 64]) == {"a" * 64: 1, "d" * 64: "small"}
import os
assert [names for _, _, names in os.walk("cache/hypernodes-drafts") if names] == []
"""


@posix
def test_a_write_that_stops_in_the_middle_leaves_nothing_behind(run_script):
    run_script(LIMITED)


FULL_DISK = """
import warnings
from hypernodes import MISS, CacheWarning, DiskCache
cache = DiskCache("disk/cache")
cache.put("a" * 64, "kept")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for number in range(40):
        cache.put(f"{number:064x}", bytes(100_000))
assert [each.category for each in told] == [CacheWarning], told
assert "No space left" in str(told[0].message)
found = cache.get_many(f"{number:064x}" for number in range(40))
assert 0 < len(found) < 40
assert set(found.values()) == {bytes(100_000)}
assert cache.get("a" * 64) == "kept"
cache.clear()
cache.put("b" * 64, bytes(100_000))
assert cache.has("b" * 64)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_costs_a_warning(tmp_path, run_script):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        # A container may forbid it, even to root; a disk cannot be filled otherwise.
        pytest.skip("nothing can be mounted here")
    try:
        run_script(FULL_DISK)
    finally:
        subprocess.run([shutil.which("umount"), disk], check=True)


READ_ONLY = """
import os, sys, warnings
from hypernodes import MISS, CacheWarning, DiskCache
from hypernodes.cache import EntryRecord
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
path, key = sys.stdin.read().split()
cache = DiskCache(path, key=key)
assert cache.get("a" * 64) == 1
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    cache.put("a" * 64, 2)
    cache.put("b" * 64, 2)
    cache.delete("a" * 64)
    cache.note([EntryRecord("a", "b", {})])
    cache.clear()
    cache.saved_counts()
assert [each.category for each in told] == [CacheWarning], told
assert cache.get("a" * 64) == 1
assert cache.get("b" * 64) is MISS
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    closed = DiskCache(path + "/closed", key=key)
    assert closed.get("a" * 64) is MISS
    assert not closed.has("a" * 64)
    closed.put("a" * 64, 2)
    assert closed.stats().items == 0
assert [each.category for each in told] == [CacheWarning], told
"""


@posix
def test_directories_that_cannot_be_written_or_read_cost_a_warning():
    with tempfile.TemporaryDirectory() as outside:  # where somebody else than root can go
        Path(outside).chmod(0o755)
        room = Path(outside, "cache")
        DiskCache(room, key="shared").put("a" * 64, 1)
        (room / "closed").mkdir()
        for path in [*room.rglob("*"), room]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        (room / "closed").chmod(0o000)
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", READ_ONLY],
            input=f"{room} shared",
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        for path in [room, *room.rglob("*")]:
            path.chmod(0o755)
    assert result.returncode == 0, result.stderr


def test_a_path_that_cannot_be_a_directory_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("text")
    cache = DiskCache(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning) as told:
        cache.put(ONE, 1)
        assert cache.get(ONE) is MISS
        cache.note([EntryRecord("a", ONE, {})])
        assert cache.stats().items == 0
    assert len(told) == 1


# --- Bounds ---------------------------------------------------------------------------------------


def held(cache):
    return [number for number, signature in enumerate(SIGNATURES) if cache.has(signature)]


def entry_size(tmp_path, value):
    cache = DiskCache(tmp_path / "sizes")
    cache.put(ONE, value)
    return cache.stats().bytes


def test_the_oldest_goes_first(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=3 * entry_size(tmp_path, 0))
    for signature in SIGNATURES[:6]:
        cache.put(signature, 0)
    assert held(cache) == [3, 4, 5]
    assert cache.stats().bytes <= cache.max_bytes


def test_what_was_found_lately_stays(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=3 * entry_size(tmp_path, 0))
    for signature in SIGNATURES[:3]:
        cache.put(signature, 0)
    cache.get(SIGNATURES[0])
    cache.put(SIGNATURES[3], 0)
    assert held(cache) == [0, 2, 3]


def test_bytes_stay_within_the_bound_at_every_moment(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=100_000)
    for number in range(300):
        cache.put(f"{number * 7919:064x}", bytes(10 * (number % 200)))
        assert cache.stats().bytes <= 100_000
    assert cache.stats().bytes > 50_000


def test_what_is_larger_than_the_cache_is_not_kept_and_pushes_nothing_out(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=10_000)
    cache.put(ONE, 1)
    cache.put(TWO, bytes(20_000))
    assert cache.has(ONE)
    assert not cache.has(TWO)


def test_the_bound_holds_for_what_others_stored_before(tmp_path):
    DiskCache(tmp_path / "cache").put_many({s: bytes(1000) for s in SIGNATURES})
    cache = DiskCache(tmp_path / "cache", max_bytes=5_000)
    cache.put("f0" * 32, bytes(1000))
    assert cache.stats().bytes <= 5_000
    assert cache.has("f0" * 32)


def test_one_entry_stored_again_and_again_takes_its_space_once(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=10_000)
    cache.put(TWO, bytes(1000))
    for _ in range(50):
        cache.put(ONE, bytes(1000))
    assert cache.has(TWO)


@pytest.mark.parametrize("content", [b"", b"\xff" * 384, b"\0" * 384, b"\x7f" * 100])
def test_a_damaged_count_is_put_right_before_anything_goes(tmp_path, content):
    cache = DiskCache(tmp_path / "cache", max_bytes=20_000)
    for signature in SIGNATURES[:10]:
        cache.put(signature, bytes(1000))
    Path(cache.path, "usage").write_bytes(content)
    other = again(cache)
    other.put(SIGNATURES[10], bytes(1000))
    assert held(other) == [*range(11)]
    for number in range(300):
        other.put(f"{number * 7919:064x}", bytes(1000))
    assert other.stats().bytes <= 20_000


def test_entries_grow_too_old(tmp_path):
    cache = DiskCache(tmp_path / "cache", ttl=1000)
    cache.put(ONE, 1)
    assert cache.has(ONE)
    assert cache.get(ONE) == 1
    impatient = DiskCache(tmp_path / "cache", ttl=1e-9)
    assert impatient.get(ONE) is MISS
    assert not impatient.has(ONE)
    assert impatient.stats().items == 0
    assert cache.get(ONE) == 1


def test_what_is_too_old_is_removed_as_others_are_stored(tmp_path):
    old = DiskCache(tmp_path / "cache")
    for number in range(200):
        old.put(f"{number * 7919:064x}"[::-1], 1)
    cache = DiskCache(tmp_path / "cache", ttl=60)
    long_ago = time.time() - 100
    for path in Path(cache.path).glob("?/*"):
        os.utime(path, (long_ago, long_ago))
    for number in range(16 * 256 + 256):
        cache.put(ONE, number)
    assert [path.name for path in Path(cache.path).glob("?/*")] == [ONE[1:]]


def test_what_killed_writers_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._sweep._ROUND", 1)
    cache = DiskCache(tmp_path / "cache")
    cache.put(ONE, 1)
    left = Path(cache.path, "hypernodes-drafts", "1-0123456789ab")
    busy = Path(cache.path, "hypernodes-drafts", "2-0123456789ab")
    for directory in (left, busy):
        directory.mkdir()
        (directory / "7").write_bytes(b"half an ent")
    long_ago = time.time() - 100_000
    os.utime(left, (long_ago, long_ago))
    for number in range(5):
        cache.put(ONE, number)
    assert not left.exists()
    assert (busy / "7").exists()


def test_a_writer_takes_a_new_directory_now_and_then_and_keeps_few(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._files._TURNOVER", 3)
    for number in range(50):
        cache.put(f"{number:064x}", number)
    assert len(list(Path(cache.path, "hypernodes-drafts").iterdir())) <= 4
    assert cache.stats().items == 50


def test_threads_may_exchange_a_writers_directory_at_any_moment(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._files._TURNOVER", 2)
    threads = [
        threading.Thread(target=cache.put_many, args=({f"{n:063x}{t}": n for n in range(200)},))
        for t in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().items == 1000


def test_a_forked_child_writes_in_a_directory_of_its_own(cache, run_script):
    run_script(
        f"""
import os, sys
from hypernodes import DiskCache
cache = DiskCache({cache.path!r})
cache.put("a" * 64, 1)
child = os.fork()
if not child:
    cache.put("b" * 64, 2)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
cache.put("c" * 64, 3)
assert len(cache.get_many(letter * 64 for letter in "abc")) == 3
assert len(os.listdir(os.path.join(cache.path, "hypernodes-drafts"))) == 2
"""
    )


def test_a_writer_whose_directory_was_removed_takes_another(cache):
    cache.put(ONE, 1)
    shutil.rmtree(Path(cache.path, "hypernodes-drafts"))
    cache.put(TWO, 2)
    assert cache.get_many([ONE, TWO]) == {ONE: 1, TWO: 2}


def test_readers_are_not_disturbed_by_eviction(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=8_000_000)
    wrong, stop = [], threading.Event()

    def look():
        reader = again(cache)
        with warnings.catch_warnings(record=True) as told:
            while not stop.is_set():
                for number, signature in enumerate(SIGNATURES):
                    found = reader.get(signature)
                    if found is not MISS and not (found == number).all():
                        wrong.append(number)
        wrong.extend(told)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(10):
        for number, signature in enumerate(SIGNATURES):
            cache.put(signature, np.full(100_000, number, "float64"))
    stop.set()
    thread.join()
    assert wrong == []
    assert cache.stats().bytes <= 8_000_000


def fill(path, count):
    """Make entries of a hundred bytes, 25 to a file; they look like entries to who removes them."""
    for shard in "0123456789abcdef":
        Path(path, shard).mkdir()
    rest = bytes(32) + struct.pack("<dQI", 0.0, 12, 0) + bytes(12)
    for start in range(0, count, 25):
        names = [f"{number % 16:x}{number:063x}" for number in range(start, start + 25)]
        places = [f"{path}/{name[0]}/{name[1:]}" for name in names]
        content = b"".join(b"hn2\n" + bytes.fromhex(name) + rest for name in names)
        Path(places[0]).write_bytes(content)
        for place in places[1:]:
            os.link(places[0], place)


def listings(monkeypatch, path, count):
    """Return how many entries are listed while 2,000 are stored in a full cache of `count`."""
    path.mkdir()
    fill(path, count)
    from hypernodes.cache import _sweep

    seen = [0]
    original = _sweep.listed

    def counted(shard):
        for entry in original(shard):
            seen[0] += 1
            yield entry

    cache = DiskCache(path, max_bytes=count * 100)
    cache.put(ONE, 1)  # which counts what is there, once
    with monkeypatch.context() as patch:
        patch.setattr(_sweep, "listed", counted)
        before = cache.stats().items
        for number in range(count // 4):
            cache.put(f"{number % 16:x}{number:062x}e", 1)
    after = cache.stats()
    assert after.bytes <= cache.max_bytes
    assert after.items > before * 0.7
    shutil.rmtree(path)
    return seen[0] / (count // 4)


def test_eviction_costs_the_same_however_many_entries_there_are(monkeypatch, tmp_path):
    few, many = (listings(monkeypatch, tmp_path / str(n), n) for n in (2_000, 40_000))
    assert many < 2 * few + 10


@pytest.mark.slow
def test_a_million_entries_are_kept_within_bounds(tmp_path):
    path = tmp_path / "cache"
    path.mkdir()
    fill(path, 1_000_000)
    cache = DiskCache(path, max_bytes=100_000_000)
    for number in range(3_000):
        cache.put(f"{number % 16:x}{number:062x}e", "new")
    found = cache.stats()
    assert found.bytes <= 100_000_000
    assert found.items > 850_000
    newest = [f"{number % 16:x}{number:062x}e" for number in range(2_900, 3_000)]
    assert len(cache.get_many(newest)) == 100


# --- Counts ---------------------------------------------------------------------------------------


def test_hits_are_counted_over_processes_and_for_each_entry(cache, run_script):
    cache.put_many({ONE: 1, TWO: 2})
    for _ in range(3):
        cache.get_many([ONE, "0" * 64])
    source = f"from hypernodes import DiskCache; DiskCache({cache.path!r}).get({TWO!r})"
    run_script(source)
    counts = cache.saved_counts()
    assert (counts.hits, counts.misses) == (4, 3)
    assert [counts.of(signature) for signature in (ONE, TWO, "0" * 64)] == [3, 1, 0]
    assert cache.stats().hits == 3


def test_counts_are_saved_now_and_then_and_summed_up(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._counts._LARGEST", 200)
    monkeypatch.setattr("hypernodes.cache._counts._PENDING", 10)
    monkeypatch.setattr("hypernodes.cache._counts._KEPT", 2)
    cache.put(ONE, 1)
    for number in range(100):
        cache.get(ONE)
        cache.get(f"{number:064x}")
        cache.put(f"{number + 1000:064x}", 1)
        cache.get(f"{number + 1000:064x}")
    counts = cache.saved_counts()
    assert (counts.hits, counts.misses) == (200, 100)
    assert counts.of(ONE) == 100
    assert Path(cache.path, "counts").stat().st_size < 500


def test_counts_do_not_bring_back_a_cache_that_was_removed(cache):
    cache.put(ONE, 1)
    cache.get(ONE)
    shutil.rmtree(cache.path)
    cache.saved_counts()
    assert not Path(cache.path).exists()


def test_a_cache_that_is_let_go_leaves_no_drafts(tmp_path):
    DiskCache(tmp_path / "cache").put(ONE, 1)
    gc.collect()
    assert list(Path(tmp_path, "cache", "hypernodes-drafts").iterdir()) == []


def test_relative_paths_stay_where_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("cache")
    cache.put(ONE, 1)
    monkeypatch.chdir("/")
    assert cache.get(ONE) == 1
