"""The parts of worker processes, one by one."""

import pickle
import socket
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from unittest.mock import Mock

import cloudpickle
import pytest

from hypernodes._engine import claims
from hypernodes._engine.processes import board, wire
from hypernodes._engine.processes.depot import Depot
from hypernodes._engine.processes.hand import Hand
from hypernodes._engine.shipping import errors, pace, settings
from hypernodes._engine.shipping.chunk import Chunk
from hypernodes._engine.shipping.depth import call_deeply
from hypernodes._engine.shipping.parcels import LARGE, Parcel, Stored, unpack
from hypernodes._engine.shipping.sources import MapSource, Shipment


@pytest.fixture
def depot():
    depot = Depot.opened()
    yield depot
    depot.close()
    assert not Path(depot.folder).exists()


# ---------------------------------------------------------------- parcels


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": (2, 3)}], b"x" * (2 * LARGE)])
def test_a_value_arrives_as_it_was(depot, value):
    assert unpack(depot.pack(value)) == value
    assert list(Path(depot.folder).iterdir()) == []


def test_functions_travel_where_plain_pickle_will_not_do(depot):
    factor = 3
    assert unpack(depot.pack(lambda x: factor * x))(2) == 6


def test_small_buffers_stay_in_the_pickle_and_big_ones_lie_in_files(depot):
    numpy = pytest.importorskip("numpy")
    small, big = numpy.arange(10), numpy.arange(LARGE)
    parcel = depot.pack({"small": small, "big": big})
    assert [stored.size for stored in parcel.buffers] == [big.nbytes]
    assert parcel.size > big.nbytes
    found = unpack(parcel)
    assert numpy.array_equal(found["big"], big)
    found["big"][0] = found["small"][0] = 7
    assert not any(Path(path).exists() for path in parcel.files)


def test_what_is_kept_can_be_read_again_and_changed_by_each_reader(depot):
    numpy = pytest.importorskip("numpy")
    parcel = depot.pack(numpy.zeros(LARGE))
    first, second = unpack(parcel, keep=True), unpack(parcel, keep=True)
    first[0] = 1
    assert second[0] == 0
    assert all(Path(path).exists() for path in parcel.files)


def test_a_full_folder_is_replaced_by_a_spare_one(depot):
    lost = Depot(depot.folder + "-missing", depot.spare)
    parcel = lost.pack(b"x" * LARGE)
    assert isinstance(parcel.data, Stored)
    assert parcel.data.path.startswith(depot.spare)
    assert unpack(parcel) == b"x" * LARGE


def test_nothing_is_left_of_what_cannot_be_packed(depot):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(TypeError):
        depot.pack([numpy.zeros(LARGE), threading.Lock()])
    assert list(Path(depot.folder).iterdir()) == []


def test_the_folder_is_private(depot):
    assert Path(depot.folder).stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- settings


def test_modules_of_a_worker_come_before_those_of_its_driver(monkeypatch, tmp_path):
    own, shared, new = (str(tmp_path / name) for name in ("own", "shared", "new"))
    Path(new).mkdir()
    monkeypatch.setattr(sys, "path", [own, shared])
    there = settings.current()._replace(path=[new, shared, str(tmp_path / "elsewhere"), new])
    settings.look_there_last(there)
    assert sys.path == [own, shared, new]


# ---------------------------------------------------------------- errors


class TwoError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


class LockedError(Exception):
    def __init__(self, lock):
        super().__init__(lock, 5)
        self.lock = lock
        self.number = 5


class ShoutingError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def travelled(error):
    try:
        raise error  # noqa: TRY301 - to be raised is what it is for
    except BaseException as raised:
        packed = pickle.loads(pickle.dumps(errors.pack_error(raised)))
    return errors.unpack_error(packed)


def test_an_ordinary_error_arrives_whole_with_notes_and_traceback():
    error = ValueError("bad", 1)
    error.add_note("note")
    found = travelled(error)
    assert (type(found), found.args, found.__notes__) == (ValueError, ("bad", 1), ["note"])
    assert "raise error" in str(found.__cause__)


def raised_from(error, *causes):
    for cause in causes:
        error.__cause__ = cause
        error = cause


def test_an_error_arrives_with_what_it_was_raised_from():
    error, first, second = ValueError("effect"), TwoError(1, 2), KeyError("root")
    second.add_note("note")
    raised_from(error, first, second)
    found = travelled(error)
    assert type(found.__cause__) is TwoError
    root = found.__cause__.__cause__
    assert (type(root), root.args, root.__notes__) == (KeyError, ("root",), ["note"])
    assert "raise error" in str(root.__cause__)
    again = travelled(found)  # as from a worker of a worker
    assert type(again.__cause__.__cause__) is KeyError
    assert str(again.__cause__.__cause__.__cause__).count("ValueError: effect") > 1


