"""The scheduler and what it is made of, with workers that do only what they are told."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent import futures
from queue import SimpleQueue

import pytest

from hypernodes import (
    HyperNodesError,
    Pipeline,
    RunContext,
    RuntimeConfig,
    ThreadPoolExecutor,
    node,
)
from hypernodes._engine.failure import Failure
from hypernodes._engine.frame import Frame
from hypernodes._engine.jobs import Done, MapJob, Receiver
from hypernodes._engine.local import LocalWorkers
from hypernodes._engine.scheduler import Scheduler
from hypernodes._engine.stream import Handed, Stream
from hypernodes._engine.workers import MOST_AHEAD

THREADS = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=4))
LIMIT = 30.0


def engine_of(nodes, given=("x",), outputs=None, mapped=()):
    return Pipeline(nodes).engine(given, RunContext(THREADS, path=("p",)), outputs, mapped)


class Puppets(LocalWorkers):
    """Workers that run what they were given when the test says so."""

    def __init__(self, size):
        super().__init__()
        self._size = size
        self.given = []
        self._more = threading.Condition()

    @property
    def size(self):
        return self._size

    def submit(self, work, *args):
        future = futures.Future()
        with self._more:
            self.given.append((future, work, args))
            self._more.notify_all()
        return future

    def close(self):
        """Do nothing: there is nothing to end."""

    def wait_for(self, count):
        """Wait until `count` pieces of work are there."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.given) >= count, LIMIT)
        assert len(self.given) == count

    def work(self, position=0):
        """Do one of the pieces that are there."""
        future, work, args = self.given.pop(position)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work(*args))
        except BaseException as error:
            future.set_exception(error)


def begin(workers, engine, inputs=None):
    """Start a run in a thread of its own; return its future."""
    pool = futures.ThreadPoolExecutor(1)
    run = pool.submit(Scheduler("puppets", workers).run, engine, inputs or {"x": 1})
    pool.shutdown(wait=False)
    return run


def diamond(log):
    """Return a -> (b, c) -> d; each notes the thread that it runs in."""

    def noting(name, count):
        def one(p):
            log[name] = threading.get_ident()
            return p

        def two(p, q):
            return one(p + q)

        return two if count == 2 else one

    return [
        node("a")(noting("a", 1)).rename(inputs={"p": "x"}),
        node("b")(noting("b", 1)).rename(inputs={"p": "a"}),
        node("c")(noting("c", 1)).rename(inputs={"p": "a"}),
        node("d")(noting("d", 2)).rename(inputs={"p": "b", "q": "c"}),
    ]


# ---------------------------------------------------------------- handing out


def test_what_is_alone_runs_in_the_callers_thread_and_what_is_not_on_workers():
    log, workers = {}, Puppets(2)
    run = begin(workers, engine_of(diamond(log)))

    workers.wait_for(2)
    assert [*log] == ["a"]
    workers.work()
    workers.work()

    assert run.result(LIMIT) == {"a": 1, "b": 1, "c": 1, "d": 2}
    assert log["b"] == log["c"] == threading.get_ident()
    assert log["a"] == log["d"] != threading.get_ident()
    assert workers.given == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_no_more_work_is_handed_out_than_there_are_workers(size):
    workers = Puppets(size)
    nodes = [node(f"n{i}")(lambda x: x) for i in range(9)]
    run = begin(workers, engine_of(nodes))

    workers.wait_for(size)
    while not run.done():
        if workers.given:
            workers.work()

    assert run.result(LIMIT) == {f"n{i}": 1 for i in range(9)}


def test_one_busy_worker_keeps_no_segment_from_the_others():
    workers, gate = Puppets(2), threading.Event()
    nodes = [node(f"n{i}")(lambda x: x) for i in range(5)]
    slow = node("slow")(lambda x: gate.wait(LIMIT))
    run = begin(workers, engine_of([slow, *nodes]))
    workers.wait_for(2)

    busy = threading.Thread(target=workers.work)
    busy.start()
    while workers.given:
        workers.work()
    gate.set()
    busy.join(LIMIT)
    while not run.done():
        if workers.given:
            workers.work()

    assert run.result(LIMIT)["slow"] is True


def test_work_that_was_cancelled_tells_that_the_executor_was_closed():
    workers = Puppets(2)
    run = begin(workers, engine_of(diamond({})))
    workers.wait_for(2)

    future, _, _ = workers.given[0]
    future.cancel()
    future.set_running_or_notify_cancel()

    with pytest.raises(HyperNodesError, match="closed"):
        run.result(LIMIT)


