"""Nodes: which callables make one, what it is called, what can be set; none ever changes."""

import copy
import functools
import importlib.util
import itertools
import math
import operator
import pickle
import re
from collections import namedtuple
from dataclasses import dataclass

import cloudpickle
import numpy as np
import pytest

from hypernodes import (
    HyperNodesError,
    Node,
    NodeDefinitionError,
    NodeOutputError,
    Pipeline,
    RetryPolicy,
    RuntimeConfig,
    UnknownInputError,
    node,
)


def add(a, b):
    return a + b


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Scale:
    def __init__(self, factor=3):
        self.factor = factor

    def __call__(self, value):
        return value * self.factor

    def times(self, value):
        return value * self.factor

    @classmethod
    def triple(cls, value):
        return cls(3).times(value)

    @staticmethod
    def half(value):
        return value / 2


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@node
def decorated(x, y=2):
    return x + y


@node(output_name=("low", "high"), retries=2, timeout=9.0, cache=False, resources={"num_gpus": 1})
def bounds(values):
    return min(values), max(values)


@node
@logged
def decorated_twice(x):
    return -x


class Holder:
    @node
    @staticmethod
    def held(x):
        return x + 1


def run(made, **inputs):
    outputs = Pipeline([made]).run(inputs, config=RuntimeConfig(executor="sequential"))
    return outputs[made.output_names[0]] if len(outputs) == 1 else outputs


# ---------------------------------------------------------------- callables


CALLABLES = {
    "function": (add, {"a": 1, "b": 2}, 3, "add"),
    "lambda": (lambda a, b: a - b, {"a": 1, "b": 2}, -1, "result"),
    "bound method": (Scale(5).times, {"value": 2}, 10, "times"),
    "unbound method": (Scale.times, {"self": Scale(4), "value": 2}, 8, "times"),
    "class method": (Scale.triple, {"value": 2}, 6, "triple"),
    "static method": (Scale.half, {"value": 3}, 1.5, "half"),
    "partial by position": (functools.partial(add, 10), {"b": 1}, 11, "result"),
    "partial by keyword": (functools.partial(add, b=7), {"a": 1}, 8, "result"),
    "partial by keyword, overridden": (functools.partial(add, b=7), {"a": 1, "b": 2}, 3, "result"),
    "partial by keyword in front": (functools.partial(add, a=7), {"b": 2}, 9, "result"),
    "class": (Point, {"x": 1}, Point(1, 0), "Point"),
    "callable object": (Scale(6), {"value": 2}, 12, "result"),
    "builtin": (math.sqrt, {"x": 9.0}, 3.0, "sqrt"),
    "builtin of an object": (len, {"obj": [1, 2]}, 2, "len"),
    "builtin with an option left out": (sorted, {"iterable": [2, 1]}, [1, 2], "sorted"),
    "builtin with an option": (sorted, {"iterable": [1, 2], "reverse": True}, [2, 1], "sorted"),
    "builtin with a default": (pow, {"base": 2, "exp": 5}, 32, "pow"),
    "operator": (operator.sub, {"a": 5, "b": 3}, 2, "sub"),
    "method of a builtin type": (str.upper, {"self": "up"}, "UP", "upper"),
    "bound method of a builtin": ([3, 4, 3].count, {"value": 3}, 2, "count"),
    "wrapper": (logged(add), {"a": 1, "b": 2}, 3, "add"),
    "wrapper of a wrapper": (logged(logged(add)), {"a": 1, "b": 2}, 3, "add"),
    "cached function": (functools.lru_cache(add), {"a": 1, "b": 2}, 3, "add"),
    "partial of a method": (functools.partial(Scale(2).times), {"value": 4}, 8, "result"),
    "method that is a partial": (
        functools.partialmethod(Scale.times, 5).__get__(Scale(2)),
        {},
        10,
        "result",
    ),
}


