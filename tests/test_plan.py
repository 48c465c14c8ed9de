"""From a pipeline, the outputs asked for and the inputs given to steps, and to one function."""

from __future__ import annotations

import threading
import time
import traceback
from concurrent import futures

import pytest

from hypernodes import (
    MissingInputError,
    Pipeline,
    RunContext,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)
from hypernodes._engine.program import Program

SEQUENTIAL = RuntimeConfig(executor=SequentialExecutor())
THREADS = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=4))
HERE = RunContext(SEQUENTIAL, path=("p",))


def names(engine):
    """Return the outputs of the steps, in order."""
    return [" ".join(step.node.output_names) for step in engine.plan.steps]


def chain(length):
    """Return nodes n1 to n`length`, each of which adds 1 to the one before; n0 is the input."""
    return [node(f"n{i + 1}")(lambda v: v + 1).rename(inputs={"v": f"n{i}"}) for i in range(length)]


# ---------------------------------------------------------------- steps


def test_only_what_is_asked_for_has_steps_each_after_what_it_needs():
    pipeline = Pipeline(
        [
            node("d")(lambda b, c: 0),
            node("unused")(lambda a: 0),
            node("c")(lambda a: 0),
            node("b")(lambda a: 0),
            node("a")(lambda x: 0),
        ]
    )

    found = names(pipeline.engine(["x"], HERE, "d"))

    assert sorted(found) == ["a", "b", "c", "d"]
    assert found[0] == "a"
    assert found[-1] == "d"


def test_a_given_output_cuts_off_what_only_it_needed():
    pipeline = Pipeline([*chain(5)])

    assert names(pipeline.engine(["n2"], HERE, "n4")) == ["n3", "n4"]


def test_shared_and_own_inputs_are_told_apart():
    pipeline = Pipeline([node("y")(lambda a, b, c=1: 0)])

    plan = pipeline.engine(["a"], HERE, None, ("b",)).plan

    assert [*plan.shared] == ["a"]
    assert [*plan.mapped] == ["b"]


def test_inputs_that_nothing_needs_take_no_place():
    pipeline = Pipeline([node("y")(lambda a: 0), node("z")(lambda b: 0)])

    plan = pipeline.engine(["a", "b"], HERE, "z", ("a",)).plan

    assert [*plan.shared] == ["b"]
    assert plan.mapped == {}


def test_bound_values_are_constants_and_a_given_value_wins():
    pipeline = Pipeline([node("y")(lambda a, b: (a, b))]).bind(a=1, b=2)

    assert sorted(pipeline.engine([], HERE).plan.constants.values()) == [1, 2]
    assert sorted(pipeline.engine(["b"], HERE).plan.constants.values()) == [1]
    assert pipeline.run({"b": 5}, config=SEQUENTIAL) == {"y": (1, 5)}


def test_a_bound_value_of_a_nested_pipeline_yields_to_one_of_the_pipeline_around():
    inner = Pipeline([node("y")(lambda a, b, c: (a, b, c))], name="inner").bind(a=1, b=1, c=1)
    made = node("b")(lambda: 2)

    outer = Pipeline([inner, made]).bind(c=3)

    assert outer.run(config=SEQUENTIAL, output_name="y") == {"y": (1, 2, 3)}
    assert outer.run({"a": 4, "c": 4}, config=SEQUENTIAL, output_name="y") == {"y": (4, 2, 4)}


def test_a_default_before_a_parameter_that_goes_by_position_is_a_constant():
    @node
    def y(a, b=7, c=8, /, d=9, *, e=10):
        return a, b, c, d, e

    pipeline = Pipeline([y])

    assert [*pipeline.engine(["a", "c"], HERE).plan.constants.values()] == [7]
    assert pipeline.run({"a": 1, "c": 3}, config=SEQUENTIAL) == {"y": (1, 7, 3, 9, 10)}
    assert pipeline.run({"a": 1, "e": 5}, config=SEQUENTIAL) == {"y": (1, 7, 8, 9, 5)}


