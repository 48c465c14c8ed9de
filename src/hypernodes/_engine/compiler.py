"""Compiling: from a pipeline, the outputs asked for and the inputs given, to steps in order.

A plan is worked out once and reused. Nested pipelines that run once, in the same place, dissolve
into the steps of the outer plan, so that their nodes start as soon as their own inputs are there.
What is mapped, or runs elsewhere, is one step with a plan of its own inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypernodes._engine.demand import default_outputs
from hypernodes._engine.plan import Argument, Dissolved, Inner, Plan, Request, Slot, Step
from hypernodes._nested import PipelineNode
from hypernodes._node import BaseNode, Node
from hypernodes.abc import RunContext
from hypernodes.exceptions import MissingInputError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hypernodes._engine.graph import Graph
    from hypernodes._parameters import Parameter
    from hypernodes.pipeline import Pipeline


def compile_plan(pipeline: Pipeline, request: Request) -> Plan:
    """Return the plan for `request`.

    Raises:
        MissingInputError: Inputs are needed that were not given.
    """
    plan = draft_plan(pipeline, request)
    if plan.missing:
        raise _missing_error(pipeline, plan)
    return plan


def draft_plan(pipeline: Pipeline, request: Request) -> Plan:
    """Return the plan for `request`, or what is missing for it."""
    if request.ctx.nodes_on is None:
        return _Compiler(pipeline, request).compile()
    plan = draft_plan(pipeline, replace(request, ctx=replace(request.ctx, nodes_on=None)))
    return _in_one_step(pipeline, request, plan) if plan.steps else plan


def _in_one_step(pipeline: Pipeline, request: Request, plan: Plan) -> Plan:
    """Return the plan that has all of `plan` done in one step, by another executor."""
    ctx = request.ctx
    inputs, outputs = (*plan.shared, *plan.mapped), tuple(plan.results)
    step = Step(
        0,
        pipeline.as_node(name=ctx.path[-1]),
        ctx.path,
        ctx.config,
        arguments=tuple(map(Argument, range(len(inputs)))),
        outputs=tuple(range(len(inputs), len(inputs) + len(outputs))),
        inner=Inner(pipeline, ctx, inputs, outputs),
    )
    slots = {name: slot for slot, name in enumerate(inputs)}
    return Plan(
        pipeline,
        request,
        (step,),
        slots=len(inputs) + len(outputs),
        shared={name: slots[name] for name in plan.shared},
        mapped={name: slots[name] for name in plan.mapped},
        results=dict(zip(outputs, step.outputs, strict=True)),
        used=plan.used,
        inside=plan,
    )


def _missing_error(pipeline: Pipeline, plan: Plan) -> MissingInputError:
    missing = {name: plan.missing[name] for name in pipeline.root_args if name in plan.missing}
    needs = ", ".join(
        f"{name!r} (needed by node {path[-1]!r} of pipeline {' > '.join(path[:-1])!r})"
        for name, path in missing.items()
    )
    first, path = next(iter(missing.items()))
    meant = nearest(first, pipeline.output_names)
    rename = f"; or did you mean the output {meant!r}? rename one of them" if meant else ""
    message = f"missing input: {needs}; give it in inputs, or bind() it{rename}"
    return MissingInputError(message, missing=tuple(missing), node=path[-1], name=first)


# ---------------------------------------------------------------- where a value comes from


@dataclass(frozen=True, slots=True)
class _Given:
    """An input of the outermost pipeline."""

    name: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """A value that the pipeline of `scope` has bound."""

    scope: _Scope
    name: str


@dataclass(slots=True, eq=False)
class _Default:
    """The default of a parameter that has to be passed, because others follow by position."""

    parameter: Parameter


@dataclass(frozen=True, slots=True)
class _Made:
    """An output of a vertex."""

    vertex: _Vertex
    position: int


@dataclass(slots=True, eq=False)
class _Absent:
    """Nowhere: the name under which it could have been given."""

    name: str


_Source = _Given | _Bound | _Default | _Made | _Absent


@dataclass(slots=True, eq=False)
class _Scope:
    """A pipeline at one place of the plan: the outermost, or one that dissolves into it.

    `given` tells, for names whose values are given from outside, what the inputs call them.
    """

    pipeline: Pipeline
    ctx: RunContext
    outer: _Scope | None = None
    outer_names: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    children: dict[BaseNode, _Scope] = field(default_factory=dict)
    vertices: dict[BaseNode, _Vertex] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return self.pipeline.graph

    def context_of(self, node: BaseNode) -> RunContext:
        """Return the context of a nested pipeline, or of a node with a config of its own."""
        config, cached = self.ctx.config, self.ctx.cached
        if isinstance(node, PipelineNode):
            own = node.config or node.pipeline.own_config
            path = (*self.ctx.path, node.name)
            cached = cached and node.cache
        else:
            own, path = node.config, self.ctx.path
        chosen = config if self.ctx.pinned else own or config
        audience = self.ctx.audience
        return RunContext(chosen, self.ctx.pinned, path, cached=cached, audience=audience)


@dataclass(slots=True, eq=False)
class _Vertex:
    """A node that will be a step, once it is known what is wanted of it."""

    scope: _Scope
    node: BaseNode
    ctx: RunContext
    wanted: set[int] = field(default_factory=set)
    arguments: tuple[tuple[_Source, str | None], ...] = ()
    inner: Inner | None = None

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.scope.ctx.path, self.node.name)

    @property
    def cached(self) -> bool:
        """Whether the outermost plan looks it up: a function, or a map whose items it runs."""
        if not (self.node.cache and self.ctx.cached) or self.ctx.config.cache is None:
            return False
        away = self.ctx.away and self.ctx.maps_on is None
        return isinstance(self.node, Node) or not away

    def needed(self) -> Iterator[_Vertex]:
        for source, _ in self.arguments:
            if isinstance(source, _Made):
                yield source.vertex


class _Compiler:
    """The work on one plan: wanted values first, from the end; then the steps, from the start."""

    def __init__(self, pipeline: Pipeline, request: Request) -> None:
        given = {name: name for name in request.given}
        self._root = _Scope(pipeline, request.ctx, given=given)
        self._request = request
        self._plan = Plan(pipeline, request)
        self._slots: dict[object, Slot] = {}
        self._scopes: dict[_Scope, int] = {}

    def compile(self) -> Plan:
        names = self._request.outputs
        if names is None:
            names = default_outputs(self._root.graph, self._request.given)
        wanted = {name: self._resolve(self._root, name) for name in names}
        self._plan.used.update(s.name for s in wanted.values() if isinstance(s, _Given))
        self._demand([source for source in wanted.values() if isinstance(source, _Made)])
        if self._plan.missing:
            return self._plan
        order = _in_order([s.vertex for s in wanted.values() if isinstance(s, _Made)])
        self._plan.steps = tuple(self._step(index, vertex) for index, vertex in enumerate(order))
        self._plan.results = {name: self._slot(source) for name, source in wanted.items()}
        self._plan.slots = len(self._slots)
        if self._request.ctx.audience:
            self._keep_scopes(order)
        return self._plan

    # ------------------------------------------------------------ what is wanted

    def _demand(self, sources: list[_Made]) -> None:
        """Find all vertices that are needed, and what is wanted of each.

        What a pipeline inside a vertex needs is asked when everything wanted of it so far is known:
        the answer takes a plan of its own.
        """
        pending, inside = list(sources), dict[_Vertex, None]()
        while pending or inside:
            if not pending:
                vertex, _ = inside.popitem()
                pending += self._connected(vertex)
                continue
            source = pending.pop()
            vertex = source.vertex
            first = not vertex.wanted
            if source.position in vertex.wanted:
                continue
            vertex.wanted.add(source.position)
            if isinstance(vertex.node, PipelineNode):
                inside[vertex] = None
            elif first:
                pending += self._connected(vertex)

    def _connected(self, vertex: _Vertex) -> list[_Made]:
        self._connect(vertex)
        sources = [source for source, _ in vertex.arguments]
        self._plan.used.update(source.name for source in sources if isinstance(source, _Given))
        return [source for source in sources if isinstance(source, _Made)]

    def _connect(self, vertex: _Vertex) -> None:
        """Find out where the arguments of `vertex` come from."""
        if isinstance(vertex.node, PipelineNode):
            self._connect_pipeline(vertex, vertex.node)
        elif isinstance(vertex.node, Node):
            self._connect_function(vertex, vertex.node)

    def _connect_function(self, vertex: _Vertex, node: Node) -> None:
        found = list(self._function_arguments(vertex, node))
        if not vertex.ctx.away:
            vertex.arguments = tuple((source, keyword) for _, source, keyword in found)
            return
        given = [(name, source) for name, source, _ in found if not isinstance(source, _Default)]
        vertex.arguments = tuple((source, None) for _, source in given)
        vertex.inner = Inner(
            vertex.scope.pipeline.alone(node),
            replace(vertex.ctx, cached=False),  # it is looked up before it is sent there
            inputs=tuple(name for name, _ in given),
            outputs=node.output_names,
        )

    def _function_arguments(
        self, vertex: _Vertex, node: Node
    ) -> Iterator[tuple[str, _Source, str | None]]:
        """Yield names, sources and keywords: by position until one is left out, then by name."""
        left_out = False
        for name, parameter in zip(node.root_args, node.parameters, strict=True):
            source = self._resolve(vertex.scope, name)
            if not isinstance(source, _Absent):
                yield name, source, parameter.keyword(after_gap=left_out)
            elif not parameter.has_default:
                self._plan.missing.setdefault(source.name, vertex.path)
            elif parameter.is_positional_only:
                yield name, _Default(parameter), None
            else:
                left_out = True

    def _connect_pipeline(self, vertex: _Vertex, node: PipelineNode) -> None:
        """Ask the inner pipeline what it needs for what is wanted of it."""
        outer_names = dict(zip(node.inner_args, node.root_args, strict=True))
        sources: dict[str, _Source] = {
            inner: self._resolve(vertex.scope, outer) for inner, outer in outer_names.items()
        }
        mapped = {inner for inner, outer in outer_names.items() if outer in node.map_over}
        inside = _given_inside(vertex.scope, node)
        sources |= {inner: _Given(name) for inner, name in inside.items()}
        per_item = mapped.union(inside if node.map_over else ())
        there = {inner for inner, source in sources.items() if not isinstance(source, _Absent)}
        outputs = tuple(node.inner_outputs[position] for position in sorted(vertex.wanted))
        bound = mapped & node.pipeline.bound.keys()
        request = Request(frozenset(there | bound), frozenset(per_item), outputs, vertex.ctx)
        draft = draft_plan(node.pipeline, request)
        needed = {*draft.used, *(mapped - bound)} & sources.keys()
        for inner in [*draft.missing, *sorted(mapped - bound - there)]:
            source = sources[inner]
            assert isinstance(source, _Absent)  # noqa: S101 - what is missing inside is not there
            self._plan.missing.setdefault(source.name, draft.missing.get(inner, vertex.path))
        inputs = tuple(name for name in sources if name in (needed | mapped) & there)
        vertex.arguments = tuple((sources[name], None) for name in inputs)
        given = tuple(name for name in inputs if name in inside and node.map_over)
        vertex.inner = _inner(node, vertex.ctx, inputs, outputs, given)

    def _is_elsewhere(self, ctx: RunContext) -> bool:
        here = self._request.ctx.config
        there = ctx.config
        return there is not here and (
            there.executor != here.executor or there.backend != here.backend
        )

    # ------------------------------------------------------------ where a value comes from

    def _resolve(self, scope: _Scope, name: str) -> _Source:
        """Find the source of a name that is used in `scope`: the outermost one wins."""
        passed: list[tuple[_Scope, str]] = []
        while True:
            if name in scope.given:
                return _Given(scope.given[name])
            node = scope.graph.producers.get(name)
            if node is not None:
                return self._made(scope, node, scope.graph.positions[name])
            passed.append((scope, name))
            if scope.outer is None:
                break
            scope, name = scope.outer, scope.outer_names[name]
        for inner_scope, inner_name in reversed(passed):
            if inner_name in inner_scope.pipeline.bound:
                return _Bound(inner_scope, inner_name)
        return _Absent(name)

    def _made(self, scope: _Scope, node: BaseNode, position: int) -> _Source:
        """Go into nested pipelines that dissolve, until a vertex makes the value."""
        while isinstance(node, PipelineNode):
            child = self._dissolved(scope, node)
            if child is None:
                break
            name = node.inner_outputs[position]
            scope, node = child, child.graph.producers[name]
            position = scope.graph.positions[name]
        vertex = scope.vertices.get(node)
        if vertex is None:
            ctx = self._placed(scope.context_of(node), node)
            vertex = scope.vertices[node] = _Vertex(scope, node, ctx)
        return _Made(vertex, position)

    def _placed(self, ctx: RunContext, node: BaseNode) -> RunContext:
        """Return the context of what does not dissolve, with where it runs."""
        around = self._request.ctx
        if self._is_elsewhere(ctx):
            return replace(ctx, away=True)
        if isinstance(node, PipelineNode) and around.maps_on is not None:
            return replace(ctx, away=True, maps_on=around.maps_on)
        return replace(ctx, in_order=True) if around.in_order else ctx

    def _dissolved(self, scope: _Scope, node: PipelineNode) -> _Scope | None:
        if node.map_over:
            return None
        if node not in scope.children:
            ctx = scope.context_of(node)
            if self._is_elsewhere(ctx):
                return None
            names = dict(zip(node.inner_args, node.root_args, strict=True))
            given = _given_inside(scope, node)
            scope.children[node] = _Scope(node.pipeline, ctx, scope, names, given)
        return scope.children[node]

    # ------------------------------------------------------------ steps

    def _step(self, index: int, vertex: _Vertex) -> Step:
        node = vertex.node
        positions = (
            range(len(node.output_names)) if isinstance(node, Node) else sorted(vertex.wanted)
        )
        return Step(
            index,
            node,
            vertex.path,
            vertex.ctx.config,
            arguments=tuple(Argument(self._slot(s), keyword) for s, keyword in vertex.arguments),
            outputs=tuple(self._slot(_Made(vertex, position)) for position in positions),
            inner=vertex.inner,
            cached=vertex.cached,
        )

    # ------------------------------------------------------------ dissolved pipelines

    def _keep_scopes(self, order: list[_Vertex]) -> None:
        for step, vertex in zip(self._plan.steps, order, strict=True):
            step.scope = self._scope_number(vertex.scope)

    def _scope_number(self, scope: _Scope) -> int | None:
        """Return the place of a dissolved pipeline among those of the plan; None for the root."""
        if scope.outer is None:
            return None
        if scope not in self._scopes:
            outer = self._scope_number(scope.outer)
            inputs = {n: self._resolve(scope, n) for n in scope.outer_names}
            outputs = {n: self._resolve(scope, n) for n in scope.pipeline.output_names}
            self._scopes[scope] = len(self._plan.scopes)
            known = Dissolved(
                scope.pipeline, scope.ctx, outer, self._known(inputs), self._known(outputs)
            )
            self._plan.scopes.append(known)
        return self._scopes[scope]

    def _known(self, sources: Mapping[str, _Source]) -> dict[str, Slot]:
        return {n: self._slots[source] for n, source in sources.items() if source in self._slots}

    # ------------------------------------------------------------ slots

    def _slot(self, source: _Source) -> Slot:
        known = self._slots.get(source)
        if known is not None:
            return known
        slot = self._slots[source] = len(self._slots)
        if isinstance(source, _Given):
            plan = self._plan
            where = plan.mapped if source.name in self._request.mapped else plan.shared
            where[source.name] = slot
        elif isinstance(source, _Bound):
            self._plan.constants[slot] = source.scope.pipeline.bound[source.name]
        elif isinstance(source, _Default):
            self._plan.constants[slot] = source.parameter.default
        return slot


def _given_inside(scope: _Scope, node: PipelineNode) -> dict[str, str]:
    """Return the outputs of a nested pipeline that are given from outside, by inner names."""
    pairs = zip(node.inner_outputs, node.output_names, strict=True)
    return {inner: scope.given[outer] for inner, outer in pairs if outer in scope.given}


def _inner(
    node: PipelineNode,
    ctx: RunContext,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    given: tuple[str, ...],
) -> Inner:
    """Return the pipeline inside a step that `node` becomes."""
    return Inner(
        node.pipeline,
        ctx,
        inputs,
        outputs,
        map_over=tuple(node.inner_args[node.root_args.index(name)] for name in node.map_over),
        map_mode=node.map_mode,
        given=given,
        labels=dict(zip(node.inner_args, node.root_args, strict=True))
        | dict(zip(node.inner_outputs, node.output_names, strict=True)),
    )


def _in_order(wanted: list[_Vertex]) -> list[_Vertex]:
    """Return `wanted` and all that they need, each after what it needs (no recursion)."""
    order: dict[_Vertex, None] = {}
    for last in wanted:
        pending = [(last, last.needed())]
        while pending:
            vertex, needed = pending[-1]
            following = next((other for other in needed if other not in order), None)
            if following is None:
                order[vertex] = None
                pending.pop()
            else:
                pending.append((following, following.needed()))
    return list(order)