@pytest.mark.parametrize(
    ("function", "inputs", "expected", "name"), CALLABLES.values(), ids=CALLABLES.keys()
)
def test_any_callable_with_a_signature_makes_a_node(function, inputs, expected, name):
    made = node("result")(function)
    assert made.name == name
    assert made.func is function
    assert set(inputs) <= set(made.root_args)
    assert run(made, **inputs) == expected


@pytest.mark.parametrize("function", [add, math.sqrt, Point, logged(add), Scale(1).times])
def test_output_is_named_after_the_callable(function):
    made = node(function)
    assert made.name == function.__name__
    assert made.output_name == function.__name__
    assert made.output_names == (function.__name__,)


def test_decorator_works_with_and_without_parentheses():
    bare, called, named = node(add), node()(add), node("sum")(add)
    assert isinstance(bare, Node)
    assert isinstance(called, Node)
    assert (bare.output_name, called.output_name, named.output_name) == ("add", "add", "sum")
    assert named.name == "add"


def test_node_is_called_as_the_plain_function():
    made = node("sum")(add)
    assert made(1, 2) == 3
    assert made(1, b=5) == 6
    with pytest.raises(TypeError, match="b"):
        made(1)


@pytest.mark.parametrize("function", [lambda x: x, Scale(1), functools.partial(add, 1)])
def test_callable_without_a_name_needs_an_output_name(function):
    with pytest.raises(NodeDefinitionError, match="output_name"):
        node(function)
    assert node("y")(function).name == "y"


def test_root_args_are_the_parameters_in_order():
    def function(c, /, a, *, z=1, b):
        return c, a, z, b

    assert node(function).root_args == ("c", "a", "z", "b")


def positional_in_the_middle(a, b=10, c=100, /, d=1000, e=10_000, *, f=100_000, g=1_000_000):
    return a, b, c, d, e, f, g


def some_of(names):
    return [
        chosen for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)
    ]


@pytest.mark.parametrize("given", some_of("bcdefg"))
def test_any_subset_of_parameters_with_defaults_may_be_left_out(given):
    inputs = {"a": 0} | {name: -number for number, name in enumerate(given, 1)}
    expected = tuple(
        inputs.get(name, 10**number if number else 0) for number, name in enumerate("abcdefg")
    )
    assert run(node("got")(positional_in_the_middle), **inputs) == expected


@pytest.mark.parametrize("given", some_of("cdg"))
def test_parameters_may_be_left_out_of_a_node_with_a_config_of_its_own(given, sequential, threads):
    made = node("got", config=threads)(positional_in_the_middle)
    inputs = {"a": 0} | {name: -number for number, name in enumerate(given, 1)}
    expected = Pipeline([node("got")(positional_in_the_middle)]).run(inputs, config=sequential)
    assert Pipeline([made], config=sequential).run(inputs) == expected


def test_keyword_only_parameters_are_inputs():
    def function(*, x, y=1):
        return x, y

    assert run(node(function), x=5) == (5, 1)
    assert run(node(function), x=5, y=6) == (5, 6)


def test_none_is_a_default_and_a_value():
    def function(x=None, y=3):
        return x, y

    assert run(node(function)) == (None, 3)
    assert run(node(function), y=None) == (None, None)


def test_required_args_leave_out_what_has_a_default():
    assert decorated.root_args == ("x", "y")
    assert decorated.required_args == ("x",)


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x, *rest: x, r"\*rest"),
        (lambda x, **others: x, r"\*\*others"),
        (print, r"\*args"),
        (functools.partial(lambda *all_of_them: 0, 1), r"\*all_of_them"),
    ],
)
def test_variadic_parameters_are_refused_by_name(function, word):
    with pytest.raises(NodeDefinitionError, match=word) as caught:
        node("out")(function)
    assert caught.value.node


@pytest.mark.parametrize("function", [max, range, next])
def test_callable_without_a_signature_is_refused_with_a_remedy(function):
    with pytest.raises(NodeDefinitionError, match="lambda"):
        node("out")(function)


@pytest.mark.parametrize("thing", [3, "", [add], Scale.triple(1)])
def test_what_cannot_be_called_is_refused(thing):
    with pytest.raises(NodeDefinitionError, match="callable"):
        Node(thing, "out")


