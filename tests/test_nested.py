"""Pipelines inside pipelines: names in and out, maps, partial demands, depth."""

import threading
import time

import pytest

from hypernodes import (
    CycleError,
    DuplicateOutputError,
    HyperNodesError,
    InputError,
    MissingInputError,
    NodeDefinitionError,
    Pipeline,
    PipelineNode,
    RuntimeConfig,
    ThreadPoolExecutor,
    UnknownInputError,
    node,
)

SECONDS = 30


@node
def double(x):
    return 2 * x


@node
def shifted(double, offset=0):
    return double + offset


INNER = Pipeline([double, shifted], name="inner")


@node("total")
def total(shifted):
    return sum(shifted)


@node("difference")
def difference(a, b):
    return a - b


def run(nodes, config, /, **inputs):
    return Pipeline(nodes, name="outer").run(inputs, config=config)


# ---------------------------------------------------------------- one run


def test_pipeline_among_nodes_is_wrapped():
    outer = Pipeline([INNER, total])
    assert isinstance(outer.nodes[0], PipelineNode)
    assert outer.nodes[0].name == "inner"
    assert outer.root_args == ("x", "offset")
    assert outer.output_names == ("double", "shifted", "total")


def test_nested_pipeline_gives_what_its_nodes_give_in_place(config):
    after = node("after")(lambda shifted, double: (shifted, double))
    nested = run([INNER, after], config, x=3, offset=1)
    assert nested == run([double, shifted, after], config, x=3, offset=1)
    assert list(nested) == ["double", "shifted", "after"]


def test_node_of_a_pipeline_tells_its_names():
    made = INNER.as_node(input_mapping={"y": "x"}, output_mapping={"shifted": "moved"})
    assert made.root_args == ("y", "offset")
    assert made.required_args == ("y",)
    assert made.output_names == ("moved",)
    assert made.pipeline is INNER
    assert "inner" in repr(made)


def test_unnamed_pipelines_can_be_nested_twice(config):
    unnamed = Pipeline([double])
    nodes = [
        unnamed.as_node(output_mapping={"double": "a"}),
        unnamed.as_node(output_mapping={"double": "b"}, input_mapping={"y": "x"}),
        difference,
    ]
    assert run(nodes, config, x=5, y=1) == {"a": 10, "b": 2, "difference": 8}


def test_name_of_the_node_can_be_another_than_that_of_the_pipeline():
    assert INNER.as_node(name="other").name == "other"
    assert INNER.as_node().name == "inner"
    assert Pipeline([INNER.as_node(name="other")], name="outer").nodes[0].name == "other"


# ---------------------------------------------------------------- mappings


def test_input_mapping_is_outer_to_inner(config):
    made = INNER.as_node(input_mapping={"y": "x", "o": "offset"})
    assert run([made], config, y=3, o=1)["shifted"] == 7


def test_output_mapping_is_inner_to_outer_and_hides_the_rest(config):
    made = INNER.as_node(output_mapping={"shifted": "moved"})
    assert run([made], config, x=3) == {"moved": 6}


def test_empty_output_mapping_hides_nothing(config):
    assert run([INNER.as_node(output_mapping={})], config, x=3) == {"double": 6, "shifted": 6}


def test_inputs_can_be_swapped(config):
    swapped = Pipeline([difference], name="inner").as_node(input_mapping={"a": "b", "b": "a"})
    assert run([swapped], config, a=1, b=10) == {"difference": 9}


def test_outputs_can_be_swapped(config):
    swapped = INNER.as_node(output_mapping={"double": "shifted", "shifted": "double"})
    assert run([swapped], config, x=3, offset=1) == {"shifted": 6, "double": 7}


def test_swaps_on_several_levels_undo_each_other(config):
    swap = {"a": "b", "b": "a"}
    once = Pipeline([Pipeline([difference]).as_node(input_mapping=swap)])
    twice = Pipeline([once.as_node(input_mapping=swap)])
    assert once.run({"a": 10, "b": 1}, config=config) == {"difference": -9}
    assert twice.run({"a": 10, "b": 1}, config=config) == {"difference": 9}


def test_inner_names_that_are_mapped_away_do_not_meet_outer_ones(config):
    inner = Pipeline([double, shifted], name="inner")
    made = inner.as_node(input_mapping={"z": "x"}, output_mapping={"shifted": "out"})
    outer_double = node("double")(lambda x: x + 100)
    assert run([made, outer_double], config, z=1, x=1) == {"out": 2, "double": 101}