def test_a_default_that_is_left_out_lets_those_after_it_go_by_name():
    @node
    def y(a, b=7, c=8, *, d=9):
        return a, b, c, d

    for config in (SEQUENTIAL, THREADS):
        assert Pipeline([y]).run({"a": 1, "c": 3}, config=config) == {"y": (1, 7, 3, 9)}
        assert Pipeline([y.rename(inputs={"c": "b", "b": "c"})]).run(
            {"a": 1, "b": 3}, config=config
        ) == {"y": (1, 7, 3, 9)}


def test_a_changeable_default_is_the_very_object_that_python_would_pass():
    kept = []

    @node
    def y(a=kept, /, b=1):
        return a

    assert Pipeline([y]).run({"b": 2}, config=SEQUENTIAL)["y"] is kept


def test_results_come_in_the_order_in_which_they_are_asked_for():
    pipeline = Pipeline(chain(3))

    plan = pipeline.engine(["n0"], HERE, ["n3", "n1", "n3"]).plan

    assert [*plan.results] == ["n3", "n1"]


def test_a_value_is_counted_for_each_argument_that_it_is():
    pair = node(output_name=("a", "b"))(lambda x: (x, x))
    both = node("y")(lambda a, c, d: (a, c, d)).rename(inputs={"c": "b"})
    pipeline = Pipeline([pair, both, node("z")(lambda a: a)])

    plan = pipeline.engine(["x", "d"], HERE, ["y", "z", "b"]).plan
    slots = dict(zip(("a", "b"), plan.steps[0].outputs, strict=True))

    assert plan.uses()[slots["a"]] == 2
    assert plan.uses()[slots["b"]] == 2


@pytest.mark.parametrize("config", [SEQUENTIAL, THREADS], ids=str)
def test_one_value_may_reach_a_nested_step_by_several_ways(config):
    pair = Pipeline([node("s")(lambda p, q: p + q)], name="pair")
    twice = pair.as_node(input_mapping={"x": "p", "y": "q"})

    found = Pipeline([node("y")(lambda x: x), twice, node("t")(lambda s, y: s + y)]).run(
        {"x": 2}, config=config
    )

    assert found == {"y": 2, "s": 4, "t": 6}


# ---------------------------------------------------------------- nested pipelines


def test_nested_pipelines_dissolve_and_their_steps_know_where_they_stand():
    innermost = Pipeline([node("c")(lambda b: b)], name="innermost")
    inner = Pipeline([node("b")(lambda a: a), innermost], name="inner")
    outer = Pipeline([node("a")(lambda x: x), inner], name="outer")

    plan = outer.engine(["x"], RunContext(SEQUENTIAL, path=("outer",))).plan

    assert [step.path for step in plan.steps] == [
        ("outer", "a"),
        ("outer", "inner", "b"),
        ("outer", "inner", "innermost", "c"),
    ]
    assert all(step.inner is None for step in plan.steps)


def test_a_mapped_pipeline_is_one_step_with_a_plan_inside_for_what_is_wanted_of_it():
    inner = Pipeline(
        [node("b")(lambda a, k: a * k), node("c")(lambda b: b), node("d")(lambda a, m: a)],
        name="inner",
    )
    outer = Pipeline([inner.as_node(map_over="a")])

    (step,) = outer.engine(["a", "k"], HERE, "c").plan.steps

    assert step.inner.inputs == ("a", "k")
    assert step.inner.outputs == ("c",)
    assert names(step.inner.engine(["k"])) == ["b", "c"]


def test_what_runs_on_another_executor_is_a_step_with_a_plan_inside():
    away = node("y", config=THREADS)(lambda a, b=2: (a, b))

    (step,) = Pipeline([away]).engine(["a"], HERE).plan.steps

    assert step.inner.elsewhere
    assert step.inner.inputs == ("a",)
    assert step.config == THREADS


def test_a_config_of_the_call_leaves_nothing_elsewhere():
    away = node("y", config=THREADS)(lambda a: a)
    inner = Pipeline([away], name="inner", config=THREADS)

    (step,) = Pipeline([inner]).engine(["a"], RunContext(SEQUENTIAL, pinned=True)).plan.steps

    assert step.inner is None
    assert step.config == SEQUENTIAL


