"""The forms in which callbacks are given: instances, classes, factories, names, functions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.reads import VALUES
from hypernodes._dispatch.specs import ARGUMENTS, PREFIXES, WRAPPER, Hook, read_hooks, unfitting
from hypernodes.exceptions import CallbackError, MissingDependencyError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES: Final = ("log", "warn", "raise")
FORMS: Final = (
    "an instance with hooks, a class or a factory that makes one without arguments, a function "
    "(phase, config, data), or where to import one from ('package.module:name')"
)


@dataclass(frozen=True, slots=True, eq=False)
class Observer:
    """A callback that has been read.

    Attributes:
        given: What was registered.
        callback: What has the hooks.
        label: What messages call it.
        hooks: Its hooks, by name.
        order: Its place among others; lower comes first.
        async_mode: Whether it has a background thread of its own.
        errors: What its failures do, or None for what the config says.
        reads: Which values its hooks take from the context; None for what their code says.
        is_plugin: Whether it was registered for all runs.
        is_overview: Whether it wants to hear nothing of what is inside the items of maps, but maps.
    """

    given: object
    callback: object
    label: str
    hooks: Mapping[str, Hook]
    order: int
    async_mode: bool
    errors: str | None
    reads: frozenset[str] | None
    is_plugin: bool
    is_overview: bool


def read_callback(given: object, *, is_plugin: bool = False) -> Observer:
    """Return what observes, from any of the forms.

    Args:
        given: The callback as a user gave it.
        is_plugin: Whether it is registered for all runs.

    Raises:
        CallbackError: It is none, or one of its hooks is wrong.
        MissingDependencyError: It needs an extra that is not installed.
    """
    found: Any = _imported(given) if isinstance(given, str) else given
    label = _label(found)
    _check_kind(found, label)
    if not _has_hooks(found) and callable(found):
        arguments = _arguments_of(found)
        if isinstance(found, type) or arguments == 0:
            found = _made(found, label)
            label = _label(found)
        if arguments == 3 or _takes_phases(found):  # noqa: PLR2004 - phase, config, data
            return _observer(given, found, label, _phase_hooks(found), is_plugin=is_plugin)
    if not _has_hooks(found):
        message = f"{given!r} is no callback; give {FORMS}"
        raise CallbackError(message, callback=label)
    return _observer(given, found, label, read_hooks(found, label), is_plugin=is_plugin)


def _check_kind(found: Any, label: str) -> None:
    what = unfitting(found) if inspect.isroutine(found) else ""
    if what:
        message = f"callback {label} is {what}; give {FORMS}"
        raise CallbackError(message, callback=label)


def _observer(
    given: object, callback: Any, label: str, hooks: Mapping[str, Hook], *, is_plugin: bool
) -> Observer:
    order = getattr(callback, "order", 50)
    async_mode = getattr(callback, "async_mode", False)
    kind = type(callback)
    errors = None if hasattr(kind, "_collects") else getattr(callback, "errors", None)
    reads = _values_of(getattr(callback, "reads", None), label)
    if isinstance(order, bool) or not isinstance(order, int):
        raise CallbackError(f"order of callback {label} is {order!r}; give an int", callback=label)
    if not isinstance(async_mode, bool):
        message = f"async_mode of callback {label} is {async_mode!r}; give True or False"
        raise CallbackError(message, callback=label)
    if errors is not None and errors not in POLICIES:
        options = ", ".join(map(repr, POLICIES))
        message = f"errors of callback {label} is {errors!r}; give one of {options}, or None"
        raise CallbackError(message, callback=label)
    facts = order, async_mode, errors, reads, is_plugin, hasattr(kind, "_is_overview")
    return Observer(given, callback, label, hooks, *facts)


def _values_of(reads: Any, label: str) -> frozenset[str] | None:
    if reads is None:
        return None
    values = (reads,) if isinstance(reads, str) else tuple(reads)
    if VALUES.issuperset(values):
        return frozenset(values)
    message = (
        f"reads of callback {label} is {reads!r}; name some of 'inputs' and 'outputs', or none"
    )
    raise CallbackError(message, callback=label)


def _has_hooks(found: object) -> bool:
    """Tell whether something has hooks itself: an instance or a module, no class."""
    if isinstance(found, type):
        return False
    if any(f"{c.__module__}.{c.__qualname__}" == _BASE for c in type(found).__mro__):
        return True
    is_routine = inspect.isroutine(found)
    return not is_routine and any(name.startswith(PREFIXES) for name in dir(found))


_BASE: Final = "hypernodes.callbacks.Callback"


def _label(found: Any) -> str:
    if isinstance(found, ModuleType):
        return found.__name__
    named = found if hasattr(found, "__qualname__") else type(found)
    return f"{named.__module__}.{named.__qualname__}"


# ---------------------------------------------------------------- names, classes and factories


def _imported(place: str) -> object:
    """Return what lies at `package.module:name` or `package.module.name`."""
    module, _, name = place.partition(":") if ":" in place else place.rpartition(".")
    if not module:
        module, name = name, ""  # a module with hooks
    try:
        found: Any = import_module(module)
        for part in filter(None, name.split(".")):
            found = _member(found, part)
    except MissingDependencyError:
        raise
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        message = f"callback {place!r} is not to be found: {error}; write 'package.module:name'"
        raise CallbackError(message, callback=place) from error
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"callback {place!r}: importing module {module!r} fails ({reason}); mend that"
        raise CallbackError(message, callback=place) from error
    return found


def _member(found: Any, name: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError as error:
        match = nearest(name, dir(found))
        meant = "" if match is None else f", did you mean {match!r}?"
        raise AttributeError(f"{error}{meant}") from None


def _arguments_of(function: Callable[..., Any]) -> int | None:
    """Return with how many arguments something can be called, 0 or 3; None for neither."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 0 if isinstance(function, type) else None
    for count in (0, 3):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    return None


