"""Pipelines: what can be built, what a run computes and returns, and changed copies."""

import enum
import itertools
import pickle
import threading
from collections import UserDict
from concurrent import futures
from types import MappingProxyType

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernodes import (
    CycleError,
    DuplicateOutputError,
    InputError,
    MissingInputError,
    Pipeline,
    PipelineDefinitionError,
    RuntimeConfig,
    ThreadPoolExecutor,
    TypeConflictError,
    UnknownInputError,
    node,
)

SECONDS = 30


def increment(x):
    return x + 1


@node
def mean(values):
    return sum(values) / len(values)


@node
def centred(values, mean):
    return [value - mean for value in values]


@node
def spread(centred, power=2):
    return sum(value**power for value in centred)


STATISTICS = Pipeline([mean, centred, spread], name="statistics")


def step(output, inputs, calls=None):
    """Make a node whose value tells where it came from, and that counts its calls."""
    names = inputs.split()

    def function(*values):
        if calls is not None:
            calls.append(output)
        return (output, *values)

    arguments = ", ".join(f"_{number}" for number, _ in enumerate(names))
    function = eval(f"lambda {arguments}: function({arguments})", {"function": function})  # noqa: S307
    return node(output)(function).rename(
        inputs={f"_{number}": name for number, name in enumerate(names)}
    )


# ---------------------------------------------------------------- building


def test_nodes_are_joined_by_name_in_any_order():
    for nodes in itertools.permutations([mean, centred, spread]):
        assert Pipeline(nodes).run({"values": [1, 3]}) == {
            "mean": 2,
            "centred": [-1, 1],
            "spread": 2,
        }


def test_pipeline_tells_its_names():
    assert STATISTICS.root_args == ("values", "power")
    assert STATISTICS.required_args == ("values",)
    assert STATISTICS.output_names == ("mean", "centred", "spread")
    assert STATISTICS.nodes == (mean, centred, spread)
    assert STATISTICS.name == "statistics"
    assert (STATISTICS.config, STATISTICS.parent) == (None, None)


def test_any_iterable_of_nodes_will_do_and_is_read_once():
    nodes = [mean, centred]
    pipeline = Pipeline(nodes)
    nodes.append(spread)
    assert pipeline.output_names == ("mean", "centred")
    assert Pipeline(iter((mean, centred))).output_names == ("mean", "centred")


def test_pipeline_without_nodes_has_no_outputs(config):
    empty = Pipeline([])
    assert (empty.root_args, empty.output_names) == ((), ())
    assert empty.run(config=config) == {}


def test_two_nodes_with_one_output_are_refused():
    with pytest.raises(DuplicateOutputError, match="'mean'") as caught:
        Pipeline([mean, node("mean")(lambda values: 0)])
    assert caught.value.outputs == ("mean",)
    assert caught.value.nodes == ("mean", "mean")


def test_one_node_twice_is_refused():
    with pytest.raises(DuplicateOutputError, match="rename"):
        Pipeline([mean, mean])


def test_output_of_a_tuple_counts_as_an_output():
    with pytest.raises(DuplicateOutputError, match="'b'"):
        Pipeline([node(("a", "b"))(lambda: (1, 2)), node("b")(lambda: 3)])


def test_nested_pipeline_with_the_output_of_a_node_is_refused():
    with pytest.raises(DuplicateOutputError, match="output_mapping"):
        Pipeline([mean, Pipeline([mean], name="inner")])


def test_node_that_needs_itself_is_refused():
    with pytest.raises(CycleError, match="x -> x") as caught:
        Pipeline([step("x", "x").with_options(), step("y", "")])
    assert caught.value.cycle == ("x", "x")


def test_cycle_is_shown_from_node_to_node():
    with pytest.raises(CycleError) as caught:
        Pipeline([step("a", "c r"), step("b", "a"), step("c", "b"), step("d", "c")])
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert sorted(cycle[1:]) == ["a", "b", "c"]
    assert "a -> b -> c" in " -> ".join(cycle[1:] * 2)
    assert " -> ".join(cycle) in str(caught.value)


def test_cycle_through_a_nested_pipeline_is_refused():
    inner = Pipeline([step("b", "a")], name="inner")
    with pytest.raises(CycleError, match="inner") as caught:
        Pipeline([inner, step("a", "b")])
    assert sorted(set(caught.value.cycle)) == ["a", "inner"]


def test_nested_pipeline_that_needs_its_own_output_is_refused():
    inner = Pipeline([step("b", "a")], name="inner")
    with pytest.raises(CycleError, match="inner -> inner"):
        Pipeline([inner.as_node(output_mapping={"b": "a"})])