def test_inner_input_takes_the_outer_output_of_its_outer_name(config):
    made = INNER.as_node(input_mapping={"first": "x"})
    assert run([node("first")(lambda: 4), made], config)["shifted"] == 8


def test_outer_output_of_the_inner_name_is_not_taken_when_mapped_elsewhere(config):
    made = INNER.as_node(input_mapping={"y": "x"}, output_mapping={"shifted": "out"})
    assert run([node("x")(lambda: 1000), made], config, y=1) == {"x": 1000, "out": 2}


@pytest.mark.parametrize(
    ("mappings", "name", "suggestion"),
    [
        ({"input_mapping": {"y": "xx"}}, "xx", "x"),
        ({"input_mapping": {"x": "offsets"}}, "offsets", "offset"),
        ({"input_mapping": {"y": "double"}}, "double", None),
        ({"output_mapping": {"doubles": "y"}}, "doubles", "double"),
        ({"output_mapping": {"x": "y"}}, "x", None),
        ({"map_over": "xs"}, "xs", "x"),
        ({"input_mapping": {"y": "x"}, "map_over": "x"}, "x", None),
    ],
)
def test_mapping_that_names_nothing_is_refused(mappings, name, suggestion):
    with pytest.raises(UnknownInputError, match=repr(name)) as caught:
        INNER.as_node(**mappings)
    assert caught.value.name == name
    if suggestion:
        assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    "mappings",
    [
        {"input_mapping": {"x": "offset"}},
        {"input_mapping": {"y": "x", "z": "x"}},
        {"output_mapping": {"double": "out", "shifted": "out"}},
    ],
)
def test_mapping_that_makes_two_names_one_is_refused(mappings):
    with pytest.raises(NodeDefinitionError):
        INNER.as_node(**mappings)


@pytest.mark.parametrize("mappings", [{"input_mapping": ["x"]}, {"output_mapping": "double"}])
def test_mapping_of_another_kind_is_refused(mappings):
    with pytest.raises(HyperNodesError, match="mapping"):
        INNER.as_node(**mappings)


@pytest.mark.parametrize(
    "arguments",
    [
        {"map_over": "x", "map_mode": "zap"},
        {"map_mode": "zap"},
        {"map_over": []},
        {"map_over": 5},
        {"map_over": ["x", "x"]},
        {"map_over": [1]},
    ],
)
def test_wrong_map_arguments_are_input_errors(arguments):
    with pytest.raises(InputError):
        INNER.as_node(**arguments)


# ---------------------------------------------------------------- maps


def test_mapped_pipeline_gives_a_list_for_each_output(config):
    found = run([INNER.as_node(map_over="x"), total], config, x=[1, 2, 3], offset=1)
    assert found == {"double": [2, 4, 6], "shifted": [3, 5, 7], "total": 15}


def test_mapped_pipeline_uses_outer_names(config):
    made = INNER.as_node(
        input_mapping={"ys": "x"}, output_mapping={"shifted": "out"}, map_over="ys"
    )
    assert run([made], config, ys=[1, 2]) == {"out": [2, 4]}


def test_mapped_inputs_can_be_swapped(config):
    inner = Pipeline([difference], name="inner")
    made = inner.as_node(input_mapping={"a": "b", "b": "a"}, map_over="a")
    assert run([made], config, a=[1, 2], b=10) == {"difference": [9, 8]}


def test_zip_pairs_and_product_combines_with_the_last_name_fastest(config):
    pair = Pipeline([node("pair")(lambda a, b: (a, b))], name="inner")
    zipped = pair.as_node(map_over=("a", "b"))
    assert run([zipped], config, a=[1, 2], b=["x", "y"]) == {"pair": [(1, "x"), (2, "y")]}
    for names in (("a", "b"), ("b", "a")):
        product = pair.as_node(map_over=names, map_mode="product")
        found = run([product], config, a=[1, 2], b=["x", "y"])["pair"]
        expected = {
            ("a", "b"): [(1, "x"), (1, "y"), (2, "x"), (2, "y")],
            ("b", "a"): [(1, "x"), (2, "x"), (1, "y"), (2, "y")],
        }
        assert found == expected[names]