def test_node_of_a_node_is_refused():
    with pytest.raises(NodeDefinitionError, match="already"):
        node(decorated)


# ---------------------------------------------------------------- outputs


def test_several_outputs_are_unpacked_in_order():
    made = node(("low", "high"))(lambda values: (min(values), max(values)))
    assert made.output_name == ("low", "high")
    assert made.output_names == ("low", "high")
    assert made.name == "low_high"
    assert run(made, values=[3, 1, 2]) == {"low": 1, "high": 3}


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        [1, 2],
        range(1, 3),
        np.array([1, 2]),
        namedtuple("Pair", "left right")(1, 2),  # noqa: PYI024 - the plain one is meant
    ],
)
def test_any_sequence_of_the_right_length_is_unpacked(value):
    assert run(node(("a", "b"))(lambda: value)) == {"a": 1, "b": 2}


def test_generator_of_the_right_length_is_unpacked():
    def two():
        yield 1
        yield 2

    assert run(node(("a", "b"))(two)) == {"a": 1, "b": 2}


def test_tuple_of_one_name_unpacks_one_value():
    assert run(node(("a",))(lambda: (7,))) == 7
    assert run(node("a")(lambda: (7,))) == (7,)


def test_list_of_names_will_do():
    assert run(node(["a", "b"])(lambda: (1, 2))) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("value", "received"),
    [
        ((1,), 1),
        ((1, 2, 3), 3),
        ([], 0),
        (iter([1, 2, 3]), 3),
        (np.arange(5), 5),
        (None, None),
        (5, None),
        ("ab", None),
        (b"ab", None),
        ({"a": 1, "b": 2}, None),
        ({1, 2}, None),
        (frozenset({1, 2}), None),
    ],
)
def test_wrong_number_of_values_is_an_error_with_its_facts(value, received):
    pipeline = Pipeline([node(("a", "b"))(lambda: value)], name="outer")
    with pytest.raises(NodeOutputError, match="2 outputs") as caught:
        pipeline.run(config=RuntimeConfig(executor="sequential"))
    error = caught.value
    assert (error.node, error.path) == ("a_b", ("outer", "a_b"))
    assert (error.expected, error.received) == (2, received)


def test_tuple_of_one_name_refuses_a_bare_value():
    with pytest.raises(NodeOutputError) as caught:
        run(node(("a",))(lambda: 7))
    assert (caught.value.expected, caught.value.received) == (1, None)


def test_single_name_takes_whatever_is_returned():
    for value in (None, (), (1, 2), {"a": 1}, "text"):
        assert run(node("a")(lambda value=value: value)) == value


@pytest.mark.parametrize("wrong", [(), [], "", ("a", "a"), ("a", ""), ("a", 1), 5, {"a": "b"}])
def test_wrong_output_names_are_refused(wrong):
    with pytest.raises(NodeDefinitionError, match="name"):
        Node(add, wrong)


def test_output_name_need_not_be_an_identifier():
    made = node("the 'sum' of\nboth")(add).rename(inputs={"a": "left side", "b": "class"})
    outputs = Pipeline([made]).run({"left side": 1, "class": 2})
    assert outputs == {"the 'sum' of\nboth": 3}


# ---------------------------------------------------------------- options


def test_options_are_there_as_given():
    assert bounds.retries == 2
    assert bounds.timeout == 9.0
    assert bounds.cache is False
    assert bounds.resources == {"num_gpus": 1}
    assert bounds.config is None


def test_options_have_defaults():
    assert (decorated.cache, decorated.retries, decorated.timeout) == (True, None, None)
    assert (decorated.resources, decorated.config) == (None, None)


