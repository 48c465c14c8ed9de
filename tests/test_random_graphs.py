"""Random graphs, against an evaluation of the same description in plain Python.

A `Graph` here is only data. `build` makes pipelines of it; `Evaluation` computes it by recursion,
calling for a value when somebody needs it, and knows nothing of plans, segments or schedulers.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypernodes import (
    Failure,
    MissingInputError,
    Pipeline,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
)

SEQUENTIAL = RuntimeConfig(executor=SequentialExecutor())
CONFIGS = (
    SEQUENTIAL,
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=4)),
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=1)),
    RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2), retries=0, callback_errors="warn"),
)
patient = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture(autouse=True, scope="module")
def pools():
    yield
    for config in CONFIGS:
        config.executor.close()


# ---------------------------------------------------------------- descriptions

Shape = tuple[int, ...]
"""() for one value, (3,) for a list of three, (3, 2) for a list of three lists of two."""


@dataclass(eq=False)
class Param:
    name: str
    own_name: str
    kind: int  # 0 by position only, 1 either way, 2 by name only
    default: int | None


@dataclass(eq=False)
class Func:
    name: str
    params: list[Param]
    outputs: dict[str, Shape]
    single: bool
    is_async: bool
    fault: int | None
    config: RuntimeConfig | None


@dataclass(eq=False)
class Nest:
    name: str
    graph: Graph
    inner_names: dict[str, str]  # by outer names
    outer_names: dict[str, str]  # by inner names
    renames_all: bool
    map_over: tuple[str, ...]
    mode: str
    config: RuntimeConfig | None

    @property
    def outputs(self) -> dict[str, Shape]:
        inner = self.graph.outputs
        return {outer: self.lengths + inner[i] for i, outer in self.outer_names.items()}

    lengths: Shape = ()


@dataclass(eq=False)
class Graph:
    members: list[Func | Nest]
    roots: dict[str, Shape]
    bound: dict[str, Any] = field(default_factory=dict)
    config: RuntimeConfig | None = None

    @property
    def outputs(self) -> dict[str, Shape]:
        return {name: shape for m in self.members for name, shape in m.outputs.items()}

    @property
    def names(self) -> dict[str, Shape]:
        return self.roots | self.outputs

    def maker(self, name: str) -> Func | Nest | None:
        return next((m for m in self.members if name in m.outputs), None)


def inputs_of(member: Func | Nest) -> list[str]:
    return [p.name for p in member.params] if isinstance(member, Func) else [*member.inner_names]


# ---------------------------------------------------------------- what functions compute


class FaultError(Exception):
    """What a function of a random graph raises."""


def digest(*facts: Any) -> int:
    return zlib.crc32(repr(facts).encode())


def shaped(shape: Shape, *facts: Any) -> Any:
    """Return a value of `shape` that depends on `facts`."""
    if not shape:
        return digest(*facts)
    return [shaped(shape[1:], i, *facts) for i in range(shape[0])]


def compute(func: Func, arguments: dict[str, Any]) -> Any:
    """Return what `func` returns for arguments by its own parameters' names."""
    facts = [func.name, *(arguments[param.own_name] for param in func.params)]
    if func.fault is not None and digest(*facts) % 5 == func.fault:
        raise FaultError(func.name)
    values = tuple(shaped(shape, i, *facts) for i, shape in enumerate(func.outputs.values()))
    return values[0] if func.single else values


# ---------------------------------------------------------------- the oracle


class Missing:
    """A value that is nowhere."""


MISSING = Missing()


@dataclass
class Needs:
    """What some outputs need, whatever the values are."""

    outside: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


def needs(graph: Graph, present: set[str], wanted: list[str]) -> Needs:
    """Return which of the `present` names are needed for `wanted`, and which others are missing."""
    demand = Demand(graph, present)
    for name in wanted:
        demand.need(name)
    return demand.found