# ---------------------------------------------------------------- what is missing


def missing(pipeline, inputs=None, **options):
    with pytest.raises(MissingInputError) as caught:
        pipeline.run(inputs or {}, config=options.pop("config", None), **options)
    return caught.value


def test_all_that_is_missing_is_named_with_a_node_that_needs_it():
    pipeline = Pipeline([node("y")(lambda a, b, c=1: 0), node("z")(lambda y, d: 0)], name="letters")

    error = missing(pipeline, {"a": 1})

    assert set(error.missing) == {"b", "d"}
    assert "needed by node 'y' of pipeline 'letters'" in str(error)
    assert "needed by node 'z' of pipeline 'letters'" in str(error)
    assert error.node in {"y", "z"}


def test_what_is_missing_in_a_nested_pipeline_is_named_as_outside():
    inner = Pipeline([node("y")(lambda a: a)], name="inner")
    middle = Pipeline([inner.as_node(input_mapping={"b": "a"})], name="middle")
    outer = Pipeline([middle.as_node(input_mapping={"c": "b"})], name="outer")

    error = missing(outer)

    assert error.missing == ("c",)
    assert "pipeline 'outer > middle > inner'" in str(error)


@pytest.mark.parametrize("how", ["here", "mapped", "elsewhere"])
def test_what_is_missing_further_up_is_named_beside_what_is_missing_in_a_nested_pipeline(how):
    inner = Pipeline([node("y")(lambda a, b, m: 0)], name="inner")
    inner = inner.with_config(THREADS) if how == "elsewhere" else inner
    nested = inner.as_node(map_over="m" if how == "mapped" else None)
    outer = Pipeline([node("a")(lambda x: x), nested], config=SEQUENTIAL)

    assert set(missing(outer, {"m": [1]}).missing) == {"b", "x"}
    assert set(missing(outer, output_name="y").missing) == {"b", "x", "m"}
    assert outer.required_args == ("x", "b", "m")


def test_a_mapped_input_is_required_though_its_parameter_has_a_default():
    inner = Pipeline([node("y")(lambda a=1: a)], name="inner")
    outer = Pipeline([inner.as_node(map_over="a")])

    assert missing(outer).missing == ("a",)
    assert outer.required_args == ("a",)
    assert outer.bind(a=[1, 2]).run() == {"y": [1, 2]}


def test_a_mapped_input_that_is_bound_inside_is_not_required():
    inner = Pipeline([node("y")(lambda a: a)], name="inner").bind(a=[1, 2])
    outer = Pipeline([inner.as_node(input_mapping={"b": "a"}, map_over="b")])

    assert outer.required_args == ()
    assert outer.run() == {"y": [1, 2]}
    assert outer.run({"b": [3]}) == {"y": [3]}


def test_a_failed_compilation_runs_nothing_and_leaves_nothing_behind():
    calls = []
    pipeline = Pipeline(
        [node("y")(calls.append).rename(inputs={"object": "a"}), node("z")(lambda y, b: b)]
    )

    for _ in range(2):
        missing(pipeline, {"a": 1})
    assert calls == []
    assert pipeline.run({"a": 1, "b": 2})["z"] == 2


# ---------------------------------------------------------------- plans are reused


def test_equal_requests_share_a_plan_and_others_have_their_own():
    pipeline = Pipeline([node("y")(lambda a, b=1: a), node("z")(lambda y: y)])
    engine = pipeline.engine(["a"], HERE)
    others = [
        pipeline.engine(["a", "b"], HERE),
        pipeline.engine(["a"], HERE, "y"),
        pipeline.engine(["a"], HERE, ("y",)),
        pipeline.engine(["a"], HERE, None, ("b",)),
        pipeline.engine(["a"], RunContext(THREADS, path=("p",))),
        pipeline.engine(["a"], RunContext(SEQUENTIAL, path=("q",))),
        pipeline.engine(["a"], RunContext(SEQUENTIAL, pinned=True, path=("p",))),
    ]

    assert pipeline.engine({"a": 1}, RunContext(SEQUENTIAL, path=("p",))) is engine
    assert engine not in others
    assert pipeline.bind(b=2).engine(["a"], HERE) is not engine