def test_every_option_is_taken():
    policy, config = RetryPolicy(max_retries=1), RuntimeConfig(retries=3)
    made = node(
        "y",
        cache=False,
        retries=policy,
        timeout=1,
        stateful_params=("x",),
        resources={"num_cpus": 0.5},
        config=config,
    )(lambda x: x)
    assert made.retries == policy
    assert made.timeout == 1
    assert made.resources == {"num_cpus": 0.5}
    assert made.config == config


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cache", 1),
        ("cache", "no"),
        ("cache", None),
        ("retries", -1),
        ("retries", 1.5),
        ("retries", True),
        ("retries", "3"),
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", math.inf),
        ("timeout", math.nan),
        ("timeout", True),
        ("timeout", "1s"),
        ("stateful_params", ("nothing",)),
        ("stateful_params", (1,)),
        ("stateful_params", 1),
        ("resources", "gpu"),
        ("resources", ["num_gpus"]),
        ("resources", {"num_gpus": -1}),
        ("resources", {"num_gpus": "1"}),
        ("resources", {"num_gpus": True}),
        ("resources", {"num_gpus": math.nan}),
        ("resources", {1: 1}),
        ("config", "thread"),
        ("config", {"executor": "thread"}),
    ],
)
def test_wrong_options_are_refused_by_name(option, value):
    with pytest.raises(NodeDefinitionError, match=option) as caught:
        node("y", **{option: value})(lambda x: x)
    assert caught.value.node is not None
    with pytest.raises(NodeDefinitionError, match=option):
        decorated.with_options(**{option: value})


def test_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(NodeDefinitionError, match="timeout"):
        node("y", time_out=3)(lambda x: x)
    with pytest.raises(NodeDefinitionError, match="retries"):
        decorated.with_options(retry=3)


def test_resources_do_not_follow_what_the_caller_does_to_their_dict():
    wanted = {"num_gpus": 1}
    made = node("y", resources=wanted)(lambda x: x)
    wanted["num_gpus"] = 2
    made.resources["num_gpus"] = 3
    assert made.resources == {"num_gpus": 1}


# ---------------------------------------------------------------- changed copies


def test_with_options_changes_a_copy():
    changed = bounds.with_options(retries=5, cache=True)
    assert (changed.retries, changed.cache, changed.timeout) == (5, True, 9.0)
    assert (bounds.retries, bounds.cache) == (2, False)
    assert changed.func is bounds.func


def test_with_options_takes_options_back():
    assert bounds.with_options(retries=None, timeout=None, resources=None).resources is None
    assert bounds.with_options(retries=None).retries is None


def test_with_config_changes_a_copy():
    config = RuntimeConfig(executor="sequential")
    changed = decorated.with_config(config)
    assert changed.config == config
    assert decorated.config is None
    assert changed.with_config(None).config is None
    with pytest.raises(HyperNodesError, match="RuntimeConfig"):
        decorated.with_config("thread")


def test_rename_changes_inputs_and_outputs_of_a_copy():
    changed = decorated.rename(inputs={"x": "left"}, outputs={"decorated": "total"})
    assert changed.root_args == ("left", "y")
    assert changed.output_names == ("total",)
    assert changed.output_name == "total"
    assert decorated.root_args == ("x", "y")
    assert decorated.output_name == "decorated"
    assert run(changed, left=1) == 3


def test_renamed_copy_keeps_its_name():
    assert decorated.rename(outputs={"decorated": "total"}).name == "decorated"
    assert node("y")(lambda x: x).rename(outputs={"y": "z"}).name == "y"


def test_rename_can_swap_inputs():
    swapped = node("difference")(lambda a, b: a - b).rename(inputs={"a": "b", "b": "a"})
    assert swapped.root_args == ("b", "a")
    assert run(swapped, a=1, b=10) == 9


def test_rename_can_swap_outputs():
    swapped = bounds.rename(outputs={"low": "high", "high": "low"})
    assert run(swapped, values=[1, 2]) == {"high": 1, "low": 2}


def test_renamed_parameter_keeps_its_default_and_the_way_it_is_passed():
    def function(a, b=5, /, *, c=6):
        return a, b, c

    made = node(function).rename(inputs={"a": "c", "b": "a", "c": "b"})
    assert run(made, c=1) == (1, 5, 6)
    assert run(made, c=1, b=2) == (1, 5, 2)
    assert run(made, c=1, a=3) == (1, 3, 6)