def test_errors_that_are_raised_from_each_other_arrive():
    error, other = ValueError("one"), KeyError("other")
    raised_from(error, other, error)
    found = travelled(error)
    assert type(found.__cause__) is KeyError
    assert "raise error" in str(found.__cause__.__cause__)


def test_an_error_that_cannot_be_rebuilt_arrives_from_its_parts():
    found = travelled(TwoError(1, 2))
    assert (type(found), str(found), found.first) == (TwoError, "1 and 2", 1)


def test_an_error_loses_only_what_cannot_travel():
    found = travelled(LockedError(threading.Lock()))
    assert type(found) is LockedError
    assert (found.number, found.args[1]) == (5, 5)
    assert not hasattr(found, "lock")


def test_an_error_whose_class_cannot_travel_becomes_its_nearest_base():
    lock = threading.Lock()
    found = travelled(type("HiddenError", (KeyError,), {"lock": lock})("key"))
    assert type(found) is KeyError
    assert "HiddenError" in found.__notes__[-1]


def test_an_error_without_text_arrives():
    assert type(travelled(ShoutingError())) is ShoutingError


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_arrives_as_itself(kind):
    assert type(travelled(kind(3))) is kind


def test_an_error_that_cannot_be_read_here_says_so():
    whole = cloudpickle.dumps(ValueError("x")).replace(b"ValueError", b"NalueError")
    found = errors.unpack_error(errors.PackedError(whole, b"", (), {}, "Trace\nValueError: x\n"))
    assert str(found) == "ValueError: x"
    assert "cannot be read here" in found.__notes__[0]


def test_a_cause_that_cannot_be_read_here_says_so():
    error = ValueError("effect")
    raised_from(error, ImportError("root"))
    packed = errors.pack_error(error)
    whole = packed.causes[0].whole.replace(b"ImportError", b"UmportError")
    packed = packed._replace(causes=(packed.causes[0]._replace(whole=whole),))
    found = errors.unpack_error(packed)
    assert type(found) is ValueError
    assert str(found.__cause__) == "ImportError: root"
    assert "cannot be read here" in found.__cause__.__notes__[0]


# ---------------------------------------------------------------- wire


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_come_out_whole_however_they_arrive(size):
    messages = [("a", 1), ("b", b"x" * 2000), ("c",)]
    data = b"".join(map(wire.frame, messages))
    reader = wire.Reader()
    found = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert found == messages


# ---------------------------------------------------------------- the board


def test_no_piece_is_claimed_and_taken_back():
    for _ in range(20):
        cells = board.map_board(board.make_board())
        cells[claims.LIMIT] = claims.NO_LIMIT
        with futures.ThreadPoolExecutor(1) as pool:
            claimed = pool.submit(claim_all, cells, 2_000_000)
            time.sleep(0.003)
            cells[claims.LIMIT] = 0
            time.sleep(board.SETTLED)
            cursor = cells[claims.CURSOR]
            done = claimed.result()
        assert done <= cursor <= done + 1
        board.unmap_board(cells)


def claim_all(cells, count):
    for number in range(count):
        cells[claims.CURSOR] = number + 1
        if number >= cells[claims.LIMIT]:
            return number
    return count


def test_a_watch_is_read_as_it_was_written_or_not_at_all():
    cells = board.map_board(board.make_board())
    board.write_watch(cells, 3, 1, 2, 99)
    assert board.read_watch(cells) == (3, 1, 2, 99)
    cells[board.SERIAL] += 1
    assert board.read_watch(cells) == (0, 0, 0, 0)
    board.unmap_board(cells)


def test_a_board_leaves_no_descriptor_behind():
    before = descriptors()
    for _ in range(10):
        board.unmap_board(board.map_board(board.make_board()))
    assert descriptors() == before


def descriptors():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


# ---------------------------------------------------------------- pace


def test_chunks_start_with_few_items():
    assert pace.Pace(None).count(10_000, 2) == 10
    assert pace.Pace(None, shortest=0.1).count(10_000, 2) == 625
    assert pace.Pace(None).count(31, 2) == 1


def test_a_map_of_items_that_are_known_begins_where_the_last_one_was():
    before = pace.Pace(None)
    before.learn(10, 10 * 1e-5)
    before.weigh(10, 10 * 200_000)
    found = before.again()
    assert found.count(1_000_000, 2) == 40
    found.learn(1, 3.0)
    assert before.count(1_000_000, 2) == 40
    assert found.count(1_000_000, 2) == 1


def test_every_worker_has_something_to_do_though_the_last_map_had_shorter_items():
    before = pace.Pace(None)
    before.learn(1_000, 1_000 * 1e-8)
    assert before.count(400, 100) >= 400
    assert before.again().count(400, 100) == 4