class Demand:
    """What is needed of one graph, found out name by name."""

    def __init__(self, graph: Graph, present: set[str]) -> None:
        self.graph = graph
        self.present = present
        self.found = Needs()
        self._seen: set[str] = set()

    def need(self, name: str, *, optional: bool = False) -> None:
        if name in self.present:
            self.found.outside.add(name)
        elif self.graph.maker(name) is not None:
            self._make(name)
        elif name not in self.graph.bound and not optional:
            self.found.missing.add(name)

    def _make(self, name: str) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        maker = self.graph.maker(name)
        if isinstance(maker, Nest):
            self._descend(maker, name)
            return
        for param in maker.params:
            self.need(param.name, optional=param.default is not None)

    def _descend(self, nest: Nest, name: str) -> None:
        outer, there = seen_inside(self.graph, self.present, nest)
        inner = inner_name(nest, name)
        below = needs(nest.graph, there, [inner])
        for other in below.outside:
            self.need(outer[other])
        self.found.missing.update(outer[other] for other in below.missing)
        for other in nest.map_over:
            self.need(other, optional=nest.inner_names[other] in nest.graph.bound)


def is_there(graph: Graph, present: set[str], name: str) -> bool:
    return name in present or name in graph.bound or graph.maker(name) is not None


def seen_inside(graph: Graph, present: set[str], nest: Nest) -> tuple[dict[str, str], set[str]]:
    """Return what a nested pipeline sees of the names outside.

    Its inputs, and those of its outputs that are given; those of a mapped one item by item.

    Returns:
        The outer names by inner ones, and the inner names that have a value.
    """
    outer = {inner: name for name, inner in nest.inner_names.items()}
    there = {inner for inner, name in outer.items() if is_there(graph, present, name)}
    given_outputs = {i: name for i, name in nest.outer_names.items() if name in present}
    outer |= given_outputs
    there |= given_outputs.keys()
    return outer, there


def inner_name(nest: Nest, name: str) -> str:
    return next(inner for inner, outer in nest.outer_names.items() if outer == name)


class Evaluation:
    """Values of one graph for one set of inputs, computed when they are asked for.

    Args:
        graph: The graph.
        outside: Returns the value that is given for a name, or `MISSING`.
        there: Which names are given.
        log: Receives the name of each function that is called, and of each that fails.
    """

    def __init__(self, graph, outside, there, log):
        self.graph = graph
        self.outside = outside
        self.there = there
        self.log = log
        self.values = {}
        self.children = {}

    def has(self, name):
        return is_there(self.graph, self.there, name)

    def get(self, name):
        """Return a value, or a `FaultError` where it cannot be computed."""
        if name not in self.values:
            self.values[name] = self._find(name)
        return self.values[name]

    def _find(self, name):
        if name in self.there:
            return self.outside(name)
        maker = self.graph.maker(name)
        if isinstance(maker, Func):
            self._call(maker)
            return self.values[name]
        if isinstance(maker, Nest):
            return self._nested(maker, name)
        return self.graph.bound[name]

    def _call(self, func):
        arguments = {
            param.own_name: self.get(param.name) if self.has(param.name) else param.default
            for param in func.params
        }
        faults = [value for value in arguments.values() if isinstance(value, FaultError)]
        if faults:
            result = dict.fromkeys(func.outputs, faults[0])
        else:
            self.log.calls[func.name] += 1
            try:
                made = compute(func, arguments)
            except FaultError as error:
                self.log.faults.add(func.name)
                result = dict.fromkeys(func.outputs, error)
            else:
                result = dict(zip(func.outputs, (made,) if func.single else made, strict=True))
        self.values |= {n: v for n, v in result.items() if n not in self.there}

    def _nested(self, nest, name):
        inner = inner_name(nest, name)
        if not nest.map_over:
            return self._child(nest).get(inner)
        children = self._items(nest)
        for child in children if isinstance(children, list) else []:
            child.get(inner)
        self._shared(nest, inner)
        if isinstance(children, FaultError):
            return children
        found = [child.get(inner) for child in children]
        faults = [value for value in found if isinstance(value, FaultError)]
        return faults[0] if faults else found

    def _shared(self, nest, inner):
        """Compute what all items share, also where there are no items to share it."""
        outer, there = seen_inside(self.graph, self.there, nest)
        for other in needs(nest.graph, there, [inner]).outside:
            self.get(outer[other])

    def _child(self, nest):
        if nest not in self.children:
            outer, there = seen_inside(self.graph, self.there, nest)
            look = lambda name: self.get(outer[name])  # noqa: E731
            self.children[nest] = Evaluation(nest.graph, look, there, self.log)
        return self.children[nest]

    def _items(self, nest):
        if nest in self.children:
            return self.children[nest]
        outer, there = seen_inside(self.graph, self.there, nest)
        names = [nest.inner_names[o] for o in nest.map_over]
        lists = [self.get(outer[n]) if n in there else nest.graph.bound[n] for n in names]
        faults = [value for value in lists if isinstance(value, FaultError)]
        if faults:
            self.children[nest] = faults[0]
            return faults[0]
        rows = zip(*lists, strict=True) if nest.mode == "zip" else itertools.product(*lists)
        columns = {i: self.get(o) for i, o in nest.outer_names.items() if o in self.there}
        self.children[nest] = [
            Evaluation(
                nest.graph,
                self._item(
                    outer,
                    dict(zip(names, row, strict=True)) | {i: c[k] for i, c in columns.items()},
                ),
                there | set(names),
                self.log,
            )
            for k, row in enumerate(rows)
        ]
        return self.children[nest]

    def _item(self, outer, own):
        return lambda name: own[name] if name in own else self.get(outer[name])


