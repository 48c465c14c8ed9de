"""Errors: one tree, facts, messages, pickling; and what becomes of the user's own exceptions."""

import copy
import dataclasses
import pickle
import re
import threading
import traceback

import cloudpickle
import pytest

import hypernodes
from hypernodes import (
    CacheError,
    CacheWarning,
    CallbackError,
    CycleError,
    DuplicateOutputError,
    Failure,
    HyperNodesError,
    InputError,
    MissingDependencyError,
    MissingInputError,
    NodeDefinitionError,
    NodeOutputError,
    NodeTimeoutError,
    Pipeline,
    PipelineDefinitionError,
    ResourceError,
    RetryPolicy,
    RuntimeConfig,
    SerializationError,
    TypeConflictError,
    UnknownInputError,
    WorkerCrashedError,
    node,
)

PARENTS = {
    HyperNodesError: (Exception,),
    PipelineDefinitionError: (HyperNodesError,),
    CycleError: (PipelineDefinitionError,),
    DuplicateOutputError: (PipelineDefinitionError,),
    NodeDefinitionError: (PipelineDefinitionError,),
    TypeConflictError: (PipelineDefinitionError,),
    InputError: (HyperNodesError, ValueError),
    MissingInputError: (InputError,),
    UnknownInputError: (InputError,),
    NodeOutputError: (HyperNodesError,),
    NodeTimeoutError: (HyperNodesError, TimeoutError),
    WorkerCrashedError: (HyperNodesError,),
    ResourceError: (HyperNodesError,),
    SerializationError: (HyperNodesError,),
    CacheError: (HyperNodesError,),
    CallbackError: (HyperNodesError,),
    MissingDependencyError: (HyperNodesError, ImportError),
    CacheWarning: (UserWarning,),
}
ERRORS = [kind for kind in PARENTS if issubclass(kind, HyperNodesError)]


# ---------------------------------------------------------------- the tree


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_error_stands_where_the_contract_has_it(kind):
    assert kind.__bases__ == PARENTS[kind]


def test_every_error_that_is_exported_is_in_the_tree():
    exported = [getattr(hypernodes, name) for name in hypernodes.__all__]
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds == set(PARENTS)


FACTS = {
    CycleError: {"cycle": ("a", "b", "a"), "node": None},
    DuplicateOutputError: {"outputs": ("a",), "nodes": ("f", "g")},
    NodeDefinitionError: {"node": "f"},
    PipelineDefinitionError: {"node": "f"},
    TypeConflictError: {"output": "a", "producer": "f", "consumer": "g"},
    InputError: {"name": "x", "node": "f"},
    MissingInputError: {"missing": ("x", "y"), "node": "f", "name": "x"},
    UnknownInputError: {"name": "xx", "suggestion": "x"},
    NodeOutputError: {"node": "f", "path": ("p", "f"), "expected": 2, "received": 3},
    NodeTimeoutError: {"node": "f", "path": ("p", "f"), "timeout": 1.5},
    WorkerCrashedError: {"node": "f", "path": ("p", "f"), "index": 3},
    ResourceError: {
        "node": "f",
        "resource": "num_gpu",
        "requested": 2,
        "available": 0,
        "suggestion": "num_gpus",
    },
    SerializationError: {"node": "f", "name": "x", "index": 2},
    CacheError: {"path": "somewhere"},
    CallbackError: {"callback": "Watcher", "hook": "on_node_end"},
    MissingDependencyError: {"extra": "dask"},
    HyperNodesError: {},
}


def assert_same(back, error):
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert getattr(back, "__notes__", []) == getattr(error, "__notes__", [])
    for name, value in FACTS[type(error)].items():
        assert getattr(back, name) == value


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_error_pickles_with_message_facts_and_notes(kind, protocol):
    error = kind("what happened", **FACTS[kind])
    error.add_note("a note")
    assert str(error) == "what happened"
    assert_same(error, error)
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)
    assert_same(cloudpickle.loads(cloudpickle.dumps(error)), error)
    assert_same(copy.copy(error), error)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_facts_are_there_when_nothing_is_known(kind):
    for name in FACTS[kind]:
        getattr(kind("what happened"), name)
        getattr(kind(), name)