def test_the_number_of_plans_that_are_kept_is_bounded():
    pipeline = Pipeline(chain(2))

    for number in range(2000):
        pipeline.engine(["n0"], RunContext(SEQUENTIAL, path=(f"p{number}",)))

    assert len(pipeline._engines) <= 200


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("config", [SEQUENTIAL, THREADS], ids=str)
def test_a_chain_of_thousands_needs_no_recursion(config):
    pipeline = Pipeline([*reversed(chain(3000)), node("beside")(lambda n0: n0)])

    assert pipeline.run({"n0": 0}, output_name=["n3000", "beside"], config=config) == {
        "n3000": 3000,
        "beside": 0,
    }


@pytest.mark.parametrize("config", [SEQUENTIAL, THREADS], ids=str)
def test_a_step_may_have_thousands_of_neighbours(config):
    count = 2000
    wide = [node(f"n{i}")(lambda x, i=i: x + i) for i in range(count)]
    wide = [each.rename(inputs={"i": f"i{number}"}) for number, each in enumerate(wide)]

    found = Pipeline(wide).run({"x": 1}, config=config)

    assert found == {f"n{i}": 1 + i for i in range(count)}


@pytest.mark.parametrize("mapped", [False, True])
def test_nesting_may_be_deep(mapped):
    depth = 60
    pipeline = Pipeline([node("y")(lambda x: x + 1)], name="level")
    value = 1
    for _ in range(depth):
        inner = pipeline.as_node(map_over="x" if mapped else None)
        pipeline = Pipeline([inner], name="level")
        value = [value] if mapped else value
    right = value
    for _ in range(depth if mapped else 0):
        right = right[0]

    found = pipeline.run({"x": value}, config=SEQUENTIAL)["y"]

    for _ in range(depth if mapped else 0):
        (found,) = found
    assert found == right + 1


def test_the_cost_of_a_plan_does_not_explode_with_the_depth_of_mapped_pipelines():
    pipeline = Pipeline([node(f"y{i}")(lambda x: x) for i in range(4)], name="level")
    for _ in range(8):
        pipeline = Pipeline([pipeline.as_node(map_over="x")], name="level")

    value = 1
    for _ in range(8):
        value = [value]

    start = time.perf_counter()
    assert pipeline.required_args == ("x",)
    found = pipeline.run({"x": value}, config=SEQUENTIAL)
    elapsed = time.perf_counter() - start

    assert found == dict.fromkeys(pipeline.output_names, value)
    assert elapsed < 20


# ---------------------------------------------------------------- the plan as one function


def lines_of(error):
    return "".join(traceback.format_exception(error))


def test_a_traceback_shows_the_step_in_the_words_of_the_user():
    @node(output_name=("low", "high"))
    def bounds(values, factor=1):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        Pipeline([node("values")(lambda x: x), bounds]).run({"x": 1}, config=SEQUENTIAL)

    shown = lines_of(caught.value)
    assert "low, high = bounds(values, factor)\n" in shown
    assert "v1" not in shown


class NamedError(Exception):
    pass


@pytest.mark.parametrize("config", [SEQUENTIAL, THREADS], ids=str)
@pytest.mark.parametrize("number", range(5))
def test_an_error_names_its_node_whatever_line_it_came_from(number, config):
    nodes = [
        node(f"a{index}")(maker) for index, maker in enumerate(failing_functions(number, count=5))
    ]
    pipeline = Pipeline(nodes, name="five").bind(k=3)

    with pytest.raises(NamedError) as caught:
        pipeline.run({"x": 1, "m": 2}, config=config)
    assert caught.value.__notes__ == [f"hypernodes: in node 'fun{number}' of pipeline 'five'"]
    found = pipeline.map({"x": 1, "m": [1, 2]}, map_over="m", config=config, on_error="return")
    assert [(failure.node, failure.path) for failure in found] == [
        (f"fun{number}", ("five", f"fun{number}"))
    ] * 2