def test_what_is_left_is_shared_by_all_workers():
    found = pace.Pace(None)
    found.learn(1_000, 1_000 * 1e-7)
    assert found.count(2_000, 2) == 1_000
    assert found.count(1_000, 2, under_way=1_000) == 1_000
    assert found.count(700, 2, under_way=100) in {500, 501}  # less would not be worth its way


def test_chunks_hold_a_millisecond_of_work_at_first():
    found = pace.Pace(None)
    found.learn(10, 10 * 1e-5)
    assert 90 <= found.count(1_000_000, 2) <= 110


def test_chunks_of_long_items_hold_one():
    found = pace.Pace(None)
    found.learn(1, 3.0)
    assert found.count(1_000, 2) == 1
    assert not found.may_wait(1)


def test_chunks_have_ten_thousand_items_and_eight_megabytes_at_the_most():
    found = pace.Pace(None)
    found.learn(1000, 1000 * 1e-9)
    assert found.count(10**9, 2) == 10_000
    found.weigh(10, 10 * 80_000)
    assert found.count(10**9, 2) == 100


def test_chunks_get_smaller_towards_the_end():
    found = pace.Pace(None)
    found.learn(10, 10 * 1e-4)
    assert found.count(16, 2) == 4


def test_a_fixed_size_is_kept():
    found = pace.Pace(7)
    found.learn(7, 70.0)
    assert found.count(3, 2) == 7


# ---------------------------------------------------------------- depth


def test_deep_calls_go_where_python_alone_would_not():
    def depth(left):
        return 1 + depth(left - 1) if left else 0

    assert call_deeply(lambda: depth(20_000)) == 20_000
    with pytest.raises(ZeroDivisionError):
        call_deeply(lambda: 1 // 0)


# ---------------------------------------------------------------- what a worker had when it died


@pytest.fixture
def hand():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    hand = Hand(ours, board.map_board(board.make_board()))
    yield hand
    hand.close()
    theirs.close()


@pytest.fixture
def chunk(hand):
    parcel = Parcel(b"")
    shipment = Shipment(parcel, (parcel,))
    source = Mock(token=1, careful_token=2, closed=False, flying=0, shipment=shipment)
    chunk = Chunk(source, ["a", "b", "c"], parcel)
    hand.give(chunk, 1)
    return chunk


def settled(hand):
    hand.recall()
    time.sleep(2 * board.SETTLED)
    hand.settle()


def test_a_death_while_reading_is_blamed_on_what_was_read(hand, chunk):
    hand._cells[board.READING] = chunk.base + 1
    settled(hand)
    hand.bury()
    chunk.source.put_back.assert_not_called()
    chunk.source.bury_read.assert_called_once_with(chunk)


def test_what_has_been_taken_back_before_it_was_read_is_nobodys_fault(hand, chunk):
    settled(hand)
    chunk.source.put_back.assert_called_once_with(chunk, ["a", "b", "c"])
    hand.bury()
    assert chunk.entries == []
    chunk.source.bury.assert_not_called()
    chunk.source.bury_read.assert_not_called()


def test_a_death_of_shared_inputs_is_blamed_on_no_piece(hand, chunk):
    hand._cells[board.READING] = -chunk.token
    hand.bury()
    chunk.source.put_back.assert_called_once_with(chunk, ["a", "b", "c"])
    chunk.source.bury_fruitless.assert_called_once_with(hand.born)


def test_only_the_piece_that_ran_is_blamed(hand, chunk):
    hand._cells[claims.CURSOR] = chunk.base + 2
    hand.bury()
    chunk.source.put_back.assert_called_once_with(chunk, ["a", "c"])
    assert chunk.source.bury.call_args.args[:2] == (chunk, "b")


def test_the_piece_that_was_late_is_blamed_and_not_the_one_after_it(hand, chunk):
    hand._cells[claims.CURSOR] = chunk.base + 1
    facts = Parcel(pickle.dumps((("p", "n"), 0.1, None)))
    hand.on_watch(1, chunk.token, facts)
    board.write_watch(hand._cells, 1, attempt=1, deadline=1)
    hand.death = hand.overdue()
    hand._cells[claims.CURSOR] = chunk.base + 2
    hand.bury()
    chunk.source.put_back.assert_called_once_with(chunk, ["b", "c"])
    assert chunk.source.bury.call_args.args == (chunk, "a", hand.death)


def test_a_chunk_that_was_taken_back_may_turn_out_unreadable(hand, chunk):
    settled(hand)
    source = Mock()
    MapSource.unreadable(source, chunk, None)
    source._run_alone.assert_not_called()
    source._deliver.assert_not_called()