def test_cycle_of_ten_thousand_nodes_is_found():
    count = 10_000
    nodes = [step(f"x{n}", f"x{(n - 1) % count}") for n in range(count)]
    with pytest.raises(CycleError) as caught:
        Pipeline(nodes)
    assert len(caught.value.cycle) == count + 1


def test_diamonds_are_no_cycles():
    nodes = [step("d", "b c"), step("b", "a"), step("c", "a"), step("a", "")]
    assert Pipeline(nodes).run(output_name="d")["d"] == ("d", ("b", ("a",)), ("c", ("a",)))


def test_plain_function_is_refused_with_a_hint():
    with pytest.raises(PipelineDefinitionError, match="@node") as caught:
        Pipeline([mean, increment])
    assert "increment" in str(caught.value)


@pytest.mark.parametrize("members", [mean, STATISTICS, "mean", {"mean": mean}, None, 3])
def test_what_is_no_list_of_nodes_is_refused(members):
    with pytest.raises(PipelineDefinitionError, match="list"):
        Pipeline(members)


@pytest.mark.parametrize("member", [None, 3, "mean", [mean]])
def test_member_that_is_no_node_is_refused(member):
    with pytest.raises(PipelineDefinitionError, match="neither"):
        Pipeline([mean, member])


@pytest.mark.parametrize("name", ["", 3, mean])
def test_wrong_names_are_refused(name):
    with pytest.raises(PipelineDefinitionError, match="name"):
        Pipeline([mean], name=name)


def test_wrong_parent_and_config_are_refused():
    with pytest.raises(PipelineDefinitionError, match="parent"):
        Pipeline([mean], parent=mean)
    with pytest.raises(InputError, match="RuntimeConfig"):
        Pipeline([mean], config={"executor": "thread"})
    with pytest.raises(InputError, match="RuntimeConfig"):
        STATISTICS.with_config("thread")


# ---------------------------------------------------------------- strict types


def typed(output, returned, **taken):
    parameters = ", ".join(taken)
    function = eval(f"lambda {parameters}: None")  # noqa: S307 - only its annotations matter
    function.__annotations__ = taken | ({} if returned is None else {"return": returned})
    return node(output)(function)


def test_strict_types_refuses_annotations_that_cannot_agree():
    with pytest.raises(TypeConflictError, match="str") as caught:
        Pipeline([typed("a", str), typed("b", int, a=int)], strict_types=True)
    assert (caught.value.output, caught.value.producer, caught.value.consumer) == ("a", "a", "b")


@pytest.mark.parametrize(("made", "taken"), [(int, float), (None, int), (bool, int), (int, object)])
def test_strict_types_accepts_what_a_type_checker_would(made, taken):
    Pipeline([typed("a", made), typed("b", int, a=taken)], strict_types=True)


def test_strict_types_refuses_an_optional_for_a_value():
    with pytest.raises(TypeConflictError):
        Pipeline([typed("a", int | None), typed("b", int, a=int)], strict_types=True)


def test_types_are_not_looked_at_without_strict_types():
    Pipeline([typed("a", str), typed("b", int, a=int)])


def test_strict_types_looks_into_nested_pipelines():
    inner = Pipeline([typed("b", int, a=int)], name="inner")
    with pytest.raises(TypeConflictError):
        Pipeline([typed("a", str), inner], strict_types=True)
    with pytest.raises(TypeConflictError):
        Pipeline([typed("a", int), inner.as_node(map_over="a")], strict_types=True)
    mapped = inner.as_node(map_over="a")
    Pipeline([typed("a", list[int]), mapped, typed("c", int, b=list[int])], strict_types=True)
    with pytest.raises(TypeConflictError):
        Pipeline([typed("a", list[int]), mapped, typed("c", int, b=int)], strict_types=True)


def test_strict_types_outlives_replace_and_pickling():
    pipeline = Pipeline([typed("a", int), typed("b", int, a=int)], strict_types=True)
    for strict in (pipeline, cloudpickle.loads(cloudpickle.dumps(pipeline)), pipeline.bind()):
        with pytest.raises(TypeConflictError):
            strict.replace("a", typed("a", str))


# ---------------------------------------------------------------- running


def test_run_returns_all_outputs_and_no_inputs(config):
    outputs = STATISTICS.run({"values": [1, 3]}, config=config)
    assert outputs == {"mean": 2, "centred": [-1, 1], "spread": 2}
    assert list(outputs) == ["mean", "centred", "spread"]


def test_run_without_inputs_needs_none(config):
    pipeline = Pipeline([step("a", ""), step("b", "a")])
    assert pipeline.run(config=config) == {"a": ("a",), "b": ("b", ("a",))}
    assert pipeline.run({}, config=config) == pipeline.run(None, config=config)


