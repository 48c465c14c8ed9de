"""The threads of a pool: what `concurrent.futures` promises, but for the end of the program."""

import threading
import time
from collections import Counter

import pytest

from hypernodes._engine.threads import DaemonThreads
from hypernodes._lending import place_lent

LIMIT = 30


@pytest.fixture
def pool():
    pool = DaemonThreads(3, "test")
    yield pool
    pool.shutdown()


def test_calls_run_beside_one_another_up_to_the_size(pool):
    barrier = threading.Barrier(3)
    found = [pool.submit(barrier.wait, LIMIT) for _ in range(3)]
    assert sorted(future.result(LIMIT) for future in found) == [0, 1, 2]


def test_no_more_threads_than_the_size_serve_any_number_of_calls(pool):
    names = [
        future.result(LIMIT)
        for future in [pool.submit(lambda: threading.current_thread().name) for _ in range(500)]
    ]
    assert {*names} <= {"test_0", "test_1", "test_2"}


def test_waiting_calls_get_all_threads_again_after_a_rush(pool):
    for future in [pool.submit(int) for _ in range(50)]:
        future.result(LIMIT)
    barrier = threading.Barrier(3)
    for future in [pool.submit(barrier.wait, LIMIT) for _ in range(3)]:
        future.result(LIMIT)


def test_what_a_call_raises_is_in_its_future(pool):
    def leave():
        raise SystemExit(3)

    assert isinstance(pool.submit(lambda: 1 / 0).exception(LIMIT), ZeroDivisionError)
    assert isinstance(pool.submit(leave).exception(LIMIT), SystemExit)
    assert pool.submit(lambda: 5).result(LIMIT) == 5


def test_closing_cancels_what_waits_and_waits_for_what_runs(pool):
    begun, release = threading.Semaphore(0), threading.Event()

    def work():
        begun.release()
        release.wait(LIMIT)
        return "done"

    running = [pool.submit(work) for _ in range(3)]
    for _ in running:
        assert begun.acquire(timeout=LIMIT)
    waiting = pool.submit(work)
    closing = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
    closing.start()
    while not waiting.cancelled():
        closing.join(0.01)
    assert closing.is_alive()
    release.set()
    closing.join(LIMIT)
    assert [future.result(LIMIT) for future in running] == ["done"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(int)


AFTER_A_FAILURE = """
import time
from hypernodes import Pipeline, RuntimeConfig, node

def work(x):
    if x == 0:
        raise ValueError("no")
    time.sleep(600)

config = RuntimeConfig(executor=%r)
try:
    Pipeline([node("y")(work)]).map({"x": range(4)}, map_over="x", config=config)
except ValueError:
    print("failed")
"""


@pytest.mark.parametrize("executor", ["thread", "async"])
def test_calls_that_nobody_wants_do_not_hold_up_the_end_of_the_program(run_script, executor):
    assert run_script(AFTER_A_FAILURE % executor).stdout == "failed\n"


AT_THE_END = """
import threading, time
from hypernodes import Pipeline, node

pipeline = Pipeline([node("y")(lambda x: time.sleep(0.01) or x)])
pipeline.map({"x": range(8)}, map_over="x")

def work():
    time.sleep(0.3)
    found = pipeline.map({"x": range(20)}, map_over="x")
    print(len(found))

threading.Thread(target=work).start()
"""


def test_a_map_in_a_thread_goes_on_when_the_main_thread_has_ended(run_script):
    assert run_script(AT_THE_END).stdout == "20\n"


def test_after_a_place_was_lent_no_more_threads_work_than_the_size():
    pool = DaemonThreads(1, "test")
    begun, release = threading.Event(), threading.Event()

    def waiting():
        with place_lent():
            begun.set()
            release.wait(LIMIT)

    waits = pool.submit(waiting)
    begun.wait(LIMIT)
    pool.submit(lambda: None).result(LIMIT)  # by another thread, meanwhile
    release.set()
    waits.result(LIMIT)
    counts, lock = Counter(), threading.Lock()

    def work():
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.005)
        with lock:
            counts["now"] -= 1

    for future in [pool.submit(work) for _ in range(12)]:
        future.result(LIMIT)
    pool.shutdown()

    assert counts["most"] == 1


def test_a_thread_that_took_what_came_just_then_is_not_counted_on_again():
    for _ in range(500):
        pool, begun, release = DaemonThreads(1, "test"), threading.Event(), threading.Event()

        def stuck(begun=begun, release=release):
            begun.set()
            release.wait(LIMIT)

        pool.submit(int).result(LIMIT)
        left = pool.submit(stuck)  # perhaps before the thread waits for it
        assert begun.wait(LIMIT)
        pool.replace(left)
        try:
            assert pool.submit(int).result(LIMIT / 2) == 0
        finally:
            release.set()
            pool.shutdown()
