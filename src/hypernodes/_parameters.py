"""What a callable takes: its parameters, read once when a node is made."""

from __future__ import annotations

import inspect
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from hypernodes.exceptions import NodeDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable


class _Absent:
    """The type of `ABSENT`: no default, no value (`None` is a value)."""

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()

POSITIONAL: Final = inspect.Parameter.POSITIONAL_ONLY
EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY
_VARIADIC: Final = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_VARIADIC_FLAGS: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


class Parameter(NamedTuple):
    """A parameter of a callable: its name there, how it is passed, and its default or `ABSENT`."""

    name: str
    kind: Any
    default: Any

    @property
    def has_default(self) -> bool:
        """Whether it may be left out."""
        return self.default is not ABSENT

    @property
    def is_positional_only(self) -> bool:
        """Whether it cannot be passed by name."""
        return self.kind is POSITIONAL

    def keyword(self, *, after_gap: bool) -> str | None:
        """Return the keyword to pass it by, or None where its position will do.

        Args:
            after_gap: Whether a parameter before it is left out.
        """
        by_name = self.kind is KEYWORD or (after_gap and self.kind is EITHER)
        return self.name if by_name else None


def read_parameters(function: Callable[..., Any], node: str) -> tuple[Parameter, ...]:
    """Return the parameters of `function` in order.

    Args:
        function: Any callable with a signature.
        node: The name of its node, for messages.

    Raises:
        NodeDefinitionError: It has no signature, or takes `*args` or `**kwargs`.
    """
    if type(function) is FunctionType and not function.__dict__:
        plain = _read_plain(function)
        if plain is not None:
            return plain
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        message = (
            f"node {node!r} has no signature that Python can read, so its inputs are unknown; "
            f"wrap it in a function or lambda that names them"
        )
        raise NodeDefinitionError(message, node=node) from error
    return tuple(_checked(parameter, node) for parameter in signature.parameters.values())


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` gives a coroutine, also behind wrappers and `__call__`."""
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_unwrap(function)):
        return True
    while isinstance(function, partial):
        function = function.func
    if inspect.isclass(function):
        return False
    return inspect.iscoroutinefunction(type(function).__call__)


def _unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return cast("Callable[..., Any]", inspect.unwrap(function))
    except ValueError:  # a loop of wrappers
        return function


def _read_plain(function: FunctionType) -> tuple[Parameter, ...] | None:
    """Return the parameters of a plain function, from its code: ten times `inspect.signature`."""
    code = function.__code__
    if code.co_flags & _VARIADIC_FLAGS:
        return None
    names = code.co_varnames
    count = code.co_argcount
    defaults = function.__defaults__ or ()
    first_default = count - len(defaults)
    parameters = [
        Parameter(
            names[i],
            POSITIONAL if i < code.co_posonlyargcount else EITHER,
            defaults[i - first_default] if i >= first_default else ABSENT,
        )
        for i in range(count)
    ]
    keywords = function.__kwdefaults__ or {}
    parameters += [
        Parameter(name, KEYWORD, keywords.get(name, ABSENT))
        for name in names[count : count + code.co_kwonlyargcount]
    ]
    return tuple(parameters)


def _checked(parameter: inspect.Parameter, node: str) -> Parameter:
    if parameter.kind in _VARIADIC:
        spelled = f"{_VARIADIC[parameter.kind]}{parameter.name}"
        message = (
            f"node {node!r} takes {spelled}: a node's inputs are its parameters, so each one needs "
            f"a name; write them out"
        )
        raise NodeDefinitionError(message, node=node)
    default = ABSENT if parameter.default is inspect.Parameter.empty else parameter.default
    return Parameter(parameter.name, parameter.kind, default)