def failing_functions(number, *, count):
    """Return functions fun0, fun1, ..., each taking the one before, with all kinds of arguments."""
    space = {"NamedError": NamedError}
    for index in range(count):
        before = f"a{index - 1}" if index else "x"
        body = f"raise NamedError({index})" if index == number else f"return {index}"
        extra = "" if before == "x" else ", *, x"
        source = f"def fun{index}({before}, unset=0, m=0, /, k=0{extra}): {body}"
        exec(source, space)  # noqa: S102 - one function for each line of the plan
    return [space[f"fun{index}"] for index in range(count)]


@pytest.mark.parametrize("config", [SEQUENTIAL, THREADS], ids=str)
def test_one_exception_that_several_nodes_raise_names_the_one_that_raised_it_last(config):
    kept = NamedError("always the same")

    def fail(x):
        raise kept

    def first(x):
        return fail(x) if x == 1 else x

    def second(first):
        return fail(first) if first == 2 else first

    def third(second):
        return fail(second)

    pipeline = Pipeline([node(first), node(second), node(third)])

    for x, name in [(1, "first"), (2, "second"), (3, "third"), (2, "second"), (1, "first")]:
        (failure,) = pipeline.map({"x": [x]}, map_over="x", config=config, on_error="return")
        assert failure.error is kept
        assert failure.node == name


def test_an_error_in_a_pipeline_that_a_node_runs_names_both_nodes():
    def deepest(x):
        raise NamedError

    inner = Pipeline([node(deepest)], name="inner")

    def caller(x):
        return inner.run({"x": x}, config=SEQUENTIAL)

    outer = Pipeline([node("before")(lambda x: x), node(caller)], name="outer")

    with pytest.raises(NamedError) as caught:
        outer.run({"x": 1}, config=SEQUENTIAL)
    assert caught.value.__notes__ == [
        "hypernodes: in node 'deepest' of pipeline 'inner'",
        "hypernodes: in node 'caller' of pipeline 'outer'",
    ]


def test_a_node_may_run_the_pipeline_that_it_belongs_to():
    def factorial(x):
        return 1 if x == 0 else x * pipeline.run({"x": x - 1}, config=SEQUENTIAL)["factorial"]

    pipeline = Pipeline([node(factorial)])

    assert pipeline.run({"x": 10}, config=SEQUENTIAL) == {"factorial": 3628800}


@pytest.mark.parametrize("kind", [KeyError, StopIteration, StopAsyncIteration, NameError])
def test_errors_that_python_itself_uses_are_the_users_when_the_user_raises_them(kind):
    def fail(x):
        raise kind("x")

    pipeline = Pipeline([node(fail)])

    for config in (SEQUENTIAL, THREADS):
        with pytest.raises(kind):
            pipeline.run({"x": 1}, config=config)
        (failure,) = pipeline.map({"x": [1]}, map_over="x", config=config, on_error="return")
        assert type(failure.error) is kind
        assert failure.node == "fail"


def test_names_that_are_no_identifiers_are_inputs_and_outputs_like_others():
    odd = node("out put")(lambda a: a + 1).rename(inputs={"a": "in'put\"\n"})
    pipeline = Pipeline([odd, node("class")(lambda b: b).rename(inputs={"b": "out put"})])

    for config in (SEQUENTIAL, THREADS):
        assert pipeline.run({"in'put\"\n": 1}, config=config) == {"out put": 2, "class": 2}
        with pytest.raises(TypeError) as caught:
            pipeline.run({"in'put\"\n": "text"}, config=config)
        assert "in node 'out put'" in caught.value.__notes__[0]


def test_a_plan_is_made_into_a_function_once_though_many_threads_ask_for_it(monkeypatch):
    made = []

    class Counted(Program):
        def __init__(self, *args):
            made.append(args)
            time.sleep(0.02)
            super().__init__(*args)

    monkeypatch.setattr("hypernodes._engine.kernel.Program", Counted)
    engine = Pipeline(chain(3)).engine(["n0"], HERE)
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait(10)
        return engine.program

    with futures.ThreadPoolExecutor(8) as pool:
        programs = {future.result() for future in [pool.submit(ask) for _ in range(8)]}

    assert len(made) == len(programs) == 1
