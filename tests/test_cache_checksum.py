"""Keyed checksums: the same however content is cut, another for any other content."""

import itertools
import os
import threading

import pytest

from hypernodes.cache import _checksum
from hypernodes.cache._checksum import Checksum

CONTENT = os.urandom(3_000_000)
KEY = bytes(range(32))


def cut(content, *places):
    bounds = [0, *places, len(content)]
    return [content[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_neither_cuts_nor_cores_make_a_difference(monkeypatch, cores):
    expected = Checksum(KEY).large(b"name", [CONTENT])
    monkeypatch.setattr(_checksum, "_cores", lambda: cores)
    monkeypatch.setattr(_checksum, "_SHARE", 1000)
    for places in [(), (1,), (2**20,), (5, 5, 2**20 - 1, 2**21 + 1), (len(CONTENT),)]:
        assert Checksum(KEY).large(b"name", cut(CONTENT, *places)) == expected
    assert Checksum(KEY).large(b"name", [memoryview(bytearray(CONTENT))]) == expected


def test_everything_else_does():
    chunk = 2**20
    swapped = CONTENT[chunk : 2 * chunk] + CONTENT[:chunk] + CONTENT[2 * chunk :]
    flipped = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    contents = [CONTENT, swapped, flipped, CONTENT[:-1], CONTENT + b"\0", CONTENT[chunk:], b""]
    made = [Checksum(KEY).large(b"name", [content]) for content in contents]
    made += [
        Checksum(KEY).large(b"other", [CONTENT]),
        Checksum(KEY[::-1]).large(b"name", [CONTENT]),
        Checksum(KEY).small(b"name" + CONTENT),
    ]
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == {32}


def test_where_no_thread_can_be_started_this_one_does_it_all(monkeypatch):
    expected = Checksum(KEY).large(b"name", [CONTENT])

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_checksum, "_cores", lambda: 4)
    monkeypatch.setattr(_checksum, "_SHARE", 1000)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Checksum(KEY).large(b"name", [CONTENT]) == expected