@pytest.mark.parametrize("kind", [dict, UserDict, MappingProxyType])
def test_any_mapping_of_inputs_will_do(kind, config):
    assert STATISTICS.run(kind({"values": [2]}), config=config)["mean"] == 2


@pytest.mark.parametrize("inputs", [[1, 2], "values", 3, {"values"}, [("values", [1])]])
def test_inputs_that_are_no_mapping_are_refused(inputs):
    with pytest.raises(InputError, match="mapping"):
        STATISTICS.run(inputs)


def test_inputs_are_not_changed(config):
    inputs = {"values": [1, 3]}
    STATISTICS.run(inputs, config=config)
    assert inputs == {"values": [1, 3]}


def test_inputs_arrive_as_the_objects_they_are(config):
    thing = object()
    pipeline = Pipeline([node("same")(lambda x: x), node("again")(lambda same, x: (same, x))])
    outputs = pipeline.run({"x": thing}, config=config)
    assert outputs["same"] is thing
    assert outputs["again"][0] is outputs["again"][1] is thing


def test_each_node_runs_once(config):
    calls = []
    nodes = [step("a", "x", calls), step("b", "a", calls), step("c", "a", calls)]
    Pipeline([*nodes, step("d", "b c a x", calls)]).run({"x": 0}, config=config)
    assert sorted(calls) == ["a", "b", "c", "d"]


def test_asked_for_output_alone_is_computed_and_returned(config):
    calls = []
    nodes = [step("a", "x", calls), step("b", "a", calls), step("c", "y", calls)]
    assert Pipeline(nodes).run({"x": 0}, output_name="b", config=config) == {"b": ("b", ("a", 0))}
    assert calls == ["a", "b"]


@pytest.mark.parametrize("asked", [["c", "a"], ("c", "a"), {"c": 1, "a": 2}.keys()])
def test_several_outputs_can_be_asked_for(asked, config):
    nodes = [step("a", "x"), step("b", "a"), step("c", "a")]
    assert Pipeline(nodes).run({"x": 0}, output_name=asked, config=config) == {
        "c": ("c", ("a", 0)),
        "a": ("a", 0),
    }


def test_output_asked_for_twice_comes_once():
    assert STATISTICS.run({"values": [1]}, output_name=["mean", "mean"]) == {"mean": 1}


def test_outputs_come_in_the_order_asked_for():
    outputs = STATISTICS.run({"values": [1]}, output_name=["spread", "mean"])
    assert list(outputs) == ["spread", "mean"]


def test_one_output_of_several_can_be_asked_for(config):
    pair = node(("low", "high"))(lambda values: (min(values), max(values)))
    outputs = Pipeline([pair]).run({"values": [1, 2]}, output_name="high", config=config)
    assert outputs == {"high": 2}


class Output(enum.StrEnum):
    MEAN = "mean"


@pytest.mark.parametrize("name", [Output.MEAN, np.str_("mean")])
def test_output_name_may_be_any_kind_of_string(name):
    assert STATISTICS.run({"values": [1]}, output_name=name) == {"mean": 1}
    assert STATISTICS.run({"values": [1]}, output_name=[name]) == {"mean": 1}


@pytest.mark.parametrize("asked", ["means", ["mean", "means"], "values", "", 5, [["mean"]], [None]])
def test_unknown_output_is_an_input_error(asked):
    with pytest.raises(InputError):
        STATISTICS.run({"values": [1]}, output_name=asked)


def test_unknown_output_comes_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'mean'"):
        STATISTICS.run({"values": [1]}, output_name="means")
    with pytest.raises(InputError, match="input"):
        STATISTICS.run({"values": [1]}, output_name="values")


# ---------------------------------------------------------------- inputs that are outputs


def test_given_intermediate_is_used_and_nothing_that_only_it_needed_runs(config):
    calls = []
    nodes = [step("a", "x", calls), step("b", "a", calls), step("c", "b", calls)]
    outputs = Pipeline(nodes).run({"b": "given"}, config=config)
    assert outputs == {"b": "given", "c": ("c", "given")}
    assert calls == ["c"]


def test_what_others_need_still_runs_beside_a_given_intermediate(config):
    nodes = [step("a", "x"), step("b", "a"), step("c", "a b")]
    outputs = Pipeline(nodes).run({"x": 1, "b": 2}, config=config)
    assert outputs == {"a": ("a", 1), "b": 2, "c": ("c", ("a", 1), 2)}


def test_given_output_that_was_asked_for_is_returned(config):
    assert STATISTICS.run({"mean": 5}, output_name="mean", config=config) == {"mean": 5}


def test_given_values_that_nothing_needs_are_allowed(config):
    assert STATISTICS.run({"values": [2], "power": 3}, output_name="mean", config=config) == {
        "mean": 2
    }


