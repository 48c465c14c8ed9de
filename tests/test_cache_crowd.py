"""Many processes with one disk cache: none breaks another, also when it is killed."""

import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from hypernodes import MISS, DiskCache
from hypernodes.cache import _key

HAMMER = """
import random, sys, warnings
import numpy as np
from hypernodes import MISS, DiskCache
from hypernodes.cache import EntryRecord, _packs
warnings.simplefilter("error")
path, seed, bound = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None
_packs._BURST = seed % 2 * 16  # every other one has small entries share files
_packs._PART = 64
cache = DiskCache(path, max_bytes=bound)
draw = random.Random(seed)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(sys.argv[4])):
    number = draw.randrange(40)
    signature = f"{number:02x}" * 32
    expected = np.full(20_000, number) if number % 4 == 0 else [number] * number
    found = cache.get(signature)
    if found is MISS:
        cache.put(signature, expected)
        cache.note([EntryRecord("node", signature, {"x": str(number)})])
    else:
        assert np.array_equal(found, expected), (number, found)
    if draw.random() < 0.05:
        cache.delete(signature)
print("done", cache.stats().hits, flush=True)
"""


def start(path, seed, *, bound=0, turns=400):
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, path, str(seed), str(bound), str(turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def release(processes):
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.parametrize("bound", [0, 1_000_000], ids=["unbounded", "bounded"])
def test_eight_processes_share_a_cache(tmp_path, bound):
    path = tmp_path / "cache"
    processes = [start(path, seed, bound=bound) for seed in range(8)]
    release(processes)
    hits = 0
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        hits += int(out.split()[1])
    assert hits > 100
    cache = DiskCache(path)
    assert list(cache.broken()) == []
    assert cache.stats().bytes > 0
    assert cache.saved_counts().hits == hits
    assert 0 < len(cache.records("node")) < 8 * 400


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_writers_leave_a_whole_cache(tmp_path):
    path = tmp_path / "cache"
    draw = random.Random(7)
    for _ in range(3):
        processes = [start(path, draw.randrange(1000), turns=100_000) for _ in range(4)]
        release(processes)
        survivor = start(path, draw.randrange(1000), turns=200)
        release([survivor])
        for process in processes:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=draw.uniform(0.01, 0.1))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        _, err = survivor.communicate(timeout=60)
        assert survivor.returncode == 0, err
    cache = DiskCache(path)
    assert list(cache.broken()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cache.get_many(f"{number:02x}" * 32 for number in range(40))
    assert found
    assert MISS not in [type(value) for value in found.values()]
    cache.put("ff" * 32, 1)
    assert cache.get("ff" * 32) == 1


KEY_RACE = """
import sys
from hypernodes import DiskCache
print("ready", flush=True)
sys.stdin.readline()
cache = DiskCache(sys.argv[1])
cache.put(sys.argv[2] * 64, int(sys.argv[2]))
"""


def test_processes_that_begin_a_cache_at_once_agree_on_its_key(tmp_path):
    for turn in range(3):
        path = tmp_path / str(turn)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", KEY_RACE, path, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            for number in range(8)
        ]
        release(processes)
        for process in processes:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        found = DiskCache(path).get_many(str(number) * 64 for number in range(8))
        assert sorted(found.values()) == [*range(8)]
        assert [each.name for each in Path(path).glob("key*")] == ["key"]


@pytest.mark.parametrize("before", [None, b"damaged"])
def test_a_key_that_somebody_else_has_just_made_stays(tmp_path, monkeypatch, before):
    place = tmp_path / "key"
    if before is not None:
        place.write_bytes(before)
    theirs = b"0123456789abcdef" * 4
    looked = _key._read

    def look_before_they_come(path):
        content = looked(path)
        if content == before:
            place.write_bytes(theirs)
        return content

    monkeypatch.setattr(_key, "_read", look_before_they_come)
    assert _key.read_or_make(str(place)) == _key.derived(theirs)
    assert place.read_bytes() == theirs
