"""The hooks there are and what each may take, as specifications for pluggy."""

from __future__ import annotations

import inspect
import threading
from types import FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pluggy

from hypernodes._dispatch.needs import COUNTER, SETTING
from hypernodes.exceptions import CallbackError, hint, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROJECT: Final = "hypernodes"
PREFIXES: Final = ("on_", "wrap_")
WRAPPER: Final = "wrap_node"
_spec = pluggy.HookspecMarker(PROJECT)


class Hooks:
    """Every hook with all its arguments."""

    @_spec
    def on_pipeline_start(self, ctx: Any, pipeline: Any, inputs: Any) -> None: ...
    @_spec
    def on_pipeline_end(self, ctx: Any, outputs: Any, duration: Any) -> None: ...
    @_spec
    def on_pipeline_error(self, ctx: Any, error: Any, duration: Any) -> None: ...
    @_spec
    def on_node_start(self, ctx: Any, node: Any, inputs: Any) -> None: ...
    @_spec
    def on_node_end(self, ctx: Any, node: Any, output: Any, duration: Any) -> None: ...
    @_spec
    def on_node_error(self, ctx: Any, node: Any, error: Any, duration: Any) -> None: ...
    @_spec
    def on_node_retry(self, ctx: Any, node: Any, error: Any, attempt: Any, delay: Any) -> None: ...
    @_spec
    def on_cache_check(self, ctx: Any, node: Any, signature: Any) -> None: ...
    @_spec
    def on_cache_hit(self, ctx: Any, node: Any, signature: Any) -> None: ...
    @_spec
    def on_cache_miss(self, ctx: Any, node: Any, signature: Any) -> None: ...
    @_spec
    def on_cache_store(self, ctx: Any, node: Any, signature: Any) -> None: ...
    @_spec
    def on_map_start(self, ctx: Any, pipeline: Any, count: Any) -> None: ...
    @_spec
    def on_map_end(self, ctx: Any, duration: Any) -> None: ...
    @_spec
    def on_item_start(self, ctx: Any, index: Any, inputs: Any) -> None: ...
    @_spec
    def on_item_end(self, ctx: Any, index: Any, outputs: Any, duration: Any) -> None: ...
    @_spec
    def on_item_error(self, ctx: Any, index: Any, error: Any, duration: Any) -> None: ...
    @_spec
    def on_executor_start(self, ctx: Any, executor: Any, options: Any) -> None: ...
    @_spec
    def on_executor_stop(self, ctx: Any, executor: Any, options: Any) -> None: ...
    @_spec
    def on_report(self, ctx: Any, kind: Any, data: Any) -> None: ...
    @_spec
    def wrap_node(self, ctx: Any, node: Any, inputs: Any, call: Any) -> Any: ...


ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, function in vars(Hooks).items()
    if name.startswith(PREFIXES)
}
"""The names of all hooks, and what each may take."""

OWN: Final[Mapping[str, tuple[str, ...]]] = {SETTING: ("ctx",), COUNTER: ("ctx", "tally")}
"""Hooks for callbacks of ours: what sets up where a node runs, and returns what undoes that; the
counts of a map, kept up to date, which cost an item next to nothing."""


class Hook(NamedTuple):
    """A hook that a callback has.

    Attributes:
        function: What it is.
        takes: What it asks for.
        call: Takes all that the hook may be given, by position.
    """

    function: Callable[..., Any]
    takes: tuple[str, ...]
    call: Callable[..., Any]


def read_hooks(callback: object, label: str) -> dict[str, Hook]:
    """Return the hooks of `callback` by name; those that it only inherits from `Callback` are none.

    Args:
        callback: An instance, or a module.
        label: What messages call it.

    Raises:
        CallbackError: A hook is unknown, asks for what there is not, or is a coroutine function.
    """
    names = [name for name in dir(callback) if name.startswith(PREFIXES)]
    functions = {name: getattr(callback, name) for name in names}
    found = {n: f for n, f in functions.items() if callable(f) and not _is_inherited(n, f)}
    for name in found:
        if name not in ARGUMENTS:
            message = (
                f"callback {label} has a hook {name!r} that is unknown; {hint(name, ARGUMENTS)}"
            )
            raise CallbackError(message, callback=label, hook=name)
    hooks = {name: _read_hook(name, function, label) for name, function in found.items()}
    _register(hooks, label)
    own = {name: getattr(callback, name) for name in OWN if hasattr(type(callback), name)}
    return hooks | {name: Hook(found, OWN[name], found) for name, found in own.items()}