def test_unequal_lengths_inside_are_refused_with_the_lengths(config):
    pair = Pipeline([node("pair")(lambda a, b: (a, b))], name="inner")
    with pytest.raises(ValueError, match="length") as caught:
        run([pair.as_node(map_over=["a", "b"])], config, a=[1, 2], b=[1, 2, 3])
    for word in ("'a'", "'b'", "2", "3"):
        assert word in str(caught.value)


@pytest.mark.parametrize("value", ["text", {"a": 1}, 5, None, b"bytes"])
def test_what_cannot_be_mapped_over_inside_is_refused(value, config):
    with pytest.raises(InputError, match="'x'"):
        run([INNER.as_node(map_over="x")], config, x=value)


def test_no_items_inside_give_empty_lists(config):
    found = run([INNER.as_node(map_over="x"), total], config, x=[])
    assert found == {"double": [], "shifted": [], "total": 0}


def test_mapped_pipeline_takes_what_another_node_makes(config):
    nodes = [node("x")(lambda: (n for n in range(4))), INNER.as_node(map_over="x"), total]
    assert run(nodes, config)["total"] == 12


def test_maps_in_maps_keep_their_shape(config):
    middle = Pipeline([INNER.as_node(map_over="x"), total], name="middle")
    found = run([middle.as_node(map_over="x")], config, x=[[1, 2], [], [3]], offset=1)
    assert found == {
        "double": [[2, 4], [], [6]],
        "shifted": [[3, 5], [], [7]],
        "total": [8, 0, 7],
    }


def test_map_over_a_pipeline_with_maps_inside(config):
    outer = Pipeline([INNER.as_node(map_over="x"), total], name="outer")
    found = outer.map(
        {"x": [[1], [2, 3]], "offset": 1}, map_over="x", output_name="total", config=config
    )
    assert found == [{"total": 3}, {"total": 12}]


def test_results_of_a_nested_map_keep_the_order_of_the_items(threads):
    def slow_first(x):
        time.sleep(0.05 if x == 0 else 0)
        return x

    inner = Pipeline([node("y")(slow_first)], name="inner")
    assert run([inner.as_node(map_over="x")], threads, x=range(20)) == {"y": list(range(20))}


def test_items_of_a_nested_map_overlap_on_threads(threads):
    barrier = threading.Barrier(4)
    inner = Pipeline([node("y")(lambda x: barrier.wait(SECONDS) and x)], name="inner")
    assert len(run([inner.as_node(map_over="x")], threads, x=range(4))["y"]) == 4


def test_nodes_of_a_nested_pipeline_start_before_all_its_inputs_are_there(threads):
    started = threading.Event()
    early = node("early")(lambda a: started.set())
    late = node("late")(lambda b: b)
    slow = node("b")(lambda: started.wait(SECONDS))
    inner = Pipeline([early, late], name="inner")
    assert run([slow, inner], threads, a=1)["late"] is True


@pytest.mark.parametrize("depth", [1, 2, 5, 20])
def test_nested_maps_never_deadlock_at_any_depth(depth, config):
    pipeline = Pipeline([node("y")(lambda x: x)], name="innermost")
    value = 7
    for level in range(depth):
        pipeline = Pipeline([pipeline.as_node(map_over="x")], name=f"level {level}")
        value = [value] * (2 if level < 5 else 1)
    assert pipeline.run({"x": value}, config=config) == {"y": value}


MANY_OUTPUTS = """
from hypernodes import Pipeline, node

names = [f"y{n}" for n in range(12)]
pipeline = Pipeline([node(name)(lambda x: x) for name in names], name="innermost")
value = 7
for _ in range(15):
    pipeline = Pipeline([pipeline.as_node(map_over="x")])
    value = [value]
assert pipeline.required_args == ("x",)
assert pipeline.run({"x": value}) == dict.fromkeys(names, value)
"""


def test_work_of_compiling_does_not_explode_with_outputs_and_levels(run_script):
    run_script(MANY_OUTPUTS)


def test_mapped_pipelines_side_by_side_with_one_worker(config):
    inner = Pipeline([double], name="inner")
    nodes = [
        inner.as_node(map_over="x", output_mapping={"double": f"out{n}"}, name=f"inner{n}")
        for n in range(6)
    ]
    found = run(nodes, config, x=[1, 2, 3])
    assert found == {f"out{n}": [2, 4, 6] for n in range(6)}


# ---------------------------------------------------------------- depth