def test_one_given_output_of_a_tuple_wins_over_the_computed_one(config):
    calls = []

    def both(x):
        calls.append(x)
        return x, x + 1

    pipeline = Pipeline([node(("a", "b"))(both), step("c", "a b")])
    assert pipeline.run({"x": 1, "a": 10}, config=config) == {"a": 10, "b": 2, "c": ("c", 10, 2)}
    assert pipeline.run({"a": 10, "b": 20}, config=config)["c"] == ("c", 10, 20)
    assert calls == [1]


def test_given_none_counts_as_given(config):
    assert Pipeline([step("a", "x"), step("b", "a")]).run({"a": None}, config=config) == {
        "a": None,
        "b": ("b", None),
    }


class Graph:
    """A random graph, and what the contract says a run of it computes."""

    def __init__(self, rows):
        self.calls = []
        self.inputs = {}
        self.made_by = {}
        self.nodes = []
        for number, (picks, count) in enumerate(rows):
            outputs = [f"n{number}o{place}" for place in range(count)]
            known = ["r0", "r1", "r2", *self.made_by]
            names = list(dict.fromkeys(known[pick % len(known)] for pick in picks))
            self.inputs[number] = names
            self.nodes.append(self._node(number, names, outputs))
            self.made_by |= dict.fromkeys(outputs, number)

    def _node(self, number, names, outputs):
        def function(*values):
            self.calls.append(number)
            return tuple((name, *values) for name in outputs)

        parameters = ", ".join(names)
        called = eval(f"lambda {parameters}: function({parameters})", {"function": function})  # noqa: S307
        return node(tuple(outputs))(called)

    def users(self, name):
        return [number for number, names in self.inputs.items() if name in names]

    def runs(self, supplied, asked):
        """Return the numbers of the nodes that have to run."""
        if asked is not None:
            found, pending = set(), [name for name in asked if name not in supplied]
            while pending:
                number = self.made_by.get(pending.pop())
                if number is not None and number not in found:
                    found.add(number)
                    pending += [name for name in self.inputs[number] if name not in supplied]
            return found
        found = set()
        for number in sorted(self.inputs, reverse=True):
            for name in (name for name, maker in self.made_by.items() if maker == number):
                users = self.users(name)
                if name not in supplied and (not users or found.intersection(users)):
                    found.add(number)
        return found

    def needs(self, supplied, asked):
        """Return the inputs without which it cannot run."""
        used = {name for number in self.runs(supplied, asked) for name in self.inputs[number]}
        return {name for name in used if name not in self.made_by}

    def expected(self, supplied, asked):
        """Return what a run returns."""
        runs = self.runs(supplied, asked)
        values = dict(supplied)
        for number in sorted(runs):
            arguments = [values[name] for name in self.inputs[number]]
            for name in (name for name, maker in self.made_by.items() if maker == number):
                values.setdefault(name, (name, *arguments))
        if asked is not None:
            return {name: values[name] for name in asked}
        return {name: values[name] for name in self.made_by if name in values}


graphs = st.lists(
    st.tuples(st.lists(st.integers(0, 30), max_size=4), st.integers(1, 3)), min_size=1, max_size=8
).map(Graph)


@given(graph=graphs, data=st.data())
def test_run_computes_what_is_needed_once_and_returns_what_the_contract_says(config, graph, data):
    outputs = list(graph.made_by)
    overridden = data.draw(st.sets(st.sampled_from(outputs), max_size=3))
    asked = data.draw(st.none() | st.lists(st.sampled_from(outputs), min_size=1, unique=True))
    supplied = {name: f"given {name}" for name in overridden}
    supplied |= {name: name for name in graph.needs(supplied, asked)}
    nodes = data.draw(st.permutations(graph.nodes))

    graph.calls.clear()
    found = Pipeline(nodes).run(supplied, output_name=asked, config=config)

    assert found == graph.expected(supplied, asked)
    assert sorted(graph.calls) == sorted(graph.runs(supplied, asked))


@given(graph=graphs, data=st.data())
def test_any_needed_input_that_is_missing_is_named(graph, data):
    asked = data.draw(st.none() | st.sampled_from(list(graph.made_by)))
    wanted = None if asked is None else [asked]
    needed = graph.needs({}, wanted)
    left_out = data.draw(st.sets(st.sampled_from(sorted(needed)), min_size=1)) if needed else set()
    supplied = dict.fromkeys(needed - left_out, 0)
    if not left_out:
        assert Pipeline(graph.nodes).run(supplied, output_name=wanted).keys()
        return
    with pytest.raises(MissingInputError) as caught:
        Pipeline(graph.nodes).run(supplied, output_name=wanted)
    assert set(caught.value.missing) == left_out
    assert graph.calls == []


