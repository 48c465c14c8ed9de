"""`Pipeline`: what is computed, an immutable graph of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from hypernodes._aside import in_thread
from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes._engine.compiler import compile_plan, draft_plan
from hypernodes._engine.engines import engine_for
from hypernodes._engine.graph import Graph
from hypernodes._engine.mapping import Gathered, Items, check_mode, read_names, split_items
from hypernodes._engine.observing.outermost import ObservedMap, observed_run
from hypernodes._engine.observing.runs import SCENE
from hypernodes._engine.observing.script import audience_of
from hypernodes._engine.plan import Request
from hypernodes._engine.requests import (
    check_input,
    check_mapped,
    find_node,
    read_outputs,
    read_request,
)
from hypernodes._engine.results import Results, fill, yielded
from hypernodes._members import as_node, check_name, members, replacement
from hypernodes._nested import PipelineNode
from hypernodes.abc import RunContext
from hypernodes.config import RuntimeConfig, checked, checked_or_none, current_config
from hypernodes.exceptions import (
    InputError,
    PipelineDefinitionError,
    UnknownInputError,
    hint,
    nearest,
)

if TYPE_CHECKING:
    from hypernodes._engine.caching.explanation import Explanation
    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._node import BaseNode
    from hypernodes.abc import OutputName

__all__ = ["Pipeline"]

Kind = TypeVar("Kind", bound="Pipeline")
UNNAMED: Final = "pipeline"
MOST_PLANS: Final = 128
ON_ERROR: Final = ("raise", "return")


class Pipeline:
    """An immutable graph of nodes, joined where an output and an input have one name.

    Args:
        nodes: Nodes and pipelines (as `as_node()` makes them), in any order.
        name: What messages and events call it.
        parent: The pipeline whose config holds where this one has none.
        config: The config under which it runs, unless a call or a node says otherwise.
        strict_types: Whether annotations of producers and consumers have to agree, as a type
            checker would have it; missing ones and `Any` agree with all.

    Raises:
        DuplicateOutputError: Two nodes make one output.
        CycleError: Nodes need one another.
        TypeConflictError: With `strict_types`, annotations that cannot agree.
        PipelineDefinitionError: Something that is no node.

    Example:
        >>> from hypernodes import node
        >>> @node
        ... def mean(values):
        ...     return sum(values) / len(values)
        >>> @node
        ... def centred(values, mean):
        ...     return [value - mean for value in values]
        >>> Pipeline([mean, centred]).run({"values": [1, 2, 6]})
        {'mean': 3.0, 'centred': [-2.0, -1.0, 3.0]}
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_config",
        "_contexts",
        "_engines",
        "_graph",
        "_name",
        "_parent",
        "_strict_types",
    )

    _bound: dict[str, Any]
    _config: RuntimeConfig | None
    _contexts: dict[tuple[RuntimeConfig, bool, int], RunContext]
    _engines: dict[object, PipelineExecutionEngine]
    _graph: Graph
    _name: str | None
    _parent: Pipeline | None
    _strict_types: bool

    def __init__(
        self,
        nodes: Iterable[BaseNode | Pipeline],
        *,
        name: str | None = None,
        parent: Pipeline | None = None,
        config: RuntimeConfig | None = None,
        strict_types: bool = False,
    ) -> None:
        graph = Graph([as_node(member) for member in members(nodes)])
        if strict_types:
            _check_types(graph)
        if parent is not None and not isinstance(parent, Pipeline):
            raise PipelineDefinitionError(f"parent has to be a Pipeline, not {parent!r}")
        check_name(name)
        put = object.__setattr__
        put(self, "_graph", graph)
        put(self, "_name", name)
        put(self, "_parent", parent)
        put(self, "_config", checked_or_none(config))
        put(self, "_bound", {})
        put(self, "_strict_types", strict_types)
        put(self, "_engines", {})
        put(self, "_contexts", {})

    # ------------------------------------------------------------ what it is

    @property
    def nodes(self) -> tuple[BaseNode, ...]:
        """The nodes, in the order given."""
        return self._graph.nodes

    @property
    def name(self) -> str | None:
        """What messages and events call it."""
        return self._name

    @property
    def config(self) -> RuntimeConfig | None:
        """The pipeline's own config."""
        return self._config

    @property
    def parent(self) -> Pipeline | None:
        """The pipeline whose config holds where this one has none."""
        return self._parent

    @property
    def root_args(self) -> tuple[str, ...]:
        """The inputs: the parameters that no node makes, in order of first use."""
        return self._graph.root_args

    @property
    def required_args(self) -> tuple[str, ...]:
        """The inputs that have to be given: no default, and not bound."""
        return self.required_for(self.output_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """All outputs, in the order of the nodes."""
        return self._graph.output_names

    @property
    def bound(self) -> Mapping[str, Any]:
        """The values that `bind` fixed, by name."""
        return MappingProxyType(self._bound)

    @property
    def graph(self) -> Graph:
        """The nodes and how they hang together."""
        return self._graph

    @property
    def own_config(self) -> RuntimeConfig | None:
        """The pipeline's config, else that of its parent, and so on; None where none has one."""
        pipeline: Pipeline | None = self
        while pipeline is not None and pipeline.config is None:
            pipeline = pipeline.parent
        return None if pipeline is None else pipeline.config

    @property
    def effective_config(self) -> RuntimeConfig:
        """The config under which it runs when the call gives none."""
        return self.own_config or current_config()

    def required_for(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Return the inputs that have to be given for some of the outputs."""
        ctx = RunContext(RuntimeConfig(), pinned=True)
        draft = draft_plan(self, Request(frozenset(), frozenset(), tuple(outputs), ctx))
        return tuple(name for name in self.root_args if name in draft.missing)

    def __repr__(self) -> str:
        name = f"{self._name!r}, " if self._name else ""
        count = len(self.nodes)
        inputs, outputs = _shortened(self.root_args), _shortened(self.output_names)
        return f"Pipeline({name}{count} node{'s' * (count != 1)}: {inputs} -> {outputs})"

    # ------------------------------------------------------------ running

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
    ) -> dict[str, Any]:
        """Compute the outputs once.

        Args:
            inputs: Values by name. An output's name will do too: then that value is used, and what
                only it needed does not run.
            output_name: One output or several; only what they need is computed, and only its inputs
                are required. None for all.
            config: A config that rules the whole run, nested pipelines and nodes with their own
                config included.

        Returns:
            The outputs by name, without the inputs.

        Raises:
            MissingInputError: An input is needed that was not given.
            UnknownInputError: A name is given that the pipeline does not know.
            InputError: An output is asked for that it does not have.
            Exception: Whatever a node raised, with a note that says where.
        """
        ctx = self._context(config)
        asked = read_outputs(output_name)
        if ctx.audience:
            given = _checked_inputs(inputs)
            return observed_run(ctx.config.backend.run, self, given, ctx, asked)
        return ctx.config.backend.run(self, _checked_inputs(inputs), ctx, asked)

    def map(
        self,
        inputs: Mapping[str, Any],
        *,
        map_over: str | Sequence[str],
        map_mode: str = "zip",
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
        on_error: str = "raise",
    ) -> list[Any]:
        """Compute the outputs once for each item.

        Args:
            inputs: Values by name; those in `map_over` hold a value for each item, the others are
                shared by all items.
            map_over: The name or names that are mapped over.
            map_mode: `"zip"` pairs the values, `"product"` takes all combinations (the last name
                varies fastest).
            output_name: See `run`.
            config: See `run`.
            on_error: `"raise"` cancels what has not started and raises; `"return"` puts a `Failure`
                in the place of an item that failed.

        Returns:
            For each item, in order, the outputs by name, or its `Failure`.

        Raises:
            InputError: Unequal lengths, an unknown mode, or something that cannot be mapped over.
            Exception: As `run`.
        """
        check_mode(on_error, "on_error", ON_ERROR)
        asked = read_outputs(output_name)
        ctx, items = self._items(inputs, map_over, map_mode, asked, config)
        count = items.count or 0
        gathered = Gathered(items.items, count)
        start = partial(ctx.config.backend.map_unordered, self, gathered, items.shared, ctx, asked)
        results: list[Any] = [None] * count
        observed = ObservedMap(self, inputs, ctx, count=items.count, results=results)
        entries = partial(observed.entries, start, on_error, ordered=False)
        outcomes = entries() if ctx.audience else start()
        fill(results, outcomes, on_error)
        while results and results[-1] is None:  # there were less items than `len` said
            results.pop()
        return results

    def map_iter(
        self,
        inputs: Mapping[str, Any],
        *,
        map_over: str | Sequence[str],
        map_mode: str = "zip",
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
        on_error: str = "raise",
        ordered: bool = True,
    ) -> Results:
        """Do as `map`, but give results as they come, with bounded memory.

        Items are taken from the inputs as they are needed, a bounded number ahead of the consumer;
        closing the results cancels the rest. They are for `for` and for `async for`, which never
        blocks the running loop.

        Args:
            inputs: As for `map`; iterators are not read ahead.
            map_over: As for `map`.
            map_mode: As for `map`.
            output_name: As for `map`.
            config: As for `map`.
            on_error: As for `map`.
            ordered: Whether results come in the order of the items; else `(index, result)` pairs
                come as they finish.

        Raises:
            InputError: As `map`; what can be known is known at once, not at the first item.
        """
        check_mode(on_error, "on_error", ON_ERROR)
        asked = read_outputs(output_name)
        ctx, items = self._items(inputs, map_over, map_mode, asked, config)
        backend = ctx.config.backend
        mapped = backend.map if ordered else backend.map_unordered
        context = copy_context()

        def start() -> Iterable[Any]:
            context.run(SCENE.set, SCENE.get())  # of who observes, which has only begun now
            return context.run(mapped, self, items.items, items.shared, ctx, asked)

        observed = ObservedMap(self, inputs, ctx, count=items.count)
        entries = partial(observed.entries, start, on_error, ordered=ordered)
        return Results(yielded(entries if ctx.audience else start, on_error, ordered=ordered))

    async def arun(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
    ) -> dict[str, Any]:
        """Do as `run`, from asynchronous code, without blocking the running loop.

        Cancelling the task that awaits this cancels the run.

        Args:
            inputs: As for `run`.
            output_name: As for `run`.
            config: As for `run`.

        Example:
            >>> import asyncio
            >>> from hypernodes import node
            >>> double = Pipeline([node("double")(lambda x: 2 * x)])
            >>> asyncio.run(double.arun({"x": 4}))
            {'double': 8}
        """
        ctx = self._context(config)
        if ctx.audience:  # callbacks may take their time
            return await in_thread(
                partial(self.run, inputs, output_name=output_name, config=config)
            )
        asked = read_outputs(output_name)
        return await ctx.config.backend.arun(self, _checked_inputs(inputs), ctx, asked)

    async def amap(
        self,
        inputs: Mapping[str, Any],
        *,
        map_over: str | Sequence[str],
        map_mode: str = "zip",
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
        on_error: str = "raise",
    ) -> list[Any]:
        """Do as `map`, from asynchronous code, without blocking the running loop.

        Cancelling the task that awaits this cancels the map.

        Args:
            inputs: As for `map`.
            map_over: As for `map`.
            map_mode: As for `map`.
            output_name: As for `map`.
            config: As for `map`.
            on_error: As for `map`.
        """
        start = partial(
            self.map,
            map_over=map_over,
            map_mode=map_mode,
            output_name=output_name,
            config=config,
            on_error=on_error,
        )
        return await in_thread(start, inputs)

    def explain(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        output_name: OutputName = None,
        config: RuntimeConfig | None = None,
    ) -> Explanation:
        """Tell what a run would find in the cache, and for what it would not, what has changed.

        Nothing is run or loaded. The key of what follows a node that is not cached is known only
        when that has run, so it is a miss here.

        Args:
            inputs: As for `run`.
            output_name: As for `run`.
            config: As for `run`.

        Returns:
            A mapping of node names to `(status, changed)`, which prints as a table.

        Raises:
            InputError: As `run`.

        Example:
            >>> from hypernodes import node
            >>> double = Pipeline([node("double")(lambda x: 2 * x)])
            >>> config = RuntimeConfig(cache="memory")
            >>> double.run({"x": 4}, config=config)
            {'double': 8}
            >>> double.explain({"x": 5}, config=config)
            node    status  changed
            double  miss    x
        """
        from hypernodes._engine.caching.explanation import explain  # noqa: PLC0415 - rarely asked

        ctx = self._context(config)
        given = _checked_inputs(inputs)
        engine = self.engine(given, ctx, output_name)
        nodes = [node for node in self.nodes if given.keys() & {*node.output_names}]
        made = {id(step.node) for step in engine.plan.steps}
        return explain(engine, given, [node.name for node in nodes if id(node) not in made])

    # ------------------------------------------------------------ changed copies

    def as_node(
        self,
        *,
        input_mapping: Mapping[str, str] | None = None,
        output_mapping: Mapping[str, str] | None = None,
        map_over: str | Sequence[str] | None = None,
        map_mode: str = "zip",
        name: str | None = None,
        cache: bool = True,
    ) -> PipelineNode:
        """Return this pipeline as a node of another one.

        Args:
            input_mapping: Inner names by outer names, for inputs that are called otherwise outside.
            output_mapping: Outer names by inner names; if given, only these outputs appear outside.
            map_over: Outer names of inputs that hold a value for each item; each output is then a
                list.
            map_mode: `"zip"` or `"product"`.
            name: The node's name; by default the pipeline's.
            cache: False switches caching off for everything inside.

        Raises:
            UnknownInputError: A mapping, or `map_over`, names nothing that is there.
            NodeDefinitionError: Two inputs or two outputs would have one name.
            InputError: The mode is unknown, or `map_over` names what is stateful to a node.
        """
        check_mode(map_mode)
        check_name(name)
        return PipelineNode(
            self,
            name=name or self._name or UNNAMED,
            input_mapping=input_mapping,
            output_mapping=output_mapping,
            map_over=() if map_over is None else read_names(map_over, "map_over"),
            map_mode=map_mode,
            cache=cache,
        )

    def with_config(self, config: RuntimeConfig | None) -> Self:
        """Return a copy that runs under `config`; None leaves it to the parent and so on.

        Raises:
            InputError: It is no `RuntimeConfig`.
        """
        return self._copy(config=checked_or_none(config))

    def bind(self, /, **values: Any) -> Self:
        """Return a copy with some inputs fixed; a value from outside still wins.

        Raises:
            UnknownInputError: A name is no input.
        """
        for name in values:
            check_input(self, name)
        return self._copy(bound=self._bound | values)

    def unbind(self, *names: str) -> Self:
        """Return a copy without the fixed values of `names`; of all without any name.

        Raises:
            UnknownInputError: A name is not bound.
        """
        for name in names:
            if name not in self._bound:
                message = f"{name!r} is not bound in {self!r}; {hint(name, self._bound)}"
                raise UnknownInputError(message, name=name, suggestion=nearest(name, self._bound))
        dropped = names or self._bound
        return self._copy(bound={n: v for n, v in self._bound.items() if n not in dropped})

    def replace(
        self, node_name: str, node_or_function: BaseNode | Pipeline | Callable[..., Any]
    ) -> Self:
        """Return a copy with another node in the place of one.

        The output names stay, and so do the options that a new node does not set itself.

        Args:
            node_name: The name of the node, or of one of its outputs.
            node_or_function: What takes its place.

        Raises:
            UnknownInputError: There is no such node.
            InputError: Several nodes have that name.
            PipelineDefinitionError: The new node has another number of outputs.
        """
        old = find_node(self, node_name)
        new = replacement(old, node_or_function)
        graph = Graph([new if node is old else node for node in self.nodes])
        if self._strict_types:
            _check_types(graph)
        for name in self._bound:
            if name not in graph.root_args:
                message = (
                    f"{name!r} is bound, but after replacing {node_name!r} it is no input; "
                    f"unbind it first"
                )
                raise PipelineDefinitionError(message, node=node_name)
        return self._copy(graph=graph)

    # ------------------------------------------------------------ what executors ask for

    @staticmethod
    def alone(node: BaseNode) -> Pipeline:
        """Return a pipeline of `node` alone, for a node that runs under a config of its own."""
        return Pipeline([node])

    def engine(
        self,
        inputs: Iterable[str],
        ctx: RunContext,
        output_name: OutputName = None,
        mapped: tuple[str, ...] = (),
    ) -> PipelineExecutionEngine:
        """Return what runs this pipeline, compiled once for equal arguments.

        Args:
            inputs: The names of the inputs that are given.
            ctx: The config in force and where this run stands.
            output_name: The outputs that are asked for.
            mapped: The names of inputs that are each item's own.

        Raises:
            InputError: As `run`.
        """
        asked = read_outputs(output_name)
        names = frozenset(inputs)
        engine = self._engines.get((names, asked, ctx, mapped))
        return engine or self._compile(names, asked, ctx, mapped)

    def _compile(
        self,
        inputs: frozenset[str],
        output_name: str | tuple[str, ...] | None,
        ctx: RunContext,
        mapped: tuple[str, ...],
    ) -> PipelineExecutionEngine:
        request = read_request(self, inputs, output_name, ctx, mapped)
        engine = engine_for(compile_plan(self, request))
        if len(self._engines) >= MOST_PLANS:
            self._engines.clear()
        return self._engines.setdefault((inputs, output_name, ctx, mapped), engine)

    def _context(self, config: RuntimeConfig | None) -> RunContext:
        """Return the context of an outermost run; the same object for the same config."""
        pinned = config is not None
        chosen = checked(config) if pinned else self.own_config or current_config()
        key = chosen, pinned, PLUGINS.number()
        ctx = self._contexts.get(key)
        if ctx is None:
            if len(self._contexts) >= MOST_PLANS:
                self._contexts.clear()
            path = (self._name or UNNAMED,)
            audience = audience_of(self, chosen, pinned=pinned)
            context = RunContext(chosen, pinned, path, audience=audience)
            ctx = self._contexts.setdefault(key, context)
        return ctx

    def _items(
        self,
        inputs: Mapping[str, Any],
        map_over: str | Sequence[str],
        map_mode: str,
        output_name: OutputName,
        config: RuntimeConfig | None,
    ) -> tuple[RunContext, Items]:
        check_mode(map_mode)
        names = read_names(map_over, "map_over")
        inputs = _checked_inputs(inputs)
        bound = {name: self._bound[name] for name in names if name in self._bound}
        ctx = self._context(config)
        given = bound | dict(inputs)
        check_mapped(self, names, given)
        items = split_items(given, names, map_mode)
        self.engine(items.shared, ctx, output_name, names)
        return ctx, items

    # ------------------------------------------------------------ making

    def _copy(self, **changes: Any) -> Self:
        facts = {name: getattr(self, f"_{name}") for name in _FACTS}
        return _restore(type(self), facts | changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), {name: getattr(self, f"_{name}") for name in _FACTS})

    def __setattr__(self, name: str, value: object) -> None:
        message = f"a pipeline cannot be changed: use bind(), replace() or with_config() ({name})"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)


_FACTS = ("graph", "name", "parent", "config", "bound", "strict_types")


def _restore(kind: type[Kind], facts: Mapping[str, Any]) -> Kind:
    """Return a pipeline with these facts, and nothing compiled yet."""
    pipeline = object.__new__(kind)
    for name, value in facts.items():
        object.__setattr__(pipeline, f"_{name}", value)
    object.__setattr__(pipeline, "_engines", {})
    object.__setattr__(pipeline, "_contexts", {})
    return pipeline


def _check_types(graph: Graph) -> None:
    from hypernodes._engine.strict import check_types  # noqa: PLC0415 - 5 ms that few ask for

    check_types(graph)


def _checked_inputs(inputs: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if type(inputs) is dict or isinstance(inputs, Mapping):
        return inputs
    if inputs is None:
        return {}
    message = (
        f"inputs has to be a mapping of names to values, not {type(inputs).__name__}: {{'x': ...}}"
    )
    raise InputError(message, name="inputs")


def _shortened(names: Sequence[str]) -> str:
    shown = 4
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f", ... {rest} more" if rest > 0 else "") or "()"