def deep(levels):
    pipeline = Pipeline([node("y")(lambda x, z=0: x + z)], name="innermost")
    for level in range(levels):
        pipeline = Pipeline([pipeline], name=f"level {level}")
    return pipeline


def test_two_hundred_levels_run(config):
    pipeline = deep(200)
    assert pipeline.root_args == ("x", "z")
    assert pipeline.required_args == ("x",)
    assert pipeline.run({"x": 1}, config=config) == {"y": 1}
    assert pipeline.run({"x": 1, "z": 5}, config=config) == {"y": 6}
    assert pipeline.map({"x": [1, 2]}, map_over="x", config=config) == [{"y": 1}, {"y": 2}]
    assert len(repr(pipeline)) < 200


def test_names_can_change_on_each_of_two_hundred_levels(config):
    pipeline = Pipeline([node("y0")(lambda x0: x0 + 1)], name="innermost")
    for level in range(200):
        pipeline = Pipeline(
            [
                pipeline.as_node(
                    input_mapping={f"x{level + 1}": f"x{level}"},
                    output_mapping={f"y{level}": f"y{level + 1}"},
                )
            ]
        )
    assert pipeline.run({"x200": 1}, config=config) == {"y200": 2}


def test_missing_input_two_hundred_levels_down_is_named():
    with pytest.raises(MissingInputError) as caught:
        deep(200).run({"z": 1})
    assert (caught.value.missing, caught.value.node) == (("x",), "y")


def test_failure_two_hundred_levels_down_names_the_path(config):
    with pytest.raises(TypeError) as caught:
        deep(200).run({"x": None}, config=config)
    notes = " ".join(caught.value.__notes__)
    for word in ("innermost", "level 0", "level 100", "level 199"):
        assert word in notes


# ---------------------------------------------------------------- partial demands


@pytest.mark.parametrize("mapped", [False, True], ids=["once", "mapped"])
def test_only_what_is_asked_for_runs_and_is_required(mapped, config):
    calls = []

    def one(x):
        calls.append("one")
        return x

    def two(y):
        calls.append("two")
        return y

    inner = Pipeline([node(one), node(two)], name="inner")
    outer = Pipeline([inner.as_node(map_over="x" if mapped else None)])
    value = [5] if mapped else 5
    assert outer.run({"x": value}, output_name="one", config=config) == {"one": value}
    assert calls == ["one"]
    with pytest.raises(MissingInputError) as caught:
        outer.run({"x": value}, output_name="two", config=config)
    assert caught.value.missing == ("y",)
    assert calls == ["one"]


@pytest.mark.parametrize("mapped", [False, True], ids=["once", "mapped"])
def test_hidden_outputs_do_not_run_and_their_inputs_are_not_required(mapped, config):
    calls = []

    def one(x):
        calls.append("one")
        return x

    def two(y):
        calls.append("two")
        return y

    inner = Pipeline([node(one), node(two)], name="inner")
    made = inner.as_node(output_mapping={"one": "out"}, map_over="x" if mapped else None)
    assert made.required_args == ("x",)
    value = [5] if mapped else 5
    outer = Pipeline([made])
    assert outer.required_args == ("x",)
    assert outer.run({"x": value}, config=config) == {"out": value}
    assert calls == ["one"]


def test_only_what_the_outer_nodes_need_runs_on_every_level(config):
    calls = []

    def make(name, argument):
        def function(value):
            calls.append(name)
            return value

        return node(name)(function).rename(inputs={"value": argument})

    inner = Pipeline([make("a", "x"), make("b", "y"), make("c", "a")], name="inner")
    middle = Pipeline([inner, make("d", "b")], name="middle")
    outer = Pipeline([middle, make("e", "c")], name="outer")
    assert outer.run({"x": 1}, output_name="e", config=config) == {"e": 1}
    assert calls == ["a", "c", "e"]


def test_given_output_of_a_nested_pipeline_is_used_and_what_it_needed_does_not_run(config):
    outer = Pipeline([INNER, node("end")(lambda shifted: shifted)])
    assert outer.run({"shifted": 5}, config=config) == {"shifted": 5, "end": 5}
    assert outer.run({"shifted": 5}, output_name="end", config=config) == {"end": 5}


def test_one_given_output_of_a_nested_pipeline_leaves_the_others_computed(config):
    use = node("use")(lambda double, shifted: (double, shifted))
    outer = Pipeline([INNER, use])
    assert outer.run({"shifted": 5, "x": 1}, config=config) == {
        "double": 2,
        "shifted": 5,
        "use": (2, 5),
    }