def test_after_a_failure_workers_find_nothing_left_to_do():
    calls, workers = [], Puppets(2)

    def fail(x):
        raise ZeroDivisionError

    nodes = [node("bad")(fail)] + [node(f"n{i}")(calls.append) for i in range(5)]
    nodes = [nodes[0], *(n.rename(inputs={n.root_args[0]: "x"}) for n in nodes[1:])]
    run = begin(workers, engine_of(nodes))
    workers.wait_for(2)

    first = workers.given.pop(0)
    first[0].set_running_or_notify_cancel()
    segment = threading.Thread(target=lambda: first[1](*first[2]))
    segment.start()
    outcome = run.result(LIMIT)
    segment.join(LIMIT)
    begun = len(calls)
    while workers.given:
        workers.work()

    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert len(calls) == begun


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_ends_the_run_at_once(kind):
    workers = Puppets(2)

    def leave(x):
        raise kind

    run = begin(workers, engine_of([node("a")(leave), node("b")(lambda x: x)]))
    workers.wait_for(2)
    workers.work()

    with pytest.raises(kind):
        run.result(LIMIT)


@pytest.fixture
def eager_switching():
    """Let Python switch threads as often as it can, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def layers(widths):
    """Return layers of nodes, each node fed by two of the layer before, and their sums."""
    nodes, before, right, values = [], ["x"], {}, {"x": 1}
    for level, width in enumerate(widths):
        names = [f"n{level}_{i}" for i in range(width)]
        for i, name in enumerate(names):
            p, q = before[i % len(before)], before[(i + 1) % len(before)]
            values[name] = values[p] + values[q] + i if p != q else values[p] + i
            if p == q:
                made = node(name)(lambda p, k=i: p + k).rename(inputs={"p": p, "k": f"{name}k"})
            else:
                made = node(name)(lambda p, q, k=i: p + q + k).rename(
                    inputs={"p": p, "q": q, "k": f"{name}k"}
                )
            nodes.append(made)
            right[name] = values[name]
        before = names
    return nodes, right


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_no_wake_up_is_lost(workers, eager_switching):
    nodes, right = layers([1, 3, 1, 5, 2, 2, 9, 1, 4, 3])
    pipeline = Pipeline(nodes)
    with ThreadPoolExecutor(max_workers=workers) as executor:
        config = RuntimeConfig(executor=executor)

        def use():
            return all(pipeline.run({"x": 1}, config=config) == right for _ in range(40))

        pool = futures.ThreadPoolExecutor(2)
        both = [pool.submit(use) for _ in range(2)]
        pool.shutdown(wait=False)
        done, _ = futures.wait(both, 3 * LIMIT)

        assert len(done) == 2
        assert all(future.result() for future in both)


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_no_item_is_lost_between_threads(workers, count, eager_switching):
    inner = Pipeline([node("y")(lambda x: -x)], name="inner")
    outer = Pipeline([inner.as_node(map_over="x"), node("n")(len).rename(inputs={"obj": "y"})])
    right = {"y": [-x for x in range(count)], "n": count}
    with ThreadPoolExecutor(max_workers=workers) as executor:
        config = RuntimeConfig(executor=executor)
        for _ in range(10):
            found = inner.map({"x": range(count)}, map_over="x", config=config)
            assert found == [{"y": -x} for x in range(count)]
            assert outer.run({"x": range(count)}, config=config) == right


def test_a_short_run_does_not_wait_for_all_of_anothers_items():
    """Runs of several threads on one executor share its workers."""
    begun, short_done = threading.Event(), threading.Event()
    after = []

    def work(x):
        begun.set()
        time.sleep(0.002)
        after.append(short_done.is_set())
        return x

    inner = Pipeline([node("y")(work)], name="inner")
    long = Pipeline([inner.as_node(map_over="x")])
    short = Pipeline([node("a")(lambda x: x), node("b")(lambda x: x)])
    with ThreadPoolExecutor(max_workers=2) as executor:
        config = RuntimeConfig(executor=executor)
        pool = futures.ThreadPoolExecutor(1)
        run = pool.submit(long.run, {"x": range(1000)}, config=config)
        assert begun.wait(LIMIT)
        assert short.run({"x": 1}, config=config) == {"a": 1, "b": 1}
        short_done.set()
        run.result(LIMIT)
        pool.shutdown()

    assert sum(after) > 100


# ---------------------------------------------------------------- one message for many outcomes


def test_one_message_stands_for_all_that_is_done_before_it_is_read():
    done, posted, seen = Done(), [], []

    for number in range(5):
        done.add(lambda number=number: seen.append(number), posted.append)
    assert len(posted) == 1
    posted.pop()()
    done.add(lambda: seen.append(5), posted.append)
    posted.pop()()

    assert seen == [0, 1, 2, 3, 4, 5]
    assert posted == []


def test_nothing_that_is_done_is_left_unread(eager_switching):
    done, inbox, seen = Done(), SimpleQueue(), Counter()
    threads, each = 4, 3000

    def add(start):
        for number in range(start, start + each):
            done.add(lambda number=number: seen.update([number]), inbox.put)

    adding = [threading.Thread(target=add, args=(i * each,)) for i in range(threads)]
    for thread in adding:
        thread.start()
    deadline = time.perf_counter() + LIMIT
    while len(seen) < threads * each and time.perf_counter() < deadline:
        while not inbox.empty():
            inbox.get()()
    for thread in adding:
        thread.join()

    assert seen == dict.fromkeys(range(threads * each), 1)


class Delivered(Receiver):
    def __init__(self):
        self.outcomes = {}

    def put(self, index, outcome):
        self.outcomes[index] = outcome


def test_several_workers_share_the_items_of_a_map_and_run_each_once(eager_switching):
    calls, inbox, delivered = Counter(), SimpleQueue(), Delivered()
    lock = threading.Lock()

    def work(x, k):
        with lock:
            calls[x] += 1
        return x * k

    engine = engine_of([node("y")(work)], given=("k",), mapped=("x",))
    job = MapJob(engine, {"k": 2}, delivered)
    job.add({x: {"x": x} for x in range(3000)})
    while job.pending:  # a worker's turn ends after some time
        workers = [threading.Thread(target=job.drain, args=(inbox.put,)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(LIMIT)
    while not inbox.empty():
        inbox.get()()

    assert calls == dict.fromkeys(range(3000), 1)
    assert delivered.outcomes == {x: {"y": 2 * x} for x in range(3000)}


def test_a_closed_job_runs_no_further_item():
    calls = []
    engine = engine_of(
        [node("y")(calls.append).rename(inputs={"object": "x"})], given=(), mapped=("x",)
    )
    job = MapJob(engine, {}, Delivered())
    job.add({x: {"x": x} for x in range(9)})

    job.close()
    job.drain(lambda message: None)

    assert calls == []


# ---------------------------------------------------------------- how far a map is ahead


def stream(items, *, ahead=4, ordered=True, patience=0.005, farthest=MOST_AHEAD):
    return Stream(iter(items), ahead=ahead, ordered=ordered, patience=patience, farthest=farthest)


def items(numbers):
    return ({"x": number} for number in numbers)


def settle(found, entries):
    for index in entries:
        found.put(index, {"y": index})


def ready(found):
    """Return what can be handed over by now, one by one."""
    return Handed(found.ready())


def test_without_a_consumer_no_more_items_are_taken_than_there_is_room_for():
    found = stream(items(itertools.count()))
    taken = []

    for _ in range(50):
        entries = found.take()
        taken += entries
        settle(found, entries)

    assert len(taken) == 4
    assert not found.is_open


def test_a_slow_consumer_keeps_the_number_that_is_taken_ahead():
    found = stream(items(itertools.count()), patience=0.001)
    taken = consumed = 0

    for _ in range(30):
        entries = found.take()
        taken += len(entries)
        settle(found, entries)
        for _ in ready(found):
            consumed += 1
            time.sleep(0.002)

    assert taken - consumed <= 4
    assert found.take() != {}


def test_for_a_fast_consumer_more_are_taken_ahead_up_to_a_limit():
    found = stream(items(itertools.count()), patience=10.0)
    most = 0

    for _ in range(300):
        entries = found.take()
        settle(found, entries)
        most = max(most, len(entries))
        for _ in ready(found):
            pass

    assert 100 < most <= MOST_AHEAD


def test_how_many_items_there_are_at_the_most_is_known_when_they_have_ended():
    found = stream(items(range(3)), ahead=8)
    endless = stream(items(itertools.count()), ahead=8)

    found.take()
    endless.take()

    assert found.most == 3
    assert endless.most == sys.maxsize


def test_items_are_numbered_on_and_the_end_is_noticed():
    found = stream(items("abcdef"), ahead=4)
    numbers = []

    while not found.is_done:
        entries = found.take()
        numbers += [(index, item["x"]) for index, item in entries.items()]
        settle(found, entries)
        for _ in ready(found):
            pass

    assert numbers == [*enumerate("abcdef")]
    assert not found.is_open
    assert not found.outstanding


def test_ordered_outcomes_wait_for_those_before_them():
    found = stream(items(range(4)), ahead=8)
    assert len(found.take()) == 4

    found.put(2, {"y": 2})
    found.put(1, {"y": 1})
    assert list(ready(found)) == []
    assert found.outstanding
    found.put(0, {"y": 0})
    assert [index for index, _ in ready(found)] == [0, 1, 2]
    found.put(3, {"y": 3})
    assert [index for index, _ in ready(found)] == [3]


def test_unordered_outcomes_wait_for_nothing():
    found = stream(items(range(4)), ahead=8, ordered=False)
    found.take()

    found.put(2, {"y": 2})
    assert list(ready(found)) == [(2, {"y": 2})]
    found.put(0, {"y": 0})
    found.put(3, {"y": 3})
    assert [index for index, _ in ready(found)] == [0, 3]


def test_outcomes_are_not_kept_once_they_are_handed_over():
    class Outcome(dict):
        pass

    found = stream(items(range(4)), ahead=8)
    found.take()
    outcomes = [Outcome(y=index) for index in range(4)]
    known = [weakref.ref(outcome) for outcome in outcomes]
    found.put_all(range(2), outcomes[:2])
    found.put(2, outcomes[2])
    found.put(3, outcomes[3])
    del outcomes

    for index, outcome in ready(found):
        assert outcome == {"y": index}
        del outcome
        assert [ref() is None for ref in known] == [number < index for number in range(4)]


@pytest.mark.parametrize("ordered", [True, False])
def test_outcomes_that_come_together_are_handed_over_together(ordered):
    found = stream(items(range(6)), ahead=8, ordered=ordered)
    found.take()

    found.put_all((), ())
    found.put_all([4, 2], ["d", "b"])
    found.put_all(range(2), ["x", "y"])
    found.put_all([5, 3], ["e", "c"])

    handfuls = list(found.ready())
    if ordered:
        assert handfuls == [
            (range(2), ["x", "y"]),
            (range(2, 3), ["b"]),
            (range(3, 6), list("cde")),
        ]
    else:
        assert handfuls == [([4, 2], ["d", "b"]), (range(2), ["x", "y"]), ([5, 3], ["e", "c"])]
    assert not found.outstanding


def test_what_has_no_outcome_for_each_index_is_not_handed_over():
    found = stream(items(range(4)), ahead=8, ordered=False)
    found.take()
    found.put_all(range(3), ["a", "b"])

    with pytest.raises(ValueError, match=r"shorter|longer"):
        list(ready(found))


def test_an_error_of_the_items_is_kept_until_what_came_before_is_handed_over():
    def broken():
        yield from items(range(2))
        raise OSError("no more")

    found = stream(broken(), ahead=8)
    settle(found, found.take())

    assert [index for index, _ in ready(found)] == [0, 1]
    assert not found.is_open
    assert found.is_done
    with pytest.raises(OSError, match="no more"):
        found.finish()


def test_items_that_come_slowly_are_not_waited_for_in_number():
    def slowly():
        for item in items(range(8)):
            time.sleep(0.01)
            yield item

    found = stream(slowly(), ahead=16, patience=0.005)

    assert len(found.take()) <= 2


# ---------------------------------------------------------------- frames


def outcomes_of(nodes, given=None, item=None, index=None, outputs=None):
    """Return a frame and the list that its outcome is put into."""
    found = []
    engine = engine_of(nodes, tuple(given or {}), outputs, tuple(item or {}))
    return Frame(engine, given or {}, item or {}, index, found.append), found


def attempt(frame, segment):
    return frame.engine.attempt_segment(segment.index, frame.arguments(segment), frame.index)


def test_a_frame_tells_what_is_free_as_its_segments_are_settled():
    frame, found = outcomes_of(diamond({}), {"x": 1})

    (a,) = frame.first()
    b, c = frame.settle(a, attempt(frame, a))
    assert frame.settle(c, attempt(frame, c)) == []
    (d,) = frame.settle(b, attempt(frame, b))
    assert found == []
    assert frame.settle(d, attempt(frame, d)) == []

    assert found == [{"a": 1, "b": 1, "c": 1, "d": 2}]
    assert frame.closed


def test_a_frame_with_nothing_to_do_is_done_at_once():
    frame, found = outcomes_of(diamond({}), {"b": 5}, outputs="b")

    assert frame.first() == []
    assert found == [{"b": 5}]


def test_a_frame_fails_once_and_takes_no_notice_of_what_comes_later():
    def fail(x):
        raise ZeroDivisionError

    nodes = [node("a")(fail), node("b")(fail), node("c")(lambda x: x)]
    frame, found = outcomes_of(nodes, item={"x": 1}, index=7)
    a, b, c = frame.first()
    outcomes = [attempt(frame, each) for each in (a, b, c)]

    for segment, outcome in zip((a, b, c), outcomes, strict=True):
        assert frame.settle(segment, outcome) == []

    (failure,) = found
    assert (failure.index, failure.node, failure.inputs) == (7, "fail", {"x": 1})
    assert frame.closed


def test_a_frame_keeps_no_value_that_nothing_needs_any_more():
    frame, _ = outcomes_of(diamond({}), {"x": 1}, outputs="d")
    (a,) = frame.first()
    b, c = frame.settle(a, attempt(frame, a))
    assert len(frame.values) == 1
    frame.settle(b, attempt(frame, b))
    assert len(frame.values) == 2
    (d,) = frame.settle(c, attempt(frame, c))
    assert len(frame.values) == 2
    frame.settle(d, attempt(frame, d))
    assert len(frame.values) == 1