def raised_by_us():
    """Every error that this part of the library raises of its own, as it is raised."""
    broken = node(("a", "b"))(lambda x: x)
    plain = Pipeline([node("y")(lambda x: x), node("z")(lambda y: y)], name="plain")
    released = threading.Event()
    sequential = RuntimeConfig(executor="sequential")
    yield CycleError, lambda: Pipeline([node("a")(lambda b: b), node("b")(lambda a: a)])
    yield DuplicateOutputError, lambda: Pipeline([node("a")(lambda: 1), node("a")(lambda: 2)])
    yield NodeDefinitionError, lambda: node("a")(lambda *rest: rest)
    yield PipelineDefinitionError, lambda: Pipeline([len])
    yield MissingInputError, lambda: plain.run({})
    yield UnknownInputError, lambda: plain.run({"x": 1, "zz": 1})
    yield InputError, lambda: plain.map({"x": "text"}, map_over="x")
    yield NodeOutputError, lambda: Pipeline([broken]).run({"x": [1]}, config=sequential)
    yield (
        NodeTimeoutError,
        lambda: Pipeline([node("slow", timeout=0.01)(lambda: released.wait(1))]).run(),
    )


@pytest.mark.parametrize(("kind", "raises"), list(raised_by_us()))
def test_error_that_was_raised_pickles_with_all_it_knows(kind, raises):
    with pytest.raises(kind) as caught:
        raises()
    assert type(caught.value) is kind
    back = pickle.loads(pickle.dumps(caught.value))
    assert type(back) is kind
    assert str(back) == str(caught.value)
    shown = {name for name in FACTS[kind] if getattr(caught.value, name) not in (None, (), 0)}
    assert shown
    for name in FACTS[kind]:
        assert getattr(back, name) == getattr(caught.value, name)


@pytest.mark.parametrize(
    ("raises", "words"),
    [
        (lambda: Pipeline([node("a")(lambda a: a)]), ["a -> a", "rename"]),
        (lambda: Pipeline([node("a")(lambda: 1)] * 2), ["'a'", "rename"]),
        (lambda: node("a")(lambda *rest: rest), ["*rest", "'a'", "write"]),
        (lambda: node(lambda x: x), ["output_name"]),
        (lambda: node("a", retries=-1)(len), ["retries=-1", "'len'", "0 or more"]),
        (lambda: Pipeline([len]), ["len", "@node"]),
        (lambda: Pipeline([node("y")(lambda x: x)]).run(), ["'x'", "'y'", "bind"]),
        (lambda: Pipeline([node("y")(lambda x: x)]).run({"xx": 1}), ["'xx'", "did you mean 'x'"]),
        (
            lambda: Pipeline([node("y")(lambda a, b: a)]).map(
                {"a": [1], "b": [1, 2]}, map_over=["a", "b"]
            ),
            ["length", "'a'", "1", "'b'", "2", "product"],
        ),
        (
            lambda: Pipeline([node("y")(lambda x: x)]).map({"x": "text"}, map_over="x"),
            ["'x'", "str", "list"],
        ),
        (
            lambda: Pipeline([node("y")(lambda x: x)]).map({"x": [1]}, map_over="x", map_mode="z"),
            ["map_mode='z'", "zip"],
        ),
        (lambda: Pipeline([node(("a", "b"))(lambda: 1)]).run(), ["2 outputs", "int", "tuple"]),
    ],
)
def test_message_says_what_where_and_what_to_do(raises, words):
    with pytest.raises(HyperNodesError) as caught:
        raises()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- the user's exceptions


class NeedsTwoError(Exception):
    """Cannot be made again from its `args`."""

    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