def test_given_output_of_a_mapped_pipeline_is_used(config):
    outer = Pipeline([INNER.as_node(map_over="x"), total])
    assert outer.run({"shifted": [1, 2]}, config=config) == {"shifted": [1, 2], "total": 3}


def test_inputs_that_only_an_override_needs_are_required():
    outer = Pipeline([INNER, node("use")(lambda double, shifted: 0)])
    with pytest.raises(MissingInputError) as caught:
        outer.run({"shifted": 5})
    assert caught.value.missing == ("x",)


# ---------------------------------------------------------------- bound inside


def test_value_bound_inside_is_used_and_not_required(config):
    outer = Pipeline([INNER.bind(x=3)])
    assert outer.root_args == ("x", "offset")
    assert outer.required_args == ()
    assert outer.run(config=config)["double"] == 6


def test_value_given_at_the_call_wins_over_the_one_bound_inside(config):
    assert Pipeline([INNER.bind(x=3)]).run({"x": 5}, config=config)["double"] == 10


def test_value_bound_outside_wins_over_the_one_bound_inside(config):
    assert Pipeline([INNER.bind(x=3)]).bind(x=5).run(config=config)["double"] == 10


def test_value_made_by_the_outer_pipeline_wins_over_the_one_bound_inside(config):
    assert run([node("x")(lambda: 5), INNER.bind(x=3)], config)["double"] == 10


def test_bound_value_wins_over_the_default(config):
    assert run([INNER.bind(offset=1)], config, x=1)["shifted"] == 3


def test_value_bound_inside_does_not_reach_the_nodes_outside(config):
    nodes = [INNER.bind(x=3), node("outside")(lambda x: x)]
    with pytest.raises(MissingInputError) as caught:
        run(nodes, config)
    assert caught.value.node == "outside"
    assert run(nodes, config, x=1)["double"] == 2


def test_two_copies_of_a_pipeline_keep_their_own_bound_values(config):
    first = INNER.bind(x=1).as_node(output_mapping={"double": "a"})
    second = INNER.bind(x=2).as_node(output_mapping={"double": "b"})
    assert run([first, second], config) == {"a": 2, "b": 4}


def test_bound_values_of_all_levels_meet(config):
    middle = Pipeline([INNER.bind(x=1, offset=10)], name="middle")
    assert Pipeline([middle.bind(offset=20)]).run(config=config)["shifted"] == 22
    assert Pipeline([middle]).run(config=config)["shifted"] == 12


def test_value_bound_inside_is_shared_by_the_items_of_a_map(config):
    made = INNER.bind(offset=5).as_node(map_over="x")
    assert run([made], config, x=[1, 2])["shifted"] == [7, 9]
    assert run([made], config, x=[1, 2], offset=0)["shifted"] == [2, 4]


def test_value_bound_inside_can_be_mapped_over(config):
    made = INNER.bind(x=[1, 2]).as_node(map_over="x")
    assert run([made], config)["double"] == [2, 4]
    assert run([made], config, x=[3])["double"] == [6]


# ---------------------------------------------------------------- changed copies, options


def test_rename_of_a_nested_pipeline_changes_outer_names_only(config):
    made = INNER.as_node(map_over="x").rename(inputs={"x": "xs"}, outputs={"shifted": "out"})
    assert made.root_args == ("xs", "offset")
    assert made.map_over == ("xs",)
    assert made.output_names == ("double", "out")
    assert run([made], config, xs=[1, 2]) == {"double": [2, 4], "out": [2, 4]}


def test_rename_of_a_nested_pipeline_can_swap(config):
    made = Pipeline([difference], name="inner").as_node(map_over="a")
    swapped = made.rename(inputs={"a": "b", "b": "a"})
    assert swapped.map_over == ("b",)
    assert run([swapped], config, a=1, b=[10, 20]) == {"difference": [9, 19]}


def test_rename_of_a_nested_pipeline_keeps_its_name_and_refuses_unknown_names():
    assert INNER.as_node(name="n").rename(inputs={"x": "y"}).name == "n"
    with pytest.raises(UnknownInputError):
        INNER.as_node().rename(inputs={"y": "z"})
    with pytest.raises(NodeDefinitionError):
        INNER.as_node().rename(inputs={"x": "offset"})


