"""The conformance suite itself: it passes what is right, and finds what is wrong."""

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from hypernodes import testing

pytest_plugins = ["pytester"]

EXECUTORS = '''
import threading

from hypernodes import Executor, Failure, SequentialExecutor

SEQUENTIAL = SequentialExecutor()
LOCK = threading.Lock()


class Correct(Executor):
    """Does nothing of its own."""

    def run_pipeline(self, pipeline, inputs, ctx, output_name=None):
        return SEQUENTIAL.run_pipeline(pipeline, inputs, ctx, output_name)

    def map_items(self, pipeline, items, inputs, ctx, output_name=None):
        return SEQUENTIAL.map_items(pipeline, items, inputs, ctx, output_name)


class DropsAnItem(Correct):
    def map_items(self, *args):
        return (o for i, o in enumerate(super().map_items(*args)) if i != 2)


class TurnsTheOrder(Correct):
    def map_items(self, *args):
        return reversed(list(super().map_items(*args)))


class TurnsTheOutputs(Correct):
    def run_pipeline(self, *args):
        return dict(reversed(super().run_pipeline(*args).items()))


class RunsTwice(Correct):
    def run_pipeline(self, *args):
        super().run_pipeline(*args)
        return super().run_pipeline(*args)


class RetriesByItself(Correct):
    def run_pipeline(self, *args):
        try:
            return super().run_pipeline(*args)
        except ValueError:
            return super().run_pipeline(*args)


class LosesTheType(Correct):
    def run_pipeline(self, *args):
        try:
            return super().run_pipeline(*args)
        except Exception as error:
            raise RuntimeError(str(error)) from None


class LosesTheNote(Correct):
    def run_pipeline(self, *args):
        try:
            return super().run_pipeline(*args)
        except Exception as error:
            raise type(error)(*error.args) from None


class CatchesEverything(Correct):
    def map_items(self, pipeline, items, inputs, ctx, output_name=None):
        for index, item in enumerate(items):
            try:
                yield self.run_pipeline(pipeline, {**inputs, **item}, ctx, output_name)
            except BaseException as error:
                yield Failure(error, index, inputs=item)


class ChangesInputs(Correct):
    def run_pipeline(self, pipeline, inputs, *args):
        found = super().run_pipeline(pipeline, inputs, *args)
        inputs.clear()
        return found


class TakesAllItems(Correct):
    def map_items(self, pipeline, items, *args):
        return super().map_items(pipeline, list(items), *args)


class GoesOnAfterAFailure(Correct):
    def map_items(self, *args):
        return iter(list(super().map_items(*args)))


class IgnoresTheConfig(Correct):
    def run_pipeline(self, pipeline, inputs, ctx, output_name=None):
        config = ctx.config.replace(executor="sequential", retries=0, timeout=None)
        return pipeline.run(inputs, output_name=output_name, config=config)


class WaitsForItself(Correct):
    def run_pipeline(self, *args):
        with LOCK:
            return super().run_pipeline(*args)


class CannotBeUsedAgain(Correct):
    def close(self):
        CLOSED.append(self)

    def run_pipeline(self, *args):
        assert self not in CLOSED
        return super().run_pipeline(*args)


CLOSED = []


class IgnoresCtrlC(Correct):
    def map_items(self, pipeline, items, inputs, ctx, output_name=None):
        items = list(items)
        while items:
            try:
                while items:
                    yield self.run_pipeline(pipeline, {**inputs, **items.pop(0)}, ctx, output_name)
            except KeyboardInterrupt:
                continue
'''
FINDINGS = {
    "DropsAnItem": "test_a_map_gives_what_the_sequential_executor_gives_in_the_same_order",
    "TurnsTheOrder": "test_results_come_in_the_order_of_the_items",
    "TurnsTheOutputs": "test_a_run_gives_what_the_sequential_executor_gives_in_the_same_order",
    "RunsTwice": "test_each_node_runs_once",
    "RetriesByItself": "test_a_node_is_tried_once_and_then_as_often_as_said",
    "LosesTheType": "test_an_error_surfaces_as_itself_with_a_note",
    "LosesTheNote": "test_an_error_surfaces_as_itself_with_a_note",
    "CatchesEverything": "test_what_is_no_exception_is_never_a_failure",
    "ChangesInputs": "test_the_inputs_of_the_caller_are_not_changed",
    "TakesAllItems": "test_a_bounded_number_of_items_is_taken_ahead",
    "GoesOnAfterAFailure": "test_the_first_failure_cancels_what_has_not_started",
    "IgnoresTheConfig": "test_a_node_is_tried_once_and_then_as_often_as_said",
    "CannotBeUsedAgain": "test_closing_twice_or_unopened_does_nothing",
    "IgnoresCtrlC": "test_ctrl_c_ends_the_run_and_the_program_soon",
    "WaitsForItself": "test_a_node_may_run_and_map_pipelines",
}
TESTS = """
import pytest
import mine
from hypernodes.testing import ExecutorConformance


@pytest.fixture
def executor(request):
    with request.param as executor:
        yield executor

"""
TEST = """
@pytest.mark.parametrize("executor", [mine.{name}()], indirect=True, ids=repr)
class Test{name}(ExecutorConformance):
    limit = {limit}
"""