# ---------------------------------------------------------------- missing and unknown


def test_missing_input_is_named_with_the_node_that_needs_it():
    with pytest.raises(MissingInputError, match=r"'values'.*'mean'") as caught:
        STATISTICS.run({}, output_name="mean")
    assert caught.value.missing == ("values",)
    assert caught.value.node == "mean"
    assert isinstance(caught.value, ValueError)


def test_all_missing_inputs_are_named_at_once():
    with pytest.raises(MissingInputError) as caught:
        Pipeline([step("a", "x y"), step("b", "a z")]).run({"y": 1})
    assert set(caught.value.missing) == {"x", "z"}
    assert "'x'" in str(caught.value)
    assert "'z'" in str(caught.value)


def test_nothing_runs_when_an_input_is_missing(config):
    calls = []
    with pytest.raises(MissingInputError):
        Pipeline([step("a", "x", calls), step("b", "a y", calls)]).run({"x": 1}, config=config)
    assert calls == []


def test_unknown_input_comes_with_the_nearest():
    with pytest.raises(UnknownInputError, match="did you mean 'values'") as caught:
        STATISTICS.run({"value": [1]})
    assert (caught.value.name, caught.value.suggestion) == ("value", "values")


def test_unknown_input_without_a_near_one_shows_what_is_known():
    with pytest.raises(UnknownInputError, match="values") as caught:
        STATISTICS.run({"values": [1], "qqqq": 0})
    assert caught.value.suggestion is None


@pytest.mark.parametrize("name", [1, None, ("values",)])
def test_input_names_that_are_no_strings_are_unknown(name):
    with pytest.raises(UnknownInputError):
        STATISTICS.run({"values": [1], name: 0})


@pytest.mark.parametrize("config", ["thread", {"executor": "thread"}, {}, 0, [], ()], ids=repr)
def test_config_that_is_none_is_refused_also_after_a_good_one(config):
    STATISTICS.run({"values": [1]}, config=RuntimeConfig())
    with pytest.raises(InputError, match="RuntimeConfig"):
        STATISTICS.run({"values": [1]}, config=config)
    with pytest.raises(InputError, match="RuntimeConfig"):
        STATISTICS.map({"values": [[1]]}, map_over="values", config=config)


# ---------------------------------------------------------------- defaults


def test_default_is_used_where_nothing_is_given(config):
    assert STATISTICS.run({"values": [1, 3]}, config=config)["spread"] == 2
    assert STATISTICS.run({"values": [1, 3], "power": 3}, config=config)["spread"] == 0


def test_two_nodes_keep_their_own_defaults_of_one_input(config):
    first, second = node("a")(lambda rate=1: rate), node("b")(lambda rate=2: rate)
    pipeline = Pipeline([first, second])
    assert pipeline.root_args == ("rate",)
    assert pipeline.required_args == ()
    assert pipeline.run(config=config) == {"a": 1, "b": 2}
    assert pipeline.run({"rate": 5}, config=config) == {"a": 5, "b": 5}
    assert pipeline.bind(rate=7).run(config=config) == {"a": 7, "b": 7}


def test_input_that_one_node_has_a_default_for_and_another_has_not_is_required():
    pipeline = Pipeline([node("a")(lambda rate=1: rate), node("b")(lambda rate: rate)])
    assert pipeline.required_args == ("rate",)
    assert pipeline.run(output_name="a") == {"a": 1}
    with pytest.raises(MissingInputError, match="'b'"):
        pipeline.run()


def test_default_of_a_parameter_that_another_node_makes_is_not_used(config):
    pipeline = Pipeline([node("rate")(lambda: 5), node("b")(lambda rate=1: rate)])
    assert pipeline.run(config=config) == {"rate": 5, "b": 5}


# ---------------------------------------------------------------- bind, unbind


def test_bound_input_is_used_and_need_not_be_given(config):
    bound = STATISTICS.bind(values=[1, 3])
    assert bound.root_args == ("values", "power")
    assert bound.required_args == ()
    assert bound.run(config=config)["mean"] == 2
    assert STATISTICS.required_args == ("values",)


def test_given_value_wins_over_the_bound_one(config):
    assert STATISTICS.bind(values=[1, 3]).run({"values": [9]}, config=config)["mean"] == 9


def test_bound_none_counts_as_bound(config):
    assert Pipeline([step("a", "x")]).bind(x=None).run(config=config) == {"a": ("a", None)}


def test_later_bind_wins_and_keeps_the_others():
    bound = Pipeline([step("a", "x y")]).bind(x=1, y=2).bind(x=3)
    assert bound.run() == {"a": ("a", 3, 2)}