def _made(factory: Callable[..., Any], label: str) -> object:
    """Return what a class or a factory makes."""
    if _arguments_of(factory) != 0:
        message = f"callback {label} cannot be made without arguments: give an instance"
        raise CallbackError(message, callback=label)
    try:
        made = factory()
    except (MissingDependencyError, CallbackError):
        raise
    except Exception as error:
        message = f"callback {label} could not be made: {type(error).__name__}: {error}"
        raise CallbackError(message, callback=label) from error
    if not _has_hooks(made) and not _takes_phases(made):
        message = f"callback {label} makes {made!r}, which has no hooks; give {FORMS}"
        raise CallbackError(message, callback=label)
    return made


# ---------------------------------------------------------------- functions


def _takes_phases(found: Any) -> bool:
    return not isinstance(found, type) and callable(found) and _arguments_of(found) == 3  # noqa: PLR2004


def phase_of(hook: str) -> str:
    """Return what functions call the event of `hook`."""
    what = hook.removeprefix("on_")
    if what == "node_retry":
        return "retry_node"
    subject, _, moment = what.rpartition("_")
    return f"{_MOMENTS[moment]}_{subject}" if moment in _MOMENTS else what


_MOMENTS: Final = {"start": "pre", "end": "post", "stop": "post", "error": "error"}


def _phase_hooks(function: Callable[..., Any]) -> dict[str, Hook]:
    """Return the hooks that a function `(phase, config, data)` stands for."""
    return {
        name: Hook(function, takes, partial(_tell, function, phase_of(name), takes[1:]))
        for name, takes in ARGUMENTS.items()
        if name != WRAPPER
    }


def _tell(
    function: Callable[..., Any], phase: str, names: tuple[str, ...], ctx: Any, *values: Any
) -> None:
    """Call `function` with the event's arguments in the state, and merge what it returns."""
    state = ctx.state
    kept = {name: state[name] for name in names if name in state}
    state.update(zip(names, values, strict=True))
    try:
        returned = function(phase, ctx.config, state)
    finally:
        for name in names:
            state.pop(name, None)
        state.update(kept)
    if returned is None:
        return
    if not isinstance(returned, Mapping):
        raise TypeError(f"{_label(function)} has returned {returned!r}; return a dict, or None")
    state.update(returned)