@dataclass
class Log:
    """Which functions were called, how often, and which of them failed."""

    calls: Counter[str] = field(default_factory=Counter)
    faults: set[str] = field(default_factory=set)


def expected_names(graph: Graph, inputs: dict[str, Any], asked: Any) -> list[str]:
    """Return the names of a run's results, in order."""
    if isinstance(asked, str):
        return [asked]
    if asked is not None:
        return list(dict.fromkeys(asked))
    outputs = [*graph.outputs]
    if not inputs.keys() & graph.outputs.keys():
        return outputs
    return [name for name in outputs if name in inputs or name in computed(graph, inputs)]


def computed(graph: Graph, inputs: dict[str, Any]) -> set[str]:
    """Return what is computed where outputs are given and no output is asked for.

    That is: what leads to an output that nothing takes, and what comes with it.
    """
    ends = graph.outputs.keys() - taken(graph, set(graph.outputs))
    return made(graph, set(inputs), ends)


def taken(graph: Graph, live: set[str]) -> set[str]:
    """Return what is taken by those that make something of `live`, also inside nested pipelines."""
    found: set[str] = set()
    for member in graph.members:
        if live.isdisjoint(member.outputs):
            continue
        found.update(inputs_of(member))
        if isinstance(member, Nest):
            visible = {inner for inner, outer in member.outer_names.items() if outer in live}
            inside = taken(member.graph, made(member.graph, set(), visible))
            found |= {outer for inner, outer in member.outer_names.items() if inner in inside}
    return found


def made(graph: Graph, present: set[str], wanted: set[str]) -> set[str]:
    """Return the outputs that are there once `wanted` has been computed."""
    found: set[str] = set()
    inside: dict[Nest, set[str]] = {}

    def visit(name: str) -> None:
        maker = graph.maker(name)
        if name in present or name in found or maker is None:
            return
        found.add(name)
        if isinstance(maker, Func):
            found.update(maker.outputs)
            names = set(inputs_of(maker))
        else:
            names = set(maker.map_over)
            outer, there = seen_inside(graph, present, maker)
            inner = inner_name(maker, name)
            inside.setdefault(maker, set()).add(inner)
            names |= {outer[i] for i in needs(maker.graph, there, [inner]).outside}
        for other in names:
            visit(other)

    for name in wanted:
        visit(name)
    for nest, names in inside.items():
        _, there = seen_inside(graph, present, nest)
        below = made(nest.graph, there, names)
        found |= {outer for inner, outer in nest.outer_names.items() if inner in below}
    return found - present