def test_unbind_takes_names_back_or_all():
    bound = Pipeline([step("a", "x y")]).bind(x=1, y=2)
    assert bound.unbind("x").required_args == ("x",)
    assert bound.unbind().required_args == ("x", "y")
    assert bound.required_args == ()


def test_bind_and_unbind_refuse_unknown_names_with_the_nearest():
    with pytest.raises(UnknownInputError, match="values") as caught:
        STATISTICS.bind(value=1)
    assert (caught.value.name, caught.value.suggestion) == ("value", "values")
    with pytest.raises(UnknownInputError):
        STATISTICS.bind(mean=1)
    with pytest.raises(UnknownInputError, match="not bound"):
        STATISTICS.bind(values=[1]).unbind("power")


def test_input_called_self_can_be_bound():
    pipeline = Pipeline([node("upper")(str.upper)])
    assert pipeline.run({"self": "up"}) == {"upper": "UP"}
    assert pipeline.bind(self="up").run() == {"upper": "UP"}


# ---------------------------------------------------------------- replace


def test_replace_by_a_function_keeps_output_and_options(config):
    slow = mean.with_options(retries=3, cache=False)
    replaced = Pipeline([slow, centred], name="p").replace("mean", lambda values: 0)
    assert replaced.run({"values": [1, 2]}, config=config) == {"mean": 0, "centred": [1, 2]}
    assert (replaced.nodes[0].retries, replaced.nodes[0].cache) == (3, False)
    assert replaced.name == "p"


def test_replace_changes_a_copy():
    STATISTICS.replace("mean", lambda values: 0)
    assert STATISTICS.run({"values": [1, 3]})["mean"] == 2


