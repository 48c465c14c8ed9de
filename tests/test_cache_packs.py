"""Entries of a `DiskCache` that share files: each is found, lost and replaced by itself."""

import errno
import gc
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hypernodes import MISS, CacheWarning, DiskCache, Pipeline, RuntimeConfig, node
from hypernodes.cache import FsspecCache
from hypernodes.cache._files import is_local

NAMES = [f"{number % 16:x}{number:063x}" for number in range(100)]
VALUES = {name: [name[-3:], number] for number, name in enumerate(NAMES)}


@pytest.fixture(autouse=True)
def _burst(monkeypatch, tmp_path):
    """Whatever is stored here is stored in quick succession, however slow the machine is."""
    if not is_local(str(tmp_path)):
        # Entries share files on file systems of the machine itself only; CI's are.
        pytest.skip("the temporary directory is on no local file system")
    monkeypatch.setattr("hypernodes.cache._packs._BURST", 0)
    monkeypatch.setattr("hypernodes.cache._packs._SPAN", 10**18)


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache")


@pytest.fixture
def full(cache):
    cache.put_many(VALUES)
    return cache


def again(cache):
    return pickle.loads(pickle.dumps(cache))


def place_of(cache, name):
    return Path(cache.path, name[0], name[1:])


def files_of(cache):
    """Return the number of a file, by the name of the entry."""
    return {p.parent.name + p.name: p.stat().st_ino for p in Path(cache.path).glob("?/*")}


def size_on_disk(cache):
    facts = [path.stat() for path in Path(cache.path).glob("?/*")]
    return sum({each.st_ino: each.st_size for each in facts}.values())


def sharers_of(cache, name):
    files = files_of(cache)
    return [other for other in NAMES if files[other] == files[name]]


def damaged(cache, name, change):
    path = place_of(cache, name)
    path.write_bytes(change(path.read_bytes()))


# --- Stored and found -----------------------------------------------------------------------------


def test_entries_share_files_and_each_is_found(full):
    assert sorted(files_of(full)) == sorted(NAMES)
    assert len(set(files_of(full).values())) < 10
    for each in (full, again(full)):
        assert each.get_many(NAMES) == VALUES
        assert [each.get(name) for name in NAMES] == [*VALUES.values()]
        assert each.has_many(NAMES) == set(NAMES)
    assert list(full.broken()) == []