def wanted_names(graph: Graph, inputs: dict[str, Any], asked: Any) -> list[str]:
    names = expected_names(graph, inputs, asked)
    return [name for name in names if name in graph.outputs]


def evaluate(graph: Graph, inputs: dict[str, Any], asked: Any) -> tuple[dict[str, Any], Log]:
    """Return what a run has to give, and what it has to call."""
    log = Log()
    evaluation = Evaluation(graph, inputs.__getitem__, inputs.keys(), log)
    return {name: evaluation.get(name) for name in expected_names(graph, inputs, asked)}, log


# ---------------------------------------------------------------- building


class Recorder:
    """Counts the calls of the functions of a pipeline."""

    def __init__(self):
        self._lock = threading.Lock()
        self.calls = Counter()

    def add(self, name):
        with self._lock:
            self.calls[name] += 1

    def take(self):
        with self._lock:
            calls, self.calls = self.calls, Counter()
        return calls


def function(func: Func, recorder: Recorder) -> Any:
    """Return a Python function with the very parameters of `func`."""
    parts, kinds = [], [param.kind for param in func.params]
    for i, param in enumerate(func.params):
        if param.kind == 2 and 2 not in kinds[:i]:
            parts.append("*")
        parts.append(param.own_name + ("" if param.default is None else f"={param.default}"))
        if param.kind == 0 and 0 not in kinds[i + 1 :]:
            parts.append("/")
    names = ", ".join(f"{p.own_name}={p.own_name}" for p in func.params)
    head = f"{'async ' if func.is_async else ''}def {func.name}({', '.join(parts)}):"
    pause = "\n await sleep(0)" if func.is_async else ""
    source = f"{head}{pause}\n return call(dict({names}))"

    def call(arguments):
        recorder.add(func.name)
        return compute(func, arguments)

    space = {"call": call, "sleep": asyncio.sleep}
    exec(source, space)  # noqa: S102 - random parameters need a random signature
    return space[func.name]


def build_node(func: Func, recorder: Recorder, *, configured: bool) -> Any:
    outputs = tuple(func.outputs)
    made = node(outputs[0] if func.single else outputs)(function(func, recorder))
    renames = {p.own_name: p.name for p in func.params if p.own_name != p.name}
    made = made.rename(inputs=renames)
    return made.with_config(func.config) if configured and func.config else made


def build_nest(nest: Nest, recorder: Recorder, *, configured: bool) -> Any:
    changed = {o: i for o, i in nest.inner_names.items() if o != i}
    inner = build(nest.graph, recorder, name=nest.name, configured=configured)
    made = inner.as_node(
        input_mapping=changed or None,
        output_mapping=nest.outer_names if nest.renames_all else None,
        map_over=nest.map_over or None,
        map_mode=nest.mode,
    )
    return made.with_config(nest.config) if configured and nest.config else made


def build(graph: Graph, recorder: Recorder, *, name: str = "top", configured: bool) -> Pipeline:
    members = [
        build_node(m, recorder, configured=configured)
        if isinstance(m, Func)
        else build_nest(m, recorder, configured=configured)
        for m in graph.members
    ]
    config = graph.config if configured else None
    return Pipeline(members, name=name, config=config).bind(**graph.bound)


# ---------------------------------------------------------------- drawing


class Names:
    """Names that are used once."""

    def __init__(self):
        self._numbers = itertools.count()

    def new(self, prefix):
        return f"{prefix}{next(self._numbers)}"


LENGTHS = st.sampled_from([0, 1, 2, 2, 3])
NUMBERS = st.integers(0, 99)
SOME_CONFIG = st.sampled_from([None, None, None, *CONFIGS])