def _is_inherited(name: str, function: Any) -> bool:
    own = getattr(function, "__func__", function)
    place = getattr(own, "__module__", ""), getattr(own, "__qualname__", "")
    return place == ("hypernodes.callbacks", f"Callback.{name}")


def _read_hook(name: str, function: Callable[..., Any], label: str) -> Hook:
    where = {"callback": label, "hook": name}
    what = unfitting(function)
    if what:
        message = f"{name} of callback {label} is {what}; hooks are plain functions"
        raise CallbackError(message, **where)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        message = f"{name} of callback {label} has no signature to be read: {error}"
        raise CallbackError(message, **where) from error
    known = ARGUMENTS[name]
    for parameter in parameters:
        _check_parameter(parameter, name, label)
    arguments, by_position = [], True
    for parameter in parameters:
        by_position &= parameter.name in known and parameter.kind is not parameter.KEYWORD_ONLY
        if parameter.kind is parameter.POSITIONAL_ONLY and not by_position:
            message = (
                f"{name} of callback {label} takes {parameter.name!r} by position only; what is "
                f"its own has to stand behind what it asks for, or be given by keyword"
            )
            raise CallbackError(message, **where)
        if parameter.name in known:
            arguments.append(
                parameter.name if by_position else f"{parameter.name}={parameter.name}"
            )
    takes = tuple(argument.partition("=")[0] for argument in arguments)
    return Hook(function, takes, _compiled(function, known, arguments))


def unfitting(function: Callable[..., Any]) -> str:
    """Return what kind of function something is whose body a plain call does not run, or nothing.

    Args:
        function: Anything that can be called.
    """
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004 - to look at it
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        return "a coroutine function"
    return "a generator function" if inspect.isgeneratorfunction(called) else ""


def _check_parameter(parameter: inspect.Parameter, name: str, label: str) -> None:
    known = ARGUMENTS[name]
    match = nearest(parameter.name, known)
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        message = (
            f"{name} of callback {label} takes {parameter}: name what it asks for; there are "
            f"{', '.join(known)}"
        )
    elif parameter.name in known or parameter.default is not parameter.empty:
        return
    else:
        message = (
            f"{name} of callback {label} asks for {parameter.name!r}, which there is not; "
            f"{'' if match is None else f'did you mean {match!r}? '}there are {', '.join(known)}"
        )
    raise CallbackError(message, callback=label, hook=name)


def _compiled(
    function: Callable[..., Any], known: tuple[str, ...], arguments: list[str]
) -> Callable[..., Any]:
    """Return what takes all of `known` by position and hands on what is asked for."""
    if list(known) == arguments:
        return function
    source = f"lambda {', '.join(known)}: function({', '.join(arguments)})"
    return eval(source, {"function": function})  # type: ignore[no-any-return]  # noqa: S307 - our own source


class _Manager(pluggy.PluginManager):
    """Takes for hooks what was found, without decorators."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return {} if name in vars(plugin) else None


_manager: Final = _Manager(PROJECT)
_manager.add_hookspecs(Hooks)
_lock: Final = threading.Lock()


def _register(hooks: Mapping[str, Hook], label: str) -> None:
    """Have pluggy verify hooks; each callback by itself, since equal ones are two for us."""
    functions = {name: _plain(hook.function) for name, hook in hooks.items()}
    plugin = SimpleNamespace(**functions)
    with _lock:
        try:
            _manager.register(plugin, name=f"{label} {id(plugin)}")
            _manager.unregister(plugin)
        except pluggy.PluginValidationError as error:
            raise CallbackError(f"callback {label}: {error}", callback=label) from error


def _plain(function: Any) -> Any:
    """Return `function` in a form that pluggy looks at: a function or a bound method."""
    if isinstance(function, FunctionType | MethodType):
        return function
    if isinstance(function.__call__, MethodType):
        return function.__call__
    return lambda: None  # of something compiled, such as a partial: its arguments have been read