def test_caching_is_on_unless_switched_off():
    assert INNER.as_node().cache is True
    assert INNER.as_node(cache=False).cache is False
    assert INNER.as_node().with_options(cache=False).cache is False
    with pytest.raises(NodeDefinitionError, match="cache"):
        INNER.as_node(cache="no")


def test_nested_pipeline_has_no_retries_or_timeout_of_its_own():
    with pytest.raises(NodeDefinitionError, match="retries"):
        INNER.as_node().with_options(retries=3)
    with pytest.raises(NodeDefinitionError, match="timeout"):
        INNER.as_node().with_options(timeout=3)


def test_node_of_a_pipeline_cannot_be_changed():
    made = INNER.as_node()
    for attribute in ("name", "map_over", "pipeline", "new_one"):
        with pytest.raises(AttributeError):
            setattr(made, attribute, "changed")


def test_bind_on_the_outer_pipeline_uses_outer_names(config):
    outer = Pipeline([INNER.as_node(input_mapping={"y": "x"})]).bind(y=4)
    assert outer.run(config=config)["double"] == 8
    with pytest.raises(UnknownInputError):
        outer.bind(x=4)


def test_cycles_and_duplicates_are_seen_through_mappings():
    with pytest.raises(CycleError):
        Pipeline([INNER.as_node(input_mapping={"y": "x"}), node("y")(lambda shifted: 0)])
    with pytest.raises(DuplicateOutputError):
        Pipeline([INNER.as_node(output_mapping={"double": "y"}), node("y")(lambda z: 0)])
    Pipeline([INNER.as_node(output_mapping={"double": "y"}), node("double")(lambda z: 0)])


# ---------------------------------------------------------------- other configs inside


@pytest.mark.parametrize("mapped", [False, True], ids=["once", "mapped"])
@pytest.mark.parametrize("inner_kind", ["sequential", "thread"])
def test_nested_pipeline_with_a_config_of_its_own_gives_the_same(config, inner_kind, mapped):
    inner = INNER.with_config(RuntimeConfig(executor=inner_kind)).bind(offset=1)
    made = inner.as_node(map_over="x" if mapped else None)
    outer = Pipeline([made, node("end")(lambda shifted: shifted)], config=config)
    expected = [3, 5] if mapped else 3
    value = [1, 2] if mapped else 1
    assert outer.run({"x": value})["end"] == expected
    assert outer.run({"x": value}, output_name="end") == {"end": expected}
    items = outer.map({"x": [value] * 3}, map_over="x", output_name="shifted")
    assert items == [{"shifted": expected}] * 3


def test_nested_configs_on_three_levels_never_deadlock():
    one, two = (ThreadPoolExecutor(max_workers=count) for count in (1, 2))
    inner = Pipeline([double, shifted], config=RuntimeConfig(executor=one), name="inner")
    middle = Pipeline(
        [inner.as_node(map_over="x"), total], config=RuntimeConfig(executor=two), name="middle"
    )
    outer = Pipeline([middle.as_node(map_over="x")], config=RuntimeConfig(executor=one))
    assert outer.run({"x": [[1, 2], [3]]}, output_name="total") == {"total": [6, 6]}
    found = outer.map({"x": [[[1, 2], [3]]] * 4}, map_over="x", output_name="total")
    assert found == [{"total": [6, 6]}] * 4


# ---------------------------------------------------------------- given outputs of mapped pipelines

DOUBLED = Pipeline([node("b")(lambda a: a + 1), node("c")(lambda b: b * 2)], name="inner")


def test_given_output_of_a_mapped_pipeline_reaches_the_nodes_inside_item_by_item(config):
    outer = Pipeline([DOUBLED.as_node(map_over="a")])

    assert outer.run({"a": [1, 2], "b": [100, 200]}, config=config) == {
        "b": [100, 200],
        "c": [200, 400],
    }
    assert outer.map({"a": [[1], [2]], "b": [[7], [8]]}, map_over=("a", "b"), config=config) == [
        {"b": [7], "c": [14]},
        {"b": [8], "c": [16]},
    ]


@pytest.mark.parametrize("given", [[9], 100, "ab"])
def test_given_output_of_a_mapped_pipeline_has_to_fit_its_items(config, given):
    outer = Pipeline([DOUBLED.as_node(map_over="a", output_mapping={"b": "bs", "c": "cs"})])

    with pytest.raises(InputError, match="'bs'"):
        outer.run({"a": [1, 2, 3], "bs": given}, config=config)