@st.composite
def funcs(draw, available: dict[str, Shape], names: Names, *, faults: bool) -> Func:
    taken = draw(st.lists(st.sampled_from(sorted(available)), max_size=4, unique=True))
    kinds = sorted(draw(st.lists(st.integers(0, 2), min_size=len(taken), max_size=len(taken))))
    renamed = draw(st.booleans())
    params, gap = [], False
    for number, (name, kind) in enumerate(zip(taken, kinds, strict=True)):
        has_default = draw(st.integers(0, 3)) == 3 or (gap and kind < 2)
        gap = gap or (has_default and kind < 2)
        own_name = f"p{number}" if renamed else name
        params.append(Param(name, own_name, kind, draw(NUMBERS) if has_default else None))
    count = draw(st.sampled_from([1, 1, 1, 2, 3]))
    shapes = st.sampled_from([(), (), (), (0,), (1,), (2,), (3,), (2, 2)])
    name = names.new("f")
    return Func(
        name,
        params,
        {f"{name}_{i}": draw(shapes) for i in range(count)},
        single=count == 1 and draw(st.integers(0, 4)) < 4,
        is_async=draw(st.integers(0, 7)) == 7,
        fault=draw(st.sampled_from([None, None, 0, 1])) if faults else None,
        config=draw(SOME_CONFIG),
    )


@st.composite
def nests(draw, available: dict[str, Shape], names: Names, depth: int, *, faults: bool) -> Nest:
    taken = draw(st.lists(st.sampled_from(sorted(available)), min_size=1, max_size=4, unique=True))
    renamed = draw(st.booleans())
    inner_names = {name: names.new("i") if renamed else name for name in taken}
    mode = draw(st.sampled_from(["zip", "product"]))
    lists = [name for name in taken if available[name]]
    map_over = draw(subsets(lists))[:2]
    if mode == "zip":
        map_over = [n for n in map_over if available[n][0] == available[map_over[0]][0]]
    roots = {
        inner: available[outer][1:] if outer in map_over else available[outer]
        for outer, inner in inner_names.items()
    }
    graph = draw(graphs(names, roots, depth - 1, most=4, faults=faults))
    used = {outer: inner for outer, inner in inner_names.items() if inner in graph.roots}
    map_over = tuple(name for name in map_over if name in used)
    lengths = [available[name][0] for name in map_over]
    for outer, inner in used.items():
        if draw(st.integers(0, 4)) == 4:
            graph.bound[inner] = shaped(available[outer], draw(NUMBERS))
    shown = draw(st.sets(st.sampled_from(sorted(graph.outputs)), min_size=1))
    renames_all = draw(st.booleans())
    outer_names = {
        inner: names.new("o") if renames_all else inner
        for inner in graph.outputs
        if inner in shown or not renames_all
    }
    made = Nest(
        names.new("nest"),
        graph,
        used,
        outer_names,
        renames_all,
        map_over,
        mode,
        draw(SOME_CONFIG),
    )
    if map_over:
        made.lengths = (lengths[0] if mode == "zip" else math.prod(lengths),)
    return made


@st.composite
def graphs(
    draw, names: Names, roots: dict[str, Shape], depth: int, *, most: int, faults: bool
) -> Graph:
    available = dict(roots)
    members: list[Func | Nest] = []
    for _ in range(draw(st.integers(1, most))):
        if depth > 0 and draw(st.integers(0, 2)) == 2:
            member: Func | Nest = draw(nests(available, names, depth, faults=faults))
        else:
            member = draw(funcs(available, names, faults=faults))
        members.append(member)
        available |= member.outputs
    used = dict.fromkeys(name for m in members for name in inputs_of(m) if name in roots)
    order = draw(st.permutations(members))
    return Graph(order, {name: roots[name] for name in used}, config=draw(SOME_CONFIG))


