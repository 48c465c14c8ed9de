"""Items of a map by index and by columns."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hypernodes import InputError
from hypernodes._engine import batches
from hypernodes._engine.batches import Block, Shelf, as_run
from hypernodes._engine.mapping import Rows, split_items
from hypernodes._engine.requests import open_items
from hypernodes._engine.stream import Stream


def block(first, count, **columns):
    columns = columns or {"x": [f"x{i}" for i in range(first, first + count)]}
    return Block(first, tuple(columns), list(columns.values()))


# ---------------------------------------------------------------- runs and blocks


@pytest.mark.parametrize(
    ("indexes", "found"),
    [
        ([3, 4, 5], range(3, 6)),
        ([7], range(7, 8)),
        ([3, 5, 4], [3, 5, 4]),
        ([3, 7, 5], [3, 7, 5]),
        ([5, 4], [5, 4]),
        ([], []),
        ([None], [None]),
    ],
)
def test_indexes_that_follow_each_other_are_a_range(indexes, found):
    assert as_run(indexes) == found


def test_a_block_is_a_mapping_of_items():
    found = block(5, 2, a=[1, 2], b=["one", "two"])

    assert dict(found) == {5: {"a": 1, "b": "one"}, 6: {"a": 2, "b": "two"}}
    assert len(found) == 2
    assert 4 not in found
    assert 7 not in found
    with pytest.raises(KeyError):
        found[7]


# ---------------------------------------------------------------- the shelf


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(batches, "FEWEST", 1)


@pytest.mark.usefixtures("small_blocks")
def test_columns_of_a_run_come_from_all_blocks_that_have_part_in_it():
    shelf = Shelf()
    shelf.add(block(0, 3))
    shelf.add(block(3, 3))
    shelf.add(block(6, 3))

    assert shelf.columns(range(2, 7)) == (("x",), [["x2", "x3", "x4", "x5", "x6"]])
    assert shelf.columns(range(4, 6)) == (("x",), [["x4", "x5"]])
    assert shelf.columns([8, 0]) == (("x",), [["x8", "x0"]])


def test_items_that_came_one_by_one_have_columns_too():
    shelf = Shelf()
    shelf.add({4: {"a": 1, "b": 2}, 5: {"a": 3, "b": 4}})

    assert shelf.columns(range(4, 6)) == (("a", "b"), [[1, 3], [2, 4]])
    assert shelf.columns([5]) == (("a", "b"), [[3], [4]])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(30))
def test_a_shelf_is_what_a_dictionary_would_be(seed):
    rng = random.Random(seed)
    shelf, model, first = Shelf(), {}, 0
    for _ in range(60):
        count = rng.randrange(6)
        batch = block(first, count)
        shelf.add(batch if rng.random() < 0.7 else dict(batch))
        model |= batch
        first += count
        there = sorted(model)
        if there and rng.random() < 0.8:
            begin = rng.randrange(len(there))
            taken = there[begin : begin + rng.randrange(1, 8)]
            rng.shuffle(taken) if rng.random() < 0.4 else None
            run = as_run(taken)
            assert shelf.columns(run) == (("x",), [[model[index]["x"] for index in taken]])
            assert [shelf[index] for index in taken] == [model[index] for index in taken]
            if rng.random() < 0.2:
                assert shelf.pop(taken[0]) == model[taken[0]]
                run = taken[1:]
            shelf.drop(run)
            for index in taken:
                del model[index]
        assert len(shelf) == len(model)
    shelf.drop(sorted(model))
    assert len(shelf) == 0
    assert shelf._blocks == ()


class Looked(Block):
    """A block that knows how often it was looked into."""

    looks = 0

    def common(self, run):
        type(self).looks += 1
        return super().common(run)


def test_only_blocks_that_have_part_in_a_run_are_looked_into():
    shelf = Shelf()
    for first in range(0, 6400, 64):
        shelf.add(Looked(first, ("x",), [list(range(first, first + 64))]))

    assert shelf.columns(range(3100, 3101)) == (("x",), [[3100]])
    shelf.drop(range(3100, 3101))
    assert shelf.columns(range(3199, 3202)) == (("x",), [[3199, 3200, 3201]])
    assert Looked.looks == 4


def test_what_comes_in_ones_and_twos_makes_no_blocks():
    shelf = Shelf()
    for first in range(100):
        shelf.add(block(first, 1))

    assert shelf._blocks == ()
    assert shelf.columns(range(98, 100)) == (("x",), [["x98", "x99"]])


@pytest.mark.usefixtures("small_blocks")
def test_what_is_not_there_is_missed():
    shelf = Shelf()
    shelf.add(block(0, 2))

    with pytest.raises(KeyError):
        shelf[2]
    with pytest.raises(KeyError):
        shelf.pop(2)


# ---------------------------------------------------------------- items at hand


@pytest.mark.parametrize("values", [[1, 2, 3], (1, 2, 3), range(1, 4), np.array([1, 2, 3])])
def test_values_that_are_at_hand_are_taken_in_blocks(values):
    items = split_items({"x": values, "y": [4, 5, 6]}, ("x", "y"), "zip").items

    assert isinstance(items, Rows)
    assert dict(items.block(0, 2)) == {0: {"x": 1, "y": 4}, 1: {"x": 2, "y": 5}}
    assert list(items) == [{"x": 3, "y": 6}]
    assert len(items.block(3, 2)) == 0


class Counted(list):
    """A list that has code of its own."""


@pytest.mark.parametrize("values", [iter([1, 2]), {1: 2}.values(), Counted([1, 2])])
def test_what_may_run_code_of_others_is_taken_one_by_one(values):
    items = split_items({"x": values}, ("x",), "zip").items

    assert not isinstance(items, Rows)


def test_a_list_that_shrinks_under_way_is_told_of():
    values = [1, 2, 3, 4]
    items = split_items({"x": values, "y": range(4)}, ("x", "y"), "zip").items
    stream = Stream(items, ahead=4, ordered=True, patience=0.0, farthest=4, by_columns=True)
    assert len(stream.take()) == 2
    stream.put_all(range(2), [{}, {}])
    list(stream.ready())
    del values[3]

    assert dict(stream.take()) == {2: {"x": 3, "y": 2}}
    stream.put_all(range(2, 3), [{}])
    list(stream.ready())
    assert stream.take() == {}
    assert stream.is_done
    with pytest.raises(InputError, match="'x' has 3, 'y' has more than 3"):
        stream.finish()


def test_without_items_nothing_is_opened():
    items = split_items({"x": []}, ("x",), "zip").items

    assert open_items(None, items, (), None) is None
