"""`Node` and `@node`: a plain function, seen as a vertex of a graph."""

from __future__ import annotations

import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

from hypernodes._handles import TAKES_APART
from hypernodes._options import DEFAULTS, Options
from hypernodes._parameters import Parameter, is_coroutine_function, read_parameters
from hypernodes.cache._code import hash_code
from hypernodes.exceptions import InputError, NodeDefinitionError, UnknownInputError, hint, nearest

if TYPE_CHECKING:
    from hypernodes.config import RetryPolicy, RuntimeConfig

__all__ = ["BaseNode", "Node", "node"]


class BaseNode(ABC):
    """A vertex of a pipeline: named inputs, named outputs, options. Immutable.

    Attributes:
        name: What messages and events call it.
        root_args: The names of its inputs, in order.
        output_names: The names of its outputs, in order.
    """

    __slots__ = ("__weakref__", "_options", "name", "output_names", "root_args")

    name: str
    root_args: tuple[str, ...]
    output_names: tuple[str, ...]
    _options: Options

    def __setattr__(self, name: str, value: object) -> None:
        message = (
            f"a node cannot be changed: use with_options(), with_config() or rename() ({name})"
        )
        raise AttributeError(message)

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    @property
    @abstractmethod
    def required_args(self) -> tuple[str, ...]:
        """The inputs without which it cannot run."""

    @property
    def cache(self) -> bool:
        """Whether its results may be kept."""
        return self._options.cache

    @property
    def config(self) -> RuntimeConfig | None:
        """The config under which it runs, or None for that of its pipeline."""
        return self._options.config

    @abstractmethod
    def stateful_at(self, name: str) -> str | None:
        """Return the name of the node to which an input is stateful, shared by all items.

        Args:
            name: The input.
        """

    @abstractmethod
    def rename(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Self:
        """Return a copy whose inputs and outputs have other names in the graph.

        Args:
            inputs: New names by old names; the function's own parameters stay as they are.
            outputs: New names by old names.

        Raises:
            UnknownInputError: An old name is not there.
            NodeDefinitionError: Two inputs or two outputs would have one name.
        """

    def with_config(self, config: RuntimeConfig | None) -> Self:
        """Return a copy that runs under `config`; None leaves it to the pipeline.

        Raises:
            NodeDefinitionError: It is no `RuntimeConfig`.
        """
        return self.with_options(config=config)

    def with_options(self, **options: Any) -> Self:
        """Return a copy with some options replaced; see `node` for their names.

        Raises:
            NodeDefinitionError: An option is unknown or its value is wrong.
        """
        return self._with(_options=self._options.merged(self.name, options))

    def with_options_of(self, other: BaseNode) -> Self:
        """Return a copy that has, for each option left at its default, that of `other`."""
        return self._with(_options=self._options.over(self._fitting(other._options)))

    @abstractmethod
    def _fitting(self, options: Options) -> Options:
        """Return those of `options` that mean something here, and defaults for the others."""

    @abstractmethod
    def _with(self, **changes: Any) -> Self:
        """Return a copy with some attributes replaced."""

    @property
    def _label(self) -> str:
        return f"node {self.name!r}"


class Node(BaseNode):
    """A function as a vertex: its parameters are the inputs, what it returns is the output.

    Calling a node calls the plain function.

    Args:
        func: Any callable with a signature that names each parameter.
        output_name: The name of its result, or a sequence of names for a function that returns that
            many values; by default the function's own name.
        options: See `node`.

    Attributes:
        func: The callable.
        output_name: As given.
        is_async: Whether calling it gives a coroutine.

    Raises:
        NodeDefinitionError: Not callable, no usable name, `*args` or `**kwargs`, or a wrong option.

    Example:
        >>> double = Node(lambda x: 2 * x, "double")
        >>> double(4), double.root_args, double.output_names
        (8, ('x',), ('double',))
    """

    __slots__ = ("func", "is_async", "output_name", "parameters")
    __hypernodes_function__ = "func"

    func: Callable[..., Any]
    output_name: str | tuple[str, ...]
    is_async: bool
    parameters: tuple[Parameter, ...]

    def __init__(
        self,
        func: Callable[..., Any],
        output_name: str | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        _refuse_other_things(func)
        own_name = getattr(func, "__name__", None)
        usable = own_name if isinstance(own_name, str) and own_name.isidentifier() else None
        as_given, names = _read_output_name(func, output_name, usable)
        name = usable or "_".join(names)
        parameters = read_parameters(func, name)
        put = object.__setattr__
        put(self, "func", func)
        put(self, "name", name)
        put(self, "output_name", as_given)
        put(self, "output_names", names)
        put(self, "parameters", parameters)
        put(self, "root_args", tuple([parameter.name for parameter in parameters]))
        put(self, "is_async", is_coroutine_function(func))
        put(self, "_options", DEFAULTS.merged(name, options) if options else DEFAULTS)
        if self._options.stateful_params:
            self._check_stateful_params()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        outputs = ", ".join(self.output_names)
        return f"Node({self.name}: {', '.join(self.root_args)} -> {outputs})"

    @property
    def required_args(self) -> tuple[str, ...]:
        return tuple(
            name
            for name, parameter in zip(self.root_args, self.parameters, strict=True)
            if not parameter.has_default
        )

    @property
    def code_hash(self) -> str:
        """What the function's code, and all of the user's code that it uses, hashes to (hex)."""
        return hash_code(self.func)

    @property
    def retries(self) -> int | RetryPolicy | None:
        """Extra attempts, or None where the config decides."""
        return self._options.retries

    @property
    def timeout(self) -> float | None:
        """Seconds for each attempt, or None where the config decides."""
        return self._options.timeout

    @property
    def stateful_params(self) -> tuple[str, ...]:
        """The parameters whose values are shared by all items."""
        return self._options.stateful_params

    def stateful_at(self, name: str) -> str | None:
        places = zip(self.root_args, self.parameters, strict=True)
        is_stateful = any(n == name and p.name in self.stateful_params for n, p in places)
        return self.name if is_stateful else None

    @property
    def resources(self) -> dict[str, float] | None:
        """What a worker has to have, or None."""
        return dict(self._options.resources) or None

    def rename(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Self:
        root_args = renamed(self.root_args, inputs, f"input of {self._label}")
        output_names = renamed(self.output_names, outputs, f"output of {self._label}")
        as_given = output_names[0] if isinstance(self.output_name, str) else output_names
        return self._with(root_args=root_args, output_names=output_names, output_name=as_given)

    def _fitting(self, options: Options) -> Options:
        own = {parameter.name for parameter in self.parameters}
        names = tuple(name for name in options.stateful_params if name in own)
        return replace(options, stateful_params=names)

    def _with(self, **changes: Any) -> Self:
        copy = object.__new__(type(self))
        for name in _NODE_FACTS:
            object.__setattr__(copy, name, changes.get(name, getattr(self, name)))
        if copy.stateful_params:
            copy._check_stateful_params()
        return copy

    def _check_stateful_params(self) -> None:
        own = [parameter.name for parameter in self.parameters]
        for name in self.stateful_params:
            if name not in own:
                message = f"stateful_params of {self._label} names {name!r}; {hint(name, own)}"
                raise NodeDefinitionError(message, node=self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: getattr(self, name) for name in _NODE_FACTS}
        return _restore_node, (type(self), facts | {"func": _portable(self.func)})


_NODE_FACTS = (*Node.__slots__, *(slot for slot in BaseNode.__slots__ if slot != "__weakref__"))


class _Reference(NamedTuple):
    """A function that its own module knows as a node's: it travels as the place of that node."""

    module: str
    qualname: str

    def resolve(self) -> Callable[..., Any]:
        __import__(self.module)
        found: Any = sys.modules[self.module]
        for name in self.qualname.split("."):
            found = getattr(found, name)
        return found.func  # type: ignore[no-any-return]


class _Copy(NamedTuple):
    """A function that cannot be found by its name: it travels by value."""

    payload: bytes

    def resolve(self) -> Callable[..., Any]:
        return pickle.loads(self.payload)  # type: ignore[no-any-return] # noqa: S301 - our own


def _portable(function: Callable[..., Any]) -> Callable[..., Any] | _Reference | _Copy:
    """Return what takes the place of `function` in a pickle.

    `@node` puts a node where pickle looks for the function, so pickle alone cannot find it; nor can
    it find lambdas, and what was written in `__main__` is not there in another process.
    """
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found: object = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if isinstance(found, Node) and found.func is function and module and module != "__main__":
        return _Reference(module, qualname)
    if found is function or not isinstance(function, FunctionType) or TAKES_APART.get():
        return function
    import cloudpickle  # noqa: PLC0415 - only pickling needs it

    return _Copy(cloudpickle.dumps(function))


def _restore_node(kind: type[Node], facts: dict[str, Any]) -> Node:
    func = facts["func"]
    facts["func"] = func.resolve() if isinstance(func, _Reference | _Copy) else func
    copy = object.__new__(kind)
    for name, value in facts.items():
        object.__setattr__(copy, name, value)
    return copy


@overload
def node(output_name: Callable[..., Any], /) -> Node: ...


@overload
def node(
    output_name: str | Sequence[str] | None = None,
    *,
    cache: bool = ...,
    retries: int | RetryPolicy | None = ...,
    timeout: float | None = ...,
    stateful_params: tuple[str, ...] = ...,
    resources: Mapping[str, float] | None = ...,
    config: RuntimeConfig | None = ...,
) -> Callable[[Callable[..., Any]], Node]: ...


def node(
    output_name: Callable[..., Any] | str | Sequence[str] | None = None, **options: Any
) -> Node | Callable[[Callable[..., Any]], Node]:
    """Mark a function as a node of a pipeline, with or without parentheses.

    Args:
        output_name: The name of the result; by default that of the function. A sequence of names
            for a function that returns that many values, in order; `("a",)` unpacks one value.
        **options:
            `cache` (default True): whether results may be kept.
            `retries`: extra attempts, or a `RetryPolicy`.
            `timeout`: seconds for each attempt.
            `stateful_params`: parameters whose values are shared by all items, never data.
            `resources`: what a worker has to have, such as `{"num_gpus": 1}`.
            `config`: the `RuntimeConfig` under which this node runs.
            `cache`, `retries`, `timeout` and `resources` win over any config.

    Returns:
        A `Node`, or a decorator that makes one.

    Raises:
        NodeDefinitionError: The callable or an option cannot make a node.

    Example:
        >>> @node(output_name=("low", "high"), retries=2)
        ... def bounds(values):
        ...     return min(values), max(values)
        >>> bounds.output_names
        ('low', 'high')
    """
    if callable(output_name) and not isinstance(output_name, str):
        return Node(output_name, **options)
    as_given = output_name
    if as_given is not None:
        _read_output_name(None, as_given, "the function")

    def decorate(func: Callable[..., Any]) -> Node:
        return Node(func, as_given, **options)

    return decorate


def stateful_in(nodes: Iterable[BaseNode], name: str) -> str | None:
    """Return the name of the first of `nodes` to which an input is stateful, if there is one."""
    found = (node.stateful_at(name) for node in nodes if name in node.root_args)
    return next(filter(None, found), None)


def check_not_stateful(nodes: Iterable[BaseNode], name: str, label: str) -> None:
    """Raise `InputError` if an input that is to be mapped over is stateful to one of `nodes`.

    Args:
        nodes: The nodes of a pipeline.
        name: The input.
        label: What it is called where it is given.
    """
    node = stateful_in(nodes, name)
    if node is not None:
        message = (
            f"cannot map over {label!r}: stateful_params of node {node!r} say that all items share "
            f"it; give one value, or take it out of stateful_params"
        )
        raise InputError(message, name=label, node=node)


def renamed(
    names: tuple[str, ...], changes: Mapping[str, str] | None, what: str
) -> tuple[str, ...]:
    """Return `names` with `changes` (new names by old ones) made.

    Raises:
        UnknownInputError: An old name is not among `names`.
        NodeDefinitionError: A new name is no name, or two would be the same.
    """
    check_mapping(changes, f"renaming an {what}")
    changes = changes or {}
    for old, new in changes.items():
        if old not in names:
            message = f"{old!r} is no {what}; {hint(old, names)}"
            raise UnknownInputError(message, name=old, suggestion=nearest(old, names))
        _check_name(new, what)
    result = tuple(changes.get(name, name) for name in names)
    twice = {name for name in result if result.count(name) > 1} if changes else set()
    if twice:
        message = f"after renaming, {sorted(twice)} would each be more than one {what}"
        raise NodeDefinitionError(message)
    return result


def _refuse_other_things(func: object) -> None:
    if isinstance(func, BaseNode):
        message = f"{func!r} is a node already; use rename() or with_options() for a changed copy"
        raise NodeDefinitionError(message, node=func.name)
    if not callable(func):
        raise NodeDefinitionError(f"a node is made from a callable, not from {func!r}")


def _read_output_name(
    func: object, given: str | Iterable[str] | None, own_name: str | None
) -> tuple[str | tuple[str, ...], tuple[str, ...]]:
    """Return the output name as the node shows it, and as a tuple."""
    if given is None:
        if own_name is None:
            message = f"{func!r} has no name of its own to name the output: give output_name='...'"
            raise NodeDefinitionError(message)
        return own_name, (own_name,)
    what = f"output name of {own_name or func!r}"
    if isinstance(given, str):
        _check_name(given, what)
        return given, (given,)
    names = tuple(given) if isinstance(given, tuple | list) else ()
    if not names or len(set(names)) != len(names):
        message = f"{given!r} is no {what}: give a string, or a tuple of different strings"
        raise NodeDefinitionError(message)
    for name in names:
        _check_name(name, what)
    return names, names


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not name:
        raise NodeDefinitionError(f"{name!r} is no {what}: it has to be a string that is not empty")


def check_mapping(mapping: object, what: str) -> None:
    """Raise `InputError` unless `mapping` is None or a mapping."""
    if mapping is not None and not isinstance(mapping, Mapping):
        raise InputError(f"{what} has to be a mapping of names, not {mapping!r}", name=what)
