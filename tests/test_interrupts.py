"""Ctrl-C at any moment of a run: it ends the run, is never lost, and leaves no lock taken."""

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from hypernodes import Pipeline, RuntimeConfig, ThreadPoolExecutor, node
from hypernodes._engine.interrupts import Deferral

EVERYWHERE = """
    import dis, faulthandler, signal, sys, time
    from hypernodes import *

    def work(x: int) -> int:
        time.sleep(0.0005)
        return x

    def chain(name):
        return [
            node(f"{name}{step}")(work).rename(inputs={"x": f"{name}{step - 1}" if step else "x"})
            for step in range(3)
        ]

    executor = EXECUTORS[sys.argv[1]]()
    chains = Pipeline([*chain("a"), *chain("b")])
    one = Pipeline([node("y")(work)])
    config = RuntimeConfig(executor=executor)

    def go():
        if sys.argv[2] == "run":
            return chains.run({"x": 1}, config=config)
        return one.map({"x": range(8)}, map_over="x", config=config)

    expected = go()

    # Where the interpreter looks for signals.
    LOOKS = {"RESUME", "JUMP_BACKWARD", "CALL", "CALL_FUNCTION_EX"}
    names, last = {}, {}
    passed, chosen = 0, None

    def step(frame, event, arg):
        global passed
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "return":
            last.pop(frame, None)
        if event == "opcode":
            code = frame.f_code
            if code not in names:
                names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
            before, last[frame] = last.get(frame), names[code].get(frame.f_lasti)
            if before in LOOKS:
                passed += 1
                if passed == chosen:
                    signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)
        return step

    def traced(number):
        global passed, chosen
        passed, chosen = 0, number
        last.clear()
        sys.settrace(step)
        try:
            go()
        finally:
            sys.settrace(None)

    traced(None)
    count = passed
    for place in range(1, count, max(1, count // 200)):
        faulthandler.dump_traceback_later(60, exit=True)
        try:
            traced(place)
            while passed >= place:  # it was put off, and comes now
                time.sleep(1)
        except KeyboardInterrupt:
            pass
        assert go() == expected, place
        faulthandler.cancel_dump_traceback_later()
    print("everywhere")
"""


@pytest.mark.parametrize("way", ["run", "map"])
@pytest.mark.parametrize("kind", ["threads", "processes", "composite"])
def test_an_interrupt_anywhere_in_a_run_ends_it_and_the_next_run_is_fine(kind, way):
    executors = """
    EXECUTORS = {
        "threads": lambda: ThreadPoolExecutor(max_workers=2),
        "processes": lambda: ProcessPoolExecutor(max_workers=2),
        "composite": lambda: CompositeExecutor(
            map_executor=ProcessPoolExecutor(max_workers=2),
            node_executor=ThreadPoolExecutor(max_workers=2),
        ),
    }
    """
    script = textwrap.dedent(EVERYWHERE).replace(
        "\ndef work", textwrap.dedent(executors) + "\ndef work", 1
    )
    done = subprocess.run(
        [sys.executable, "-c", script, kind, way],
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "everywhere\n"), done.stderr[-4000:]
    assert "Exception ignored" not in done.stderr


@pytest.fixture
def two_nodes():
    def pipeline(function):
        return Pipeline([node("y")(function), node("z")(lambda y: y)])

    return pipeline


CONFIG = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))


def test_the_handler_of_the_program_stays_in_force(two_nodes):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        found = two_nodes(lambda x: signal.raise_signal(signal.SIGINT) or x).run(
            {"x": 1}, config=CONFIG
        )
        assert found["z"] == 1
        assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_after_runs_and_maps_interrupts_come_as_before(two_nodes):
    before = signal.getsignal(signal.SIGINT)
    pipeline = two_nodes(lambda x: x)
    results = pipeline.map_iter({"x": range(100)}, map_over="x", config=CONFIG)
    next(results)
    pipeline.run({"x": 1}, config=CONFIG)
    results.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_between_the_results_of_a_map_an_interrupt_is_the_callers(two_nodes):
    results = two_nodes(lambda x: x).map_iter({"x": range(100)}, map_over="x", config=CONFIG)
    next(results)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert len(list(results)) == 99


def test_other_threads_change_no_handler():
    before = signal.getsignal(signal.SIGINT)
    found = []

    def look():
        with Deferral():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_map_that_another_thread_ends_leaves_interrupts_to_the_program(two_nodes):
    before = signal.getsignal(signal.SIGINT)
    pipeline, found = two_nodes(lambda x: x), []
    results = pipeline.map_iter({"x": range(100)}, map_over="x", config=CONFIG)
    next(results)
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    thread.join()
    assert len(found) == 99
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    pipeline.map({"x": range(9)}, map_over="x", config=CONFIG)
    assert signal.getsignal(signal.SIGINT) is before