def test_they_are_found_before_and_after_their_file_is_finished(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put_many(VALUES)
    assert again(cache).get_many(NAMES) == VALUES
    del cache
    gc.collect()
    assert DiskCache(tmp_path).get_many(NAMES) == VALUES
    assert list(Path(tmp_path, "hypernodes-drafts").iterdir()) == []


def test_a_shared_file_is_read_once_for_many_entries(full, monkeypatch):
    full._packs.close()
    opened = []
    original = os.open
    monkeypatch.setattr(
        "hypernodes.cache._files._open",
        lambda path, flags: opened.append(path) or original(path, flags),
    )
    assert full.get_many(NAMES) == VALUES
    assert len(opened) == len(set(files_of(full).values()))


def test_what_is_known_of_all_entries_is_right(full):
    found = full.stats()
    assert found.items == len(NAMES)
    assert size_on_disk(full) - 100 < found.bytes <= size_on_disk(full)
    assert {entry.name for entry in full.entries()} == set(NAMES)
    full.clear()
    assert (full.stats().items, full.stats().bytes) == (0, 0)
    full.put(NAMES[0], 1)
    assert full.get(NAMES[0]) == 1


def test_large_values_and_arrays_have_files_of_their_own(full):
    full.put_many({NAMES[0]: "x" * 5000, NAMES[1]: np.arange(50_000), NAMES[2]: 3})
    found = again(full).get_many(NAMES[:3])
    assert found[NAMES[0]] == "x" * 5000
    assert np.array_equal(found[NAMES[1]], np.arange(50_000))
    assert found[NAMES[2]] == 3
    assert place_of(full, NAMES[0]).stat().st_nlink == 1
    assert place_of(full, NAMES[1]).stat().st_nlink == 1


def test_other_stores_read_them(full):
    assert FsspecCache(f"file://{full.path}").get_many(NAMES) == VALUES


def test_few_entries_have_files_of_their_own(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._packs._BURST", 16)
    cache.put_many(dict.fromkeys(NAMES[:16], 1))
    assert len(set(files_of(cache).values())) == 16


def test_what_is_stored_later_gets_another_file(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._packs._SPAN", 0)
    cache.put_many(VALUES)
    assert len(set(files_of(cache).values())) == len(NAMES)
    assert cache.get_many(NAMES) == VALUES


# --- Changed one by one ---------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [False, True])
def test_one_is_removed_and_the_others_stay(full, finished):
    if finished:
        full._packs.close()
    full.delete(NAMES[1])
    rest = {name: value for name, value in VALUES.items() if name != NAMES[1]}
    for each in (full, again(full)):
        assert each.get(NAMES[1]) is MISS
        assert each.get_many(NAMES) == rest
    assert full.stats().items == len(NAMES) - 1


@pytest.mark.parametrize("finished", [False, True])
def test_one_is_stored_again_and_the_later_value_counts(full, finished):
    if finished:
        full._packs.close()
    for turn in range(3):
        full.put(NAMES[1], f"new {turn}")
        for each in (full, again(full)):
            assert each.get(NAMES[1]) == f"new {turn}"
            assert each.get_many(NAMES) == VALUES | {NAMES[1]: f"new {turn}"}
    full._packs.close()
    assert full.get_many(NAMES) == VALUES | {NAMES[1]: "new 2"}
    assert full.stats().items == len(NAMES)
    drafts = [path for path in Path(full.path, "hypernodes-drafts").rglob("*") if path.is_file()]
    assert drafts == []


def test_a_flipped_bit_costs_one_entry(full):
    content = place_of(full, NAMES[5]).read_bytes()
    place = content.index(bytes.fromhex(NAMES[5])) + 50
    damaged(full, NAMES[5], lambda old: old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :])
    with pytest.warns(CacheWarning, match=NAMES[5]):
        found = full.get_many(NAMES)
    assert found == {name: value for name, value in VALUES.items() if name != NAMES[5]}
    assert [name for name, _ in full.broken()] == [NAMES[5]]
    full.put(NAMES[5], VALUES[NAMES[5]])
    assert full.get_many(NAMES) == VALUES
    assert list(full.broken()) == []


def test_no_bit_can_be_flipped_unnoticed(full):
    full._packs.close()
    path, sharers = place_of(full, NAMES[0]), NAMES[:3]
    content = path.read_bytes()
    for place in range(content.index(bytes.fromhex(NAMES[3]))):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.warns(CacheWarning):
            found = again(full).get_many(sharers)
        assert 1 <= len(found) <= 2
        assert found.items() <= VALUES.items()


def test_a_file_that_was_cut_off_costs_what_is_missing(full):
    sharers = sharers_of(full, NAMES[0])
    damaged(full, NAMES[0], lambda old: old[: len(old) // 2])
    with pytest.warns(CacheWarning) as told:
        found = full.get_many(NAMES)
    assert len(told) == 1
    missing = [name for name in NAMES if name not in found]
    assert set(missing) < set(sharers)
    assert len(missing) > len(sharers) // 3
    assert found == {name: VALUES[name] for name in NAMES if name in found}
    full.put_many({name: VALUES[name] for name in missing})
    assert full.get_many(NAMES) == VALUES


def test_rubbish_in_the_open_file_costs_what_it_covers(full):
    sharers = sharers_of(full, NAMES[-1])
    damaged(full, NAMES[-1], lambda _: b"rubbish")
    with pytest.warns(CacheWarning):
        found = full.get_many(NAMES)
    assert set(NAMES) - set(found) == set(sharers)
    full.put_many({name: VALUES[name] for name in sharers})
    assert full.get_many(NAMES) == VALUES


def test_entries_are_bound_to_their_names_and_their_key(full, tmp_path):
    other = DiskCache(tmp_path / "other")
    other.put_many(dict.fromkeys(NAMES, "forged"))
    first, last = place_of(full, NAMES[0]), place_of(full, NAMES[-1])
    shutil.copy(place_of(other, NAMES[0]), first)
    with pytest.warns(CacheWarning):
        assert again(full).get(NAMES[0]) is MISS
    shutil.copy(first, last)
    with pytest.warns(CacheWarning):
        assert again(full).get(NAMES[-1]) is MISS


# --- Trouble --------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from hypernodes import DiskCache
from hypernodes.cache import _packs
_packs._BURST = 0
cache = DiskCache(sys.argv[1])
for number in range(50):
    cache.put(f"{number % 16:x}{number:063x}", number)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_what_was_stored_by_a_process_that_was_killed_is_there(cache):
    command = [sys.executable, "-c", KILLED, cache.path]
    assert subprocess.run(command, check=False, timeout=60).returncode < 0
    assert cache.get_many(NAMES) == {name: number for number, name in enumerate(NAMES[:50])}
    assert list(cache.broken()) == []
    cache.put_many(VALUES)
    assert cache.get_many(NAMES) == VALUES


@pytest.mark.parametrize("what", ["hypernodes-drafts", ""])
def test_what_is_removed_below_an_open_file_is_made_anew(full, what):
    shutil.rmtree(Path(full.path, what))
    full.put_many(VALUES)
    assert again(full).get_many(NAMES) == VALUES


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.ENOSPC])
def test_without_links_each_has_a_file_of_its_own(cache, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refused)
    cache.put_many(VALUES)
    assert len(set(files_of(cache).values())) == len(NAMES)
    assert cache.get_many(NAMES) == VALUES
    assert [
        path for path in Path(cache.path, "hypernodes-drafts").rglob("*") if path.is_file()
    ] == []


def test_on_a_disk_that_fills_up_nothing_is_half_there(cache, monkeypatch):
    original = os.write
    room = [1000]

    def scarce(file, content):
        taken = min(room[0], len(content))
        room[0] -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(file, content[:taken])

    cache.put(NAMES[0], 0)
    with monkeypatch.context() as patch, pytest.warns(CacheWarning, match="No space"):
        patch.setattr(os, "write", scarce)
        cache.put_many(VALUES)
    found = again(cache).get_many(NAMES)
    assert 1 < len(found) < 20
    assert list(cache.broken()) == []


def test_on_other_file_systems_they_share_nothing(cache, monkeypatch):
    monkeypatch.setattr("hypernodes.cache.disk.is_local", lambda _: False)
    cache.put_many(VALUES)
    assert len(set(files_of(cache).values())) == len(NAMES)


def test_a_forked_child_leaves_the_file_of_its_parent_alone(full, run_script):
    run_script(
        f"""
import os
from hypernodes import DiskCache
from hypernodes.cache import _packs
_packs._BURST, _packs._SPAN = 0, 10**18
cache = DiskCache({full.path!r})
cache.put_many({{letter * 64: letter for letter in "abc"}})
child = os.fork()
if not child:
    cache.put("d" * 64, "d")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
cache.put("e" * 64, "e")
assert cache.get_many(letter * 64 for letter in "abcde") == {{c * 64: c for c in "abcde"}}
inodes = {{c: os.stat(f"{{cache.path}}/{{c}}/{{c * 63}}").st_ino for c in "abcde"}}
assert inodes["a"] == inodes["e"] != inodes["d"], inodes
"""
    )


def test_threads_store_and_look_at_once(cache):
    wrong = []

    def work(start):
        reader = again(cache)
        for name in NAMES[start:] + NAMES[:start]:
            cache.put(name, VALUES[name])
            found = reader.get_many(NAMES)
            if found.get(name) != VALUES[name] or not found.items() <= VALUES.items():
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.get_many(NAMES) == VALUES


# --- Bounds ---------------------------------------------------------------------------------------


def test_entries_of_a_small_cache_share_nothing(tmp_path):
    cache = DiskCache(tmp_path / "cache", max_bytes=50_000)
    cache.put_many(VALUES)
    assert len(set(files_of(cache).values())) == len(NAMES)


def test_those_of_one_file_go_together_and_the_disk_stays_within_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("hypernodes.cache._packs._PART", 16)
    cache = DiskCache(tmp_path / "cache", max_bytes=40_000)
    for number in range(2_000):
        cache.put(f"{number * 7919:064x}"[::-1], number)
        if number % 50 == 0:
            assert size_on_disk(cache) <= 42_000
    files = files_of(cache)
    assert len(files) > 200
    assert len(set(files.values())) < len(files) / 10
    assert cache.get(f"{1999 * 7919:064x}"[::-1]) == 1999
    assert cache.stats().bytes <= 40_000


# --- Runs -----------------------------------------------------------------------------------------


def test_a_map_shares_files_and_finds_all_again(cache):
    @node
    def doubled(x):
        return 2 * x

    @node
    def shown(doubled):
        return f"{doubled}!"

    pipeline = Pipeline([doubled, shown], config=RuntimeConfig(cache=cache))
    first = pipeline.map({"x": range(60)}, map_over="x")
    assert len(set(files_of(cache).values())) < 10
    other = again(cache)
    found = pipeline.with_config(RuntimeConfig(cache=other))
    assert found.map({"x": range(60)}, map_over="x") == first
    assert (other.stats().hits, other.stats().misses) == (120, 0)
    assert found.map({"x": range(61)}, map_over="x", output_name="shown")[60] == {"shown": "120!"}
    assert other.stats().misses == 2