@dataclass
class Scene:
    """A graph, and what it is run with."""

    graph: Graph
    inputs: dict[str, Any]
    asked: Any
    configured: bool


def subsets(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True) if names else st.just([])


ROOTS = {"x0": (), "x1": (), "x2": (2,), "x3": (3,), "x4": (3,), "x5": (0,), "x6": (2, 2)}


@st.composite
def scenes(draw, *, omit: bool = False, faults: bool = False, most: int = 8) -> Scene:
    graph = draw(graphs(Names(), ROOTS, draw(st.integers(0, 3)), most=most, faults=faults))
    for name, shape in graph.roots.items():
        if draw(st.integers(0, 5)) == 5:
            graph.bound[name] = shaped(shape, draw(NUMBERS))
    overrides = draw(st.lists(st.sampled_from(sorted(graph.outputs)), max_size=3, unique=True))
    given_names = [*graph.roots, *overrides]
    if omit:
        given_names = draw(subsets(given_names))
    else:
        for name in draw(subsets([*graph.roots])):
            rest = [other for other in given_names if other != name]
            if not needs(graph, set(rest), [*graph.outputs]).missing:
                given_names = rest
    names = graph.names
    inputs = {name: shaped(names[name], draw(NUMBERS), name) for name in given_names}
    one = st.sampled_from(sorted(graph.outputs))
    asked = draw(st.one_of(st.none(), one, st.lists(one, min_size=1, max_size=4)))
    return Scene(graph, inputs, asked, configured=draw(st.booleans()))


def configs_of(scene: Scene) -> list[RuntimeConfig | None]:
    """Return the configs of the calls; None lets those in the graph decide."""
    return [None, *CONFIGS] if scene.configured else [*CONFIGS]


# ---------------------------------------------------------------- the properties


@patient
@given(scenes())
def test_a_run_gives_what_plain_python_gives_and_calls_what_is_needed_once(scene):
    recorder = Recorder()
    pipeline = build(scene.graph, recorder, configured=scene.configured)
    right, log = evaluate(scene.graph, scene.inputs, scene.asked)
    assert set(pipeline.root_args) == scene.graph.roots.keys()
    given_inputs = dict(scene.inputs)

    for config in configs_of(scene):
        found = pipeline.run(scene.inputs, output_name=scene.asked, config=config)
        assert list(found.items()) == list(right.items())
        assert recorder.take() == log.calls
    assert scene.inputs == given_inputs


@patient
@given(scenes(omit=True))
def test_only_what_is_needed_is_required_and_all_that_is_missing_is_named(scene):
    recorder = Recorder()
    graph, inputs = scene.graph, scene.inputs
    pipeline = build(graph, recorder, configured=scene.configured)
    wanted = wanted_names(graph, inputs, scene.asked)
    missing = needs(graph, set(inputs), wanted).missing

    for config in configs_of(scene):
        if missing:
            with pytest.raises(MissingInputError) as caught:
                pipeline.run(inputs, output_name=scene.asked, config=config)
            assert set(caught.value.missing) == missing
            assert not recorder.take()
        else:
            right, log = evaluate(graph, inputs, scene.asked)
            assert pipeline.run(inputs, output_name=scene.asked, config=config) == right
            assert recorder.take() == log.calls
    required = needs(graph, set(), [*graph.outputs]).missing
    assert set(pipeline.required_args) == required


@patient
@given(scenes(faults=True))
def test_a_run_with_failing_nodes_raises_what_one_of_them_raised(scene):
    recorder = Recorder()
    pipeline = build(scene.graph, recorder, configured=scene.configured)
    right, log = evaluate(scene.graph, scene.inputs, scene.asked)

    for config in configs_of(scene):
        if not log.faults:
            assert pipeline.run(scene.inputs, output_name=scene.asked, config=config) == right
            assert recorder.take() == log.calls
            continue
        with pytest.raises(FaultError) as caught:
            pipeline.run(scene.inputs, output_name=scene.asked, config=config)
        (name,) = caught.value.args
        assert name in log.faults
        assert any(f"node {name!r}" in line for line in caught.value.__notes__)
    for config in CONFIGS:
        config.executor.close()
    calls = recorder.take()
    most = len(configs_of(scene))
    assert all(count <= most * log.calls[name] for name, count in calls.items())