def test_rename_of_a_rename_starts_from_the_new_names():
    twice = decorated.rename(inputs={"x": "left"}).rename(inputs={"left": "first"})
    assert twice.root_args == ("first", "y")
    with pytest.raises(UnknownInputError):
        decorated.rename(inputs={"x": "left"}).rename(inputs={"x": "first"})


def test_rename_refuses_what_is_not_there_with_the_nearest():
    with pytest.raises(UnknownInputError) as caught:
        bounds.rename(inputs={"value": "numbers"})
    assert (caught.value.name, caught.value.suggestion) == ("value", "values")
    with pytest.raises(UnknownInputError, match="low"):
        bounds.rename(outputs={"lo": "least"})


@pytest.mark.parametrize("inputs", [{"x": "y"}, {"x": ""}, {"x": 1}, {"x": "z", "y": "z"}])
def test_rename_refuses_names_that_cannot_be(inputs):
    with pytest.raises(NodeDefinitionError):
        decorated.rename(inputs=inputs)


def test_rename_refuses_outputs_of_one_name():
    with pytest.raises(NodeDefinitionError, match="high"):
        bounds.rename(outputs={"low": "high"})


@pytest.mark.parametrize(
    "attribute", ["name", "func", "output_name", "root_args", "cache", "retries", "new_one"]
)
def test_node_cannot_be_changed(attribute):
    with pytest.raises(AttributeError):
        setattr(decorated, attribute, "changed")
    with pytest.raises(AttributeError):
        delattr(decorated, attribute)


def test_one_function_serves_in_many_places():
    first = decorated.rename(outputs={"decorated": "a"})
    second = decorated.rename(inputs={"x": "a", "y": "z"}, outputs={"decorated": "b"})
    assert Pipeline([first, second]).run({"x": 1, "z": 10}) == {"a": 3, "b": 13}


def test_repr_is_short_and_tells_the_names():
    text = repr(bounds)
    assert "\n" not in text
    for word in ("bounds", "values", "low", "high"):
        assert word in text


# ---------------------------------------------------------------- async


async def coroutine(x):
    return x + 1


class AsyncCall:
    async def __call__(self, x):
        return x + 1

    async def method(self, x):
        return x + 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (coroutine, True),
        (functools.partial(coroutine), True),
        (AsyncCall().method, True),
        (AsyncCall(), True),
        (logged(coroutine), True),
        (functools.partial(AsyncCall()), True),
        (add, False),
        (AsyncCall, False),
        (lambda x: x, False),
        (math.sqrt, False),
    ],
    ids=[
        "function",
        "partial",
        "method",
        "callable object",
        "wrapper",
        "partial of a callable object",
        "plain",
        "class",
        "lambda",
        "builtin",
    ],
)
def test_is_async_tells_whether_calling_gives_a_coroutine(function, expected):
    assert node("y")(function).is_async is expected


# ---------------------------------------------------------------- code_hash