def test_replace_by_a_node_renames_its_output_and_keeps_options_of_its_own():
    new = node("median", retries=1)(lambda values: sorted(values)[len(values) // 2])
    replaced = Pipeline([mean.with_options(retries=3, timeout=5)]).replace("mean", new)
    assert replaced.run({"values": [9, 1, 2]}) == {"mean": 2}
    assert (replaced.nodes[0].retries, replaced.nodes[0].timeout) == (1, 5)


def test_replace_may_bring_other_inputs():
    assert STATISTICS.replace("mean", lambda start: start).root_args == ("start", "values", "power")


def test_replace_finds_a_node_by_an_output():
    pair = node(("low", "high"))(lambda values: (min(values), max(values)))
    replaced = Pipeline([pair]).replace("high", lambda values: (0, 1))
    assert replaced.run({"values": []}) == {"low": 0, "high": 1}


def test_replace_of_an_unknown_node_comes_with_the_nearest():
    with pytest.raises(UnknownInputError, match="did you mean 'mean'"):
        STATISTICS.replace("means", lambda values: 0)


def test_replace_refuses_an_ambiguous_name():
    pipeline = Pipeline([mean.rename(outputs={"mean": "a"}), mean.rename(outputs={"mean": "b"})])
    with pytest.raises(InputError, match="'a' or 'b'"):
        pipeline.replace("mean", lambda values: 0)
    assert pipeline.replace("a", lambda values: 0).run({"values": [2]}) == {"a": 0, "b": 2}


def test_replace_takes_an_output_where_a_name_is_ambiguous():
    pipeline = Pipeline([mean, mean.rename(outputs={"mean": "other"})])
    assert pipeline.replace("other", lambda values: 0).run({"values": [2]}) == {
        "mean": 2,
        "other": 0,
    }
    assert pipeline.replace("mean", lambda values: 0).run({"values": [2]}) == {
        "mean": 0,
        "other": 2,
    }


def test_replace_refuses_another_number_of_outputs():
    with pytest.raises(PipelineDefinitionError, match="outputs"):
        STATISTICS.replace("mean", node(("a", "b"))(lambda values: (1, 2)))


@pytest.mark.parametrize("thing", [3, None, "mean"])
def test_replace_refuses_what_is_no_node(thing):
    with pytest.raises(PipelineDefinitionError):
        STATISTICS.replace("mean", thing)


def test_replace_refuses_a_cycle():
    with pytest.raises(CycleError):
        STATISTICS.replace("mean", lambda spread: spread)


def test_replace_keeps_bound_values():
    bound = STATISTICS.bind(values=[1, 3]).replace("mean", lambda values: 0)
    assert bound.run()["centred"] == [1, 3]


def test_replace_by_a_pipeline_and_of_a_pipeline():
    inner = Pipeline([step("half", "values")], name="inner")
    replaced = STATISTICS.replace("mean", inner)
    assert replaced.run({"values": [1]}, output_name="mean") == {"mean": ("half", [1])}
    again = replaced.replace("inner", mean)
    assert again.run({"values": [4]}, output_name="mean") == {"mean": 4}


def test_nested_pipeline_of_one_output_is_replaced_by_a_function_that_returns_it(config):
    outer = Pipeline([Pipeline([node("y")(increment)], name="inner"), step("z", "y")])
    replaced = outer.replace("inner", lambda x: x + 10)
    assert replaced.run({"x": 1}, config=config) == {"y": 11, "z": ("z", 11)}


def test_mapped_pipeline_of_one_output_is_replaced_by_a_function_that_returns_the_list(config):
    inner = Pipeline([node("y")(increment)], name="inner")
    replaced = Pipeline([inner.as_node(map_over="x")]).replace("inner", lambda x: [0 for _ in x])
    for xs in ([1], [1, 2]):
        assert replaced.run({"x": xs}, config=config) == {"y": [0] * len(xs)}


# ---------------------------------------------------------------- immutability, repr, pickling


@pytest.mark.parametrize("attribute", ["name", "nodes", "config", "root_args", "new_one"])
def test_pipeline_cannot_be_changed(attribute):
    with pytest.raises(AttributeError):
        setattr(STATISTICS, attribute, "changed")
    with pytest.raises(AttributeError):
        delattr(STATISTICS, attribute)


def test_methods_return_new_pipelines_and_leave_the_old_one():
    config = RuntimeConfig(retries=1)
    copies = [
        STATISTICS.with_config(config),
        STATISTICS.bind(values=[1]),
        STATISTICS.replace("mean", lambda values: 0),
    ]
    assert all(copied is not STATISTICS for copied in copies)
    assert STATISTICS.config is None
    assert copies[0].config == config
    assert copies[0].with_config(None).config is None
    assert STATISTICS.required_args == ("values",)


def test_values_bound_cannot_be_changed_from_outside():
    values = {"values": [1]}
    bound = STATISTICS.bind(**values)
    values["values"] = [2]
    with pytest.raises(TypeError):
        bound.bound["values"] = [2]
    assert bound.run(output_name="mean") == {"mean": 1}


def test_repr_is_short_and_true():
    text = repr(STATISTICS)
    assert "\n" not in text
    for word in ("Pipeline", "'statistics'", "3 nodes", "values", "mean"):
        assert word in text
    assert "None" not in repr(Pipeline([mean]))
    assert "1 node:" in repr(Pipeline([mean]))


def test_repr_of_a_large_pipeline_stays_short():
    nodes = [step(f"output_number_{n}", f"input_number_{n}") for n in range(1000)]
    assert len(repr(Pipeline(nodes))) < 300


def test_pipeline_of_module_functions_travels_by_plain_pickle():
    config = RuntimeConfig(executor="sequential", retries=1)
    original = Pipeline(
        [mean, centred, STATISTICS.as_node(output_mapping={"spread": "s"}, name="inner")],
        name="p",
        parent=STATISTICS,
        config=config,
    ).bind(power=3)
    original.run({"values": [1, 3]})
    back = pickle.loads(pickle.dumps(original))
    assert back.run({"values": [1, 4]}) == original.run({"values": [1, 4]})
    assert (back.name, back.config, back.parent.name) == ("p", config, "statistics")
    assert (back.root_args, back.required_args) == (original.root_args, original.required_args)
    assert repr(back) == repr(original)


def test_pipeline_of_lambdas_travels_by_cloudpickle(config):
    offset = 10
    original = Pipeline([node("y")(lambda x: x + offset), step("z", "y")])
    back = cloudpickle.loads(cloudpickle.dumps(original))
    assert back.run({"x": 1}, config=config) == {"y": 11, "z": ("z", 11)}


# ---------------------------------------------------------------- size and threads


def long_chain(count):
    start = node("x0")(increment)
    return [start.rename(inputs={"x": f"x{n}"}, outputs={"x0": f"x{n + 1}"}) for n in range(count)]


def test_chain_of_ten_thousand_nodes_builds_and_runs(config):
    pipeline = Pipeline(long_chain(10_000))
    assert pipeline.root_args == pipeline.required_args == ("x0",)
    found = pipeline.run({"x0": 0}, output_name="x10000", config=config)
    assert found == {"x10000": 10_000}
    assert len(pipeline.run({"x0": 0}, config=config)) == 10_000


def test_chain_of_ten_thousand_nodes_may_be_given_backwards_and_travels(sequential):
    pipeline = pickle.loads(pickle.dumps(Pipeline(long_chain(10_000)[::-1])))
    found = pipeline.run({"x9990": 0}, output_name="x10000", config=sequential)
    assert found == {"x10000": 10}
    assert pipeline.run({"x0": 0}, config=sequential)["x10000"] == 10_000


def test_failure_at_the_end_of_a_long_chain_names_the_right_node(config):
    count = 3000
    start = node("x0")(increment)
    nodes = [start.rename(inputs={"x": f"x{n}"}, outputs={"x0": f"x{n + 1}"}) for n in range(count)]
    broken = node("broken")(lambda x: x / 0).rename(inputs={"x": f"x{count}"})
    with pytest.raises(ZeroDivisionError) as caught:
        Pipeline([*nodes, broken]).run({"x0": 0}, config=config)
    assert any("broken" in note for note in caught.value.__notes__)


def test_thousand_independent_nodes_and_one_that_takes_them_all(config):
    names = [f"x{n}" for n in range(1000)]
    total = step("total", " ".join(names))
    outputs = Pipeline([total, *(step(name, "r") for name in names)]).run({"r": 1}, config=config)
    assert outputs["total"] == ("total", *((name, 1) for name in names))


def test_one_pipeline_serves_eight_threads_at_once(config):
    barrier = threading.Barrier(8)
    nodes = [step("a", "x"), step("b", "a"), step("c", "a"), step("d", "b c x")]
    pipeline = Pipeline(nodes)

    def run(number):
        barrier.wait(SECONDS)
        found = [pipeline.run({"x": (number, n)}, config=config)["d"] for n in range(20)]
        found += [
            outputs["d"]
            for outputs in pipeline.map(
                {"x": [(number, n) for n in range(20)]}, map_over="x", config=config
            )
        ]
        return found

    with futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(8), timeout=SECONDS))
    for number, results in enumerate(found):
        xs = [(number, n) for n in range(20)]
        one_run = [("d", ("b", ("a", x)), ("c", ("a", x)), x) for x in xs]
        assert results == one_run * 2