@st.composite
def mapped_scenes(draw, *, faults: bool):
    scene = draw(scenes(faults=faults, most=5))
    names = sorted(scene.inputs)
    if not names:
        scene.inputs["x0"] = 1
        scene.graph.roots["x0"] = ()
        scene.graph.members.append(
            Func("extra", [Param("x0", "x0", 1, None)], {"extra": ()}, True, False, None, None)
        )
        names = ["x0"]
    map_over = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    mode = draw(st.sampled_from(["zip", "product"]))
    length = draw(st.sampled_from([0, 1, 2, 3, 5, 9]))
    shapes = scene.graph.names
    for name in map_over:
        own = length if mode == "zip" else draw(st.sampled_from([0, 1, 2, 3]))
        scene.inputs[name] = [shaped(shapes[name], i, name) for i in range(own)]
    return scene, tuple(map_over), mode


def items_of(scene, map_over, mode):
    lists = [scene.inputs[name] for name in map_over]
    rows = zip(*lists, strict=True) if mode == "zip" else itertools.product(*lists)
    return [dict(zip(map_over, row, strict=True)) for row in rows]


@patient
@given(mapped_scenes(faults=False))
def test_a_map_gives_for_each_item_what_plain_python_gives(drawn):
    scene, map_over, mode = drawn
    recorder = Recorder()
    pipeline = build(scene.graph, recorder, configured=scene.configured)
    right, calls = [], Counter()
    for item in items_of(scene, map_over, mode):
        values, log = evaluate(scene.graph, scene.inputs | item, scene.asked)
        right.append(list(values.items()))
        calls += log.calls
    options = {"map_over": map_over, "map_mode": mode, "output_name": scene.asked}

    for config in configs_of(scene):
        found = pipeline.map(scene.inputs, **options, config=config)
        assert [list(values.items()) for values in found] == right
        assert recorder.take() == calls
        lazy = pipeline.map_iter(scene.inputs, **options, config=config)
        assert [list(values.items()) for values in lazy] == right
        assert recorder.take() == calls
        loose = dict(pipeline.map_iter(scene.inputs, **options, config=config, ordered=False))
        assert [list(loose[i].items()) for i in range(len(right))] == right
        assert recorder.take() == calls


@patient
@given(mapped_scenes(faults=True))
def test_a_map_returns_the_failures_of_the_items_that_fail_and_no_others(drawn):
    scene, map_over, mode = drawn
    recorder = Recorder()
    pipeline = build(scene.graph, recorder, configured=scene.configured)
    items = items_of(scene, map_over, mode)
    right = [evaluate(scene.graph, scene.inputs | item, scene.asked) for item in items]
    faults = {name for _, log in right for name in log.faults}
    options = {"map_over": map_over, "map_mode": mode, "output_name": scene.asked}

    for config in configs_of(scene):
        found = pipeline.map(scene.inputs, **options, config=config, on_error="return")
        assert len(found) == len(items)
        for index, (outcome, (values, log)) in enumerate(zip(found, right, strict=True)):
            if not log.faults:
                assert outcome == values
                continue
            assert isinstance(outcome, Failure)
            assert isinstance(outcome.error, FaultError)
            assert outcome.index == index
            assert outcome.inputs == items[index]
            assert outcome.node == outcome.error.args[0]
            assert outcome.node in log.faults
            assert outcome.path[0] == "top"
            assert outcome.path[-1] == outcome.node
        if faults:
            with pytest.raises(FaultError) as caught:
                pipeline.map(scene.inputs, **options, config=config)
            assert caught.value.args[0] in faults