class OnlyKeywordsError(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code


@dataclasses.dataclass
class DataclassError(Exception):
    code: int
    reason: str


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class UnchangeableError(Exception):
    """Refuses every attribute that it does not know."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("not to be printed")

    __repr__ = __str__


class IncomparableError(Exception):
    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = None


class FalsyError(Exception):
    def __bool__(self):
        return False

    def __len__(self):
        return 0


THEIR_OWN = {
    "builtin": lambda: KeyError("missing"),
    "two arguments": lambda: NeedsTwoError(3, "because"),
    "only keywords": lambda: OnlyKeywordsError(code=3),
    "dataclass": lambda: DataclassError(3, "because"),
    "unprintable": UnprintableError,
    "equal to nothing": IncomparableError,
    "falsy": FalsyError,
    "group": lambda: ExceptionGroup("several", [KeyError(1), NeedsTwoError(3, "because")]),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "operating system": lambda: FileNotFoundError(2, "not there", "name"),
    "assertion": AssertionError,
    "of ours": lambda: HyperNodesError("raised by the user"),
    "stop": lambda: StopAsyncIteration("stop"),
    "recursion": lambda: RecursionError("deep"),
}
UNCHANGEABLE = {"frozen dataclass": lambda: FrozenError(3), "no new attributes": UnchangeableError}


def raising(make):
    def fails(x):
        raise make()

    return fails


@pytest.mark.parametrize(
    "make", (THEIR_OWN | UNCHANGEABLE).values(), ids=(THEIR_OWN | UNCHANGEABLE).keys()
)
@pytest.mark.parametrize("options", [{}, {"retries": 1}, {"timeout": 30.0}], ids=repr)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_users_exception_surfaces_as_the_object_it_is(make, kind, options, config):
    error = make()

    async def fails(x):
        raise error

    function = fails if kind == "async" else raising(lambda: error)
    pipeline = Pipeline([node(**options)(function)], name="p")
    with pytest.raises(type(error)) as caught:
        pipeline.run({"x": 1}, config=config)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        pipeline.map({"x": [1, 2]}, map_over="x", config=config)
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        list(pipeline.map_iter({"x": [1, 2]}, map_over="x", config=config))
    assert caught.value is error
    for failure in pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return"):
        assert failure.error is error


@pytest.mark.parametrize(
    "make", (THEIR_OWN | UNCHANGEABLE).values(), ids=(THEIR_OWN | UNCHANGEABLE).keys()
)
def test_users_exception_surfaces_from_nested_maps_and_other_executors(make, config):
    error = make()
    own = RuntimeConfig(executor={"kind": "thread", "max_workers": 2})
    inner = Pipeline([node("y")(raising(lambda: error))], name="inner", config=own)
    for made in (inner.as_node(), inner.as_node(map_over="x")):
        with pytest.raises(type(error)) as caught:
            Pipeline([made], name="outer", config=config).run({"x": [1, 2]})
        assert caught.value is error


def notes_of(error):
    return [note for note in error.__notes__ if "hypernodes" in note]


@pytest.mark.parametrize("make", THEIR_OWN.values(), ids=THEIR_OWN.keys())
def test_note_names_pipeline_and_node(make, config):
    pipeline = Pipeline([node(raising(make))], name="statistics")
    with pytest.raises(type(make())) as caught:
        pipeline.run({"x": 1}, config=config)
    (note,) = notes_of(caught.value)
    assert "'fails'" in note
    assert "statistics" in note
    assert "item" not in note


def test_note_names_the_path_through_nested_pipelines(config):
    inner = Pipeline([node(raising(ValueError))], name="inner")
    middle = Pipeline([inner.as_node(name="renamed")], name="middle")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no message
        Pipeline([middle], name="outer").run({"x": 1}, config=config)
    (note,) = notes_of(caught.value)
    assert re.search("outer.*middle.*renamed", note)
    assert "'fails'" in note


def test_note_names_the_item(config):
    pipeline = Pipeline([node("y")(lambda x: 1 // x)], name="p")
    with pytest.raises(ZeroDivisionError) as caught:
        pipeline.map({"x": [1, 2, 0, 3]}, map_over="x", config=config)
    (note,) = notes_of(caught.value)
    assert re.search(r"item 2\b", note)
    failures = pipeline.map({"x": [0] * 12}, map_over="x", config=config, on_error="return")
    for index, failure in enumerate(failures):
        assert re.search(rf"item {index}\b", notes_of(failure.error)[0])


@pytest.mark.parametrize("own", [None, "sequential", "thread"])
def test_notes_name_the_items_of_every_map_on_the_way(own, config):
    own = None if own is None else RuntimeConfig(executor=own)
    inner = Pipeline([node("y")(lambda x: 1 // x)], name="inner", config=own)
    middle = Pipeline([inner.as_node(map_over="x")], name="middle")
    outer = Pipeline([middle.as_node(map_over="x")], name="outer", config=config)
    with pytest.raises(ZeroDivisionError) as caught:
        outer.map({"x": [[[1]], [[1], [1], [1, 1, 1, 0]]]}, map_over="x")
    text = " ".join(notes_of(caught.value))
    for word in ("inner", "middle", "outer", "'y'", "item 1", "item 2", "item 3"):
        assert word in text


def test_note_is_there_under_a_config_of_the_nodes_own(config):
    own = RuntimeConfig(executor={"kind": "thread", "max_workers": 2})
    pipeline = Pipeline([node(config=own)(raising(ValueError))], name="p", config=config)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no message
        pipeline.map({"x": [1]}, map_over="x")
    text = " ".join(notes_of(caught.value))
    assert "'fails'" in text
    assert "item 0" in text
    assert text.count("'fails'") == 1


def test_notes_of_the_user_stay(config):
    def fails(x):
        error = ValueError("with notes")
        error.add_note("the user's note")
        raise error

    with pytest.raises(ValueError, match="with notes") as caught:
        Pipeline([node(fails)]).run({"x": 1}, config=config)
    assert caught.value.__notes__[0] == "the user's note"
    assert len(caught.value.__notes__) == 2


def test_traceback_reaches_the_users_line(config):
    def innermost(x):
        raise ValueError("deep down")

    def fails(x):
        return innermost(x)

    pipeline = Pipeline([node(fails), node("b")(lambda fails: 0), node("c")(lambda x: x)])
    with pytest.raises(ValueError, match="deep down") as caught:
        pipeline.map({"x": range(4)}, map_over="x", config=config)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-2:] == ["fails", "innermost"]
    assert "deep down" in "".join(traceback.format_exception(caught.value))


def test_cause_and_context_of_the_user_stay(config):
    def fails(x):
        try:
            return {}[x]
        except KeyError as error:
            raise ValueError("effect") from error

    for retries in (0, 2):
        with pytest.raises(ValueError, match="effect") as caught:
            Pipeline([node(retries=retries)(fails)]).run({"x": 1}, config=config)
        assert isinstance(caught.value.__cause__, KeyError)


def test_exception_without_cause_gets_none(config):
    for options in ({}, {"retries": 2}, {"timeout": 30.0}):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no message
            Pipeline([node(**options)(raising(ValueError))]).run({"x": 1}, config=config)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_same_exception_raised_again_does_not_gather_the_same_notes(config):
    error = ValueError("always the same")
    pipeline = Pipeline([node(raising(lambda: error))], name="p")
    for _ in range(3):
        with pytest.raises(ValueError, match="always the same"):
            pipeline.run({"x": 1}, config=config)
    assert len(notes_of(error)) == 1


def test_same_exception_from_another_node_names_that_node(config):
    error = ValueError("always the same")

    names = {"one": ("a", 1), "two": ("b", 2)}
    for name, (output, retries) in names.items():

        def fails(x):
            raise error

        fails.__name__ = name
        pipeline = Pipeline([node(output, retries=retries)(fails)], name="p")
        (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
        assert (failure.node, failure.attempts) == (name, retries + 1)


def test_many_items_that_raise_one_exception_each_have_their_place(config):
    error = ValueError("always the same")
    pipeline = Pipeline([node(raising(lambda: error))], name="p")
    failures = pipeline.map({"x": range(50)}, map_over="x", config=config, on_error="return")
    assert [failure.index for failure in failures] == list(range(50))
    assert [dict(failure.inputs) for failure in failures] == [{"x": x} for x in range(50)]


def test_error_of_a_pipeline_that_a_node_calls_names_both(config):
    inner = Pipeline([node("z")(lambda x: 1 // x)], name="inner")

    def calls(x):
        return inner.run({"x": x}, config=config)

    with pytest.raises(ZeroDivisionError) as caught:
        Pipeline([node(calls)], name="outer").map({"x": [1, 0]}, map_over="x", config=config)
    text = " ".join(notes_of(caught.value))
    for word in ("'z'", "inner", "'calls'", "outer", "item 1"):
        assert word in text
    (failure,) = Pipeline([node(calls)], name="outer").map(
        {"x": [0]}, map_over="x", config=config, on_error="return"
    )
    assert (failure.node, failure.path) == ("calls", ("outer", "calls"))


def test_error_of_a_pipeline_of_the_same_name_that_a_node_calls_is_told_apart(config):
    inner = Pipeline([node("z")(lambda x: 1 // x)])

    def calls(x):
        return inner.run({"x": x})

    own = RuntimeConfig(executor={"kind": "thread", "max_workers": 2})
    outer = Pipeline([node("y", config=own)(calls)])
    (failure,) = outer.map({"x": [0]}, map_over="x", on_error="return")
    assert (failure.node, failure.path) == ("calls", ("pipeline", "calls"))


def test_error_that_a_node_catches_and_hands_on_is_that_nodes(config):
    def fails(x):
        raise KeyError("first")

    inner = Pipeline([node(fails)], name="inner")

    def tries(x):
        try:
            return inner.run({"x": x}, config=config)
        except KeyError as error:
            return error

    def raises(tries):
        raise tries

    pipeline = Pipeline([node(tries), node(raises)], name="outer")
    (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
    assert (failure.node, failure.path) == ("raises", ("outer", "raises"))


def test_failure_is_a_value_that_cannot_be_changed(config):
    (failure,) = Pipeline([node(raising(ValueError))]).map(
        {"x": [1]}, map_over="x", config=config, on_error="return"
    )
    with pytest.raises(AttributeError):
        failure.index = 5
    assert "fails" in repr(failure)


def test_failure_pickles(config):
    (failure,) = Pipeline([node(raising(lambda: ValueError("text")))], name="p").map(
        {"x": [7]}, map_over="x", config=config, on_error="return"
    )
    back = pickle.loads(pickle.dumps(failure))
    assert isinstance(back, Failure)
    assert (back.index, back.node, back.path) == (0, "fails", ("p", "fails"))
    assert dict(back.inputs) == {"x": 7}
    assert (str(back.error), back.error.__notes__) == ("text", failure.error.__notes__)


# ---------------------------------------------------------------- what is no Exception


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, BaseException, GeneratorExit])
class TestBaseExceptions:
    """They end the run as themselves, whatever was asked for."""

    def fails(self, error):
        def function(x):
            if x == 3:
                raise error("out")
            return x

        return Pipeline([node("y")(function), node("z")(lambda y: y), node("w")(lambda x: x)])

    def test_run_ends(self, error, config):
        with pytest.raises(error, match="out"):
            self.fails(error).run({"x": 3}, config=config)

    @pytest.mark.parametrize("on_error", ["raise", "return"])
    @pytest.mark.parametrize("items", [[3], range(40)], ids=["one", "many"])
    def test_map_ends_without_a_failure(self, error, items, on_error, config):
        pipeline = self.fails(error)
        with pytest.raises(error, match="out"):
            pipeline.map({"x": items}, map_over="x", on_error=on_error, config=config)

    def test_map_iter_ends(self, error, config):
        results = self.fails(error).map_iter(
            {"x": range(40)}, map_over="x", on_error="return", config=config
        )
        with pytest.raises(error, match="out"):
            list(results)
        with pytest.raises(StopIteration):
            next(results)

    def test_nested_map_ends(self, error, config):
        outer = Pipeline([self.fails(error).as_node(map_over="x")])
        with pytest.raises(error, match="out"):
            outer.map({"x": [[1], [2, 3], [4]]}, map_over="x", on_error="return", config=config)

    def test_node_elsewhere_ends_the_run(self, error, config):
        own = RuntimeConfig(executor={"kind": "thread", "max_workers": 2})
        inner = self.fails(error).with_config(own)
        outer = Pipeline([inner, node("v")(lambda x: x)], config=config)
        with pytest.raises(error, match="out"):
            outer.map({"x": range(8)}, map_over="x", on_error="return")

    def test_everything_works_afterwards(self, error, config):
        pipeline = self.fails(error)
        for _ in range(3):
            with pytest.raises(error, match="out"):
                pipeline.map({"x": range(40)}, map_over="x", config=config)
        found = pipeline.map({"x": [1, 2, 4]}, map_over="x", config=config)
        assert [outputs["z"] for outputs in found] == [1, 2, 4]


# ---------------------------------------------------------------- StopIteration


def stops(x):
    raise StopIteration("lost?")


stopping = Pipeline([node(stops)], name="stopping")


@pytest.mark.parametrize("options", [{}, {"retries": 1}, {"timeout": 30.0}], ids=repr)
def test_stop_iteration_of_a_node_is_raised_by_run_and_map(options, config):
    pipeline = Pipeline([node(**options)(stops)])
    with pytest.raises(StopIteration, match="lost"):
        pipeline.run({"x": 1}, config=config)
    with pytest.raises(StopIteration, match="lost"):
        pipeline.map({"x": [1, 2]}, map_over="x", config=config)


def test_stop_iteration_of_a_node_becomes_a_failure(config):
    found = stopping.map({"x": range(5)}, map_over="x", on_error="return", config=config)
    assert [type(failure.error) for failure in found] == [StopIteration] * 5
    found = list(stopping.map_iter({"x": range(5)}, map_over="x", on_error="return", config=config))
    assert [type(failure.error) for failure in found] == [StopIteration] * 5


def test_stop_iteration_of_a_node_does_not_end_map_iter_silently(config):
    results = stopping.map_iter({"x": range(5)}, map_over="x", config=config)
    with pytest.raises((RuntimeError, StopIteration)) as caught:
        for _ in results:
            pass
    assert "lost?" in "".join(traceback.format_exception(caught.value))


def test_stop_iteration_of_a_node_in_a_nested_map_surfaces(config):
    outer = Pipeline([stopping.as_node(map_over="x")], name="outer")
    with pytest.raises(StopIteration, match="lost"):
        outer.run({"x": [1, 2]}, config=config)
    (failure,) = outer.map({"x": [[1]]}, map_over="x", on_error="return", config=config)
    assert isinstance(failure.error, StopIteration)


def test_stop_iteration_is_retried_like_any_other(config):
    calls = []

    def function(x):
        calls.append(x)
        if len(calls) < 3:
            raise StopIteration
        return x

    policy = RetryPolicy(max_retries=2, initial_delay=0)
    assert Pipeline([node("y", retries=policy)(function)]).run({"x": 1}, config=config) == {"y": 1}


def test_missing_input_that_is_nearly_an_output_comes_with_its_name():
    pipeline = Pipeline([node("words")(lambda text: 1), node("count")(lambda word: 1)])

    with pytest.raises(MissingInputError, match="did you mean the output 'words'"):
        pipeline.run({"text": "a b"})


def test_node_that_takes_what_it_makes_is_called_by_its_name():
    with pytest.raises(CycleError, match="node 'clean' takes and makes 'df'") as caught:
        Pipeline([node("df")(clean)])
    assert caught.value.cycle == ("clean", "clean")


def clean(df):
    return df