def test_pipeline_is_compiled_again_for_other_inputs_outputs_and_configs(config):
    pipeline = Pipeline([step("a", "x"), step("b", "a"), node("c")(lambda a, y=0: (a, y))])
    for _ in range(2):
        assert pipeline.run({"x": 1}, config=config)["c"] == (("a", 1), 0)
        assert pipeline.run({"x": 1, "y": 2}, config=config)["c"] == (("a", 1), 2)
        assert pipeline.run({"a": 1}, config=config) == {"a": 1, "b": ("b", 1), "c": (1, 0)}
        assert pipeline.run({"x": 1}, output_name="b", config=config) == {"b": ("b", ("a", 1))}


def test_many_different_requests_keep_working(config):
    names = [f"x{n}" for n in range(12)]
    pipeline = Pipeline([step(f"y{n}", name) for n, name in enumerate(names)])
    for chosen in itertools.islice(itertools.combinations(range(12), 3), 200):
        asked = [f"y{n}" for n in chosen]
        outputs = pipeline.run({f"x{n}": n for n in chosen}, output_name=asked, config=config)
        assert outputs == {f"y{n}": (f"y{n}", n) for n in chosen}


class Times(Pipeline):
    """A pipeline whose class takes something else than nodes."""

    def __init__(self, factor):
        own = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
        super().__init__([node("y", config=own)(lambda x: x * factor)])


def test_a_pipeline_of_a_class_of_its_own_runs_nodes_under_their_own_config(config):
    assert Times(3).with_config(config).run({"x": 2}) == {"y": 6}


def test_replace_refuses_a_name_that_is_one_nodes_and_anothers_output():
    first = node("y")(named("x1"))
    second = node("x1")(named("b"))
    pipeline = Pipeline([first, second])
    with pytest.raises(InputError, match="'y' or 'x1'"):
        pipeline.replace("x1", lambda a: a)
    assert pipeline.replace("b", lambda a: -a).run({"a": 1})["x1"] == -1


def named(name):
    def function(a):
        return a

    function.__name__ = name
    return function


def test_replace_keeps_only_the_options_that_fit():
    old = node("y", stateful_params=("model",), retries=2)(lambda x, model: x)
    pipeline = Pipeline([old])
    (new,) = pipeline.replace("y", lambda x: x).nodes
    assert new.stateful_params == ()
    assert new.retries == 2
    (nested,) = pipeline.replace("y", Pipeline([node("y")(lambda x: x)])).nodes
    assert nested.cache is True


@pytest.mark.parametrize("made", [str, bytes, dict[str, int]])
def test_strict_types_refuse_what_a_map_will_not_go_through(made):
    def source() -> made: ...
    def each(a: str) -> str: ...

    inner = Pipeline([node("b")(each)])
    with pytest.raises(TypeConflictError):
        Pipeline([node("a")(source), inner.as_node(map_over="a")], strict_types=True)