@pytest.fixture
def load(tmp_path):
    """Load a module from source and return its node `f`."""
    numbers = itertools.count()

    def load_source(source):
        path = tmp_path / f"loaded_{next(numbers)}.py"
        path.write_text("from hypernodes import node\n" + source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.f

    return load_source


def test_code_hash_is_lowercase_hex():
    for made in (decorated, node("y")(lambda x: x), node(math.sqrt), node("y")(Scale(1))):
        assert re.fullmatch(r"[0-9a-f]{16,}", made.code_hash)


def test_code_hash_ignores_comments_and_formatting(load):
    plain = load("@node\ndef f(x):\n    return x + 1\n")
    dressed = load(
        "@node\ndef f(\n    x,\n):\n    # what a comment\n\n    return (x  +  1)  # says\n"
    )
    assert plain.code_hash == dressed.code_hash


@pytest.mark.parametrize(
    "changed",
    [
        "@node\ndef f(x):\n    return x + 2\n",
        "@node\ndef f(x):\n    return x - 1\n",
        "@node\ndef f(x):\n    return x + 1.0\n",
        "@node\ndef f(x, y=1):\n    return x + 1\n",
    ],
)
def test_code_hash_sees_changes(load, changed):
    assert load("@node\ndef f(x):\n    return x + 1\n").code_hash != load(changed).code_hash


def test_code_hash_tells_lambdas_apart(load):
    one = load("f = node('y')(\n    lambda x: x + 1\n)\n")
    other = load("f = node('y')(\n    lambda x: x + 2\n)\n")
    assert one.code_hash != other.code_hash


def test_code_hash_is_that_of_the_function_whatever_the_names_and_options():
    changed = decorated.rename(inputs={"x": "z"}, outputs={"decorated": "d"}).with_options(
        retries=1
    )
    assert changed.code_hash == decorated.code_hash


# ---------------------------------------------------------------- pickling


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "made",
    [
        decorated,
        decorated_twice,
        Holder.held,
        bounds,
        decorated.rename(inputs={"x": "z"}).with_options(retries=1),
        node("sum")(add),
        node(math.sqrt),
        node(Point),
        node("scaled")(Scale(2)),
        node("times")(Scale(2).times),
        node("partial")(functools.partial(add, 1)),
        decorated.with_config(RuntimeConfig(retries=2)),
    ],
    ids=repr,
)
def test_node_of_a_module_travels_by_plain_pickle(made, protocol):
    back = pickle.loads(pickle.dumps(made, protocol))
    for fact in ("name", "output_name", "output_names", "root_args", "required_args", "is_async"):
        assert getattr(back, fact) == getattr(made, fact)
    for option in ("cache", "retries", "timeout", "resources", "config"):
        assert getattr(back, option) == getattr(made, option)


def test_decorated_function_is_itself_again_after_pickling():
    assert pickle.loads(pickle.dumps(decorated)).func is decorated.func
    assert run(pickle.loads(pickle.dumps(decorated)), x=1) == 3


def test_lambda_and_closure_travel_by_cloudpickle():
    offset = 5
    for made in (node("y")(lambda x: x + offset), node("y")(functools.partial(lambda x: x + 5))):
        assert run(cloudpickle.loads(cloudpickle.dumps(made)), x=1) == 6


def test_decorated_closure_travels_by_cloudpickle():
    def build(offset):
        @node
        def shifted(x):
            return x + offset

        return shifted

    back = cloudpickle.loads(cloudpickle.dumps(build(3)))
    assert (back.name, run(back, x=1)) == ("shifted", 4)


def test_decorated_function_of_main_travels_by_cloudpickle_to_another_process(run_script, tmp_path):
    place = tmp_path / "node.pickle"
    run_script(
        "import cloudpickle, pathlib\n"
        "from hypernodes import node\n"
        "@node\ndef of_main(x, y=3):\n    return x + y\n"
        f"pathlib.Path({str(place)!r}).write_bytes(cloudpickle.dumps(of_main))\n"
    )
    assert run(pickle.loads(place.read_bytes()), x=1) == 4


def test_copies_are_equal_in_all_facts():
    for copied in (copy.copy(bounds), copy.deepcopy(bounds)):
        assert copied.func is bounds.func
        assert copied.output_names == bounds.output_names
        assert copied.resources == bounds.resources


def test_data_frame_is_one_value_and_not_its_column_names():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"price": [1], "count": [2]})
    pipeline = Pipeline([node(output_name=("clean", "report"))(lambda: frame)])

    with pytest.raises(NodeOutputError, match="DataFrame"):
        pipeline.run()


IN_MAIN = """
import pickle
from hypernodes import Pipeline, node

@node
def double(x):
    return 2 * x

def outer(factor):
    return node("scaled")(lambda double: factor * double)

pipeline = pickle.loads(pickle.dumps(Pipeline([double, outer(3)])))
assert pipeline.run({"x": 4}) == {"double": 8, "scaled": 24}
"""


def test_nodes_of_a_script_and_of_closures_pickle(run_script):
    run_script(IN_MAIN)