@pytest.fixture
def suite(pytester):
    """Run the suite on executors of a third party, in a process of its own."""

    def run(*names, limit=30.0, tests=()):
        pytester.makepyfile(mine=EXECUTORS)
        classes = [TEST.format(name=name, limit=limit) for name in names]
        pytester.makepyfile(test_mine=TESTS + "".join(classes))
        options = ["-W", "error", "-rA", "-p", "no:cacheprovider"]
        chosen = [f"test_mine.py::Test{name}::{test}" for name, test in tests]
        return pytester.runpytest_subprocess(*options, *chosen, timeout=600)

    return run


@pytest.mark.slow
def test_a_correct_executor_passes(suite):
    found = suite("Correct").parseoutcomes()
    assert found.keys() == {"passed"}
    assert found["passed"] > 150


@pytest.mark.slow
def test_a_wrong_executor_fails(suite):
    found = suite(*FINDINGS, limit=2.0, tests=FINDINGS.items())
    failed = re.findall(r"^FAILED test_mine.py::Test(\w+)::(\w+)", found.stdout.str(), re.MULTILINE)
    assert FINDINGS.items() - set(failed) == set()
    found.stdout.re_match_lines([r"E .*assert .*== .*", r"E .*At index 2 diff.*"])
    found.stdout.fnmatch_lines(["*still running after 2.0 s*"])


def test_no_two_tests_have_one_name():
    for name in testing.__all__:
        kind = getattr(testing, name)
        defined = Counter(test for base in kind.__mro__ for test in vars(base) if "test_" in test)
        assert {test for test, count in defined.items() if count > 1} == set()
    tests = [
        {test for test in dir(getattr(testing, n)) if "test_" in test} for n in testing.__all__
    ]
    assert len(set.union(*tests)) == sum(map(len, tests))


def test_every_test_takes_its_config_from_the_fixture():
    """So whoever overrides it watches all of them; those of values and programs need none."""
    without = [
        test
        for name in testing.__all__
        for test, function in inspect.getmembers(getattr(testing, name), inspect.isfunction)
        if test.startswith("test_")
        if not {"config", "executor"} & inspect.signature(function).parameters.keys()
    ]
    assert without == []


def test_without_pytest_the_remedy_is_told(run_script):
    script = """
import sys
sys.modules["pytest"] = None
import hypernodes.testing
from hypernodes import MissingDependencyError
try:
    from hypernodes.testing import ExecutorConformance
except MissingDependencyError as error:
    print(error, error.extra)
"""
    told = run_script(script).stdout
    assert 'pip install "hypernodes[testing]"' in told
    assert told.endswith("testing\n")


def test_workers_that_import_the_suites_functions_go_without_pytest(run_script):
    run_script(
        "import sys, hypernodes.testing._work\nassert not {'pytest', '_pytest'} & {*sys.modules}"
    )


def test_unknown_names_are_no_names_of_the_module():
    with pytest.raises(AttributeError, match="NoSuchConformance"):
        testing.NoSuchConformance  # noqa: B018
    assert set(testing.__all__) <= set(dir(testing))


def test_its_page_names_every_class_and_limit():
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    limits = ["limit", "stop_within", "most_ahead"]
    fixtures = ["executor", "config", "folder"]
    missing = [n for n in (*testing.__all__, *limits, *fixtures) if f"`{n}`" not in page]
    assert missing == []
