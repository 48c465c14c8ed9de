"""Annotations: read off functions, taken apart, and spelled for people."""

import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union

__all__ = [
    "describe",
    "is_union",
    "literal",
    "own_annotations",
    "parameter_types",
    "return_type",
    "strip",
    "substituted",
    "take_apart",
    "tuple_items",
]

# From here on annotations are evaluated when they are read, and a missing name must not raise.
if sys.version_info >= (3, 14):
    import annotationlib

    _FORMAT = annotationlib.Format.FORWARDREF
    _signature = functools.partial(inspect.signature, annotation_format=_FORMAT)
    own_annotations = functools.partial(annotationlib.get_annotations, format=_FORMAT)
else:
    _signature = inspect.signature
    own_annotations = inspect.get_annotations

_QUALIFIERS = {"Annotated", "ClassVar", "Final", "NotRequired", "ReadOnly", "Required", "Unpack"}
_OPAQUE = (str, typing.ForwardRef, typing.ParamSpec, typing.TypeVarTuple)
_UNSAID = (typing.Self, inspect.Parameter.empty)


def return_type(function: Callable[..., Any]) -> Any:
    """Read the type of what a call of the function gives.

    Args:
        function: Any callable: a function, method, partial, class, callable object or builtin.

    Returns:
        The resolved annotation. For `async def` it is the type of the awaited value, for a class
        the class itself. `typing.Any` where there is none or a name in it cannot be resolved.

    Example:
        >>> def half(x: int) -> "float | None": ...
        >>> return_type(half)
        float | None
    """
    called = function
    while isinstance(called, functools.partial):
        called = called.func
    if isinstance(called, type) or typing.get_origin(called):
        return called
    signature = _signature_or_none(function)
    return Any if signature is None else _resolved(signature.return_annotation, _globals(called))


def parameter_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Read the types of the parameters of a function.

    Args:
        function: Any callable: a function, method, partial, class, callable object or builtin.

    Returns:
        Parameter names in order, each with its resolved annotation, or `typing.Any` where there is
        none or a name in it cannot be resolved. Parameters that are already bound (`self`, the
        positional arguments of a partial) are left out. Empty for a builtin without a signature.

    Example:
        >>> def scale(x: int, by: "float", offset=0): ...
        >>> parameter_types(scale)
        {'x': <class 'int'>, 'by': <class 'float'>, 'offset': typing.Any}
    """
    signature = _signature_or_none(function)
    if signature is None:
        return {}
    namespace = _globals(function)
    parameters = signature.parameters.values()
    return {each.name: _resolved(each.annotation, namespace) for each in parameters}


def describe(annotation: Any) -> str:
    """Spell an annotation for an error message, short and as in source code.

    Args:
        annotation: Any annotation, resolved or not.

    Returns:
        The spelling, without modules and without the metadata of `typing.Annotated`.

    Example:
        >>> describe(typing.Optional[list[int]])
        'list[int] | None'
    """
    origin, arguments = take_apart(annotation)
    if origin is typing.Annotated:
        return describe(arguments[0])
    if is_union(origin):
        return " | ".join(map(describe, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(_describe_value, arguments))}]"
    if not arguments and not _is_empty_tuple(annotation):
        return _describe_atom(origin)
    star = "*" if getattr(annotation, "__unpacked__", False) else ""
    return f"{star}{_describe_atom(origin)}[{', '.join(map(describe, arguments)) or '()'}]"


def _describe_atom(annotation: Any) -> str:
    """Spell what has no type arguments."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, list | tuple):
        return f"[{', '.join(map(describe, annotation))}]"
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if annotation is types.NoneType or annotation is Ellipsis:
        return "None" if annotation is types.NoneType else "..."
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    return str(name or repr(annotation).replace("typing.", "")).rpartition("<locals>.")[2]


def _describe_value(value: Any) -> str:
    """Spell a value inside of `Literal`."""
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


# Reading functions


def _signature_or_none(function: Callable[..., Any]) -> inspect.Signature | None:
    """Read the signature; builtins may have none."""
    try:
        return _signature(typing.get_origin(function) or function)
    except (TypeError, ValueError):
        return None


def _globals(function: Any) -> dict[str, Any]:
    """Collect the names that the annotations of a callable are written in."""
    if isinstance(function, functools.partial):
        return _globals(function.func)
    function = typing.get_origin(function) or function
    if isinstance(function, type):  # fields may be inherited from classes in other modules
        modules = (sys.modules.get(base.__module__) for base in reversed(function.__mro__))
        return {name: value for each in modules if each for name, value in vars(each).items()}
    call = function if hasattr(function, "__globals__") else type(function).__call__
    namespace: dict[str, Any] = getattr(inspect.unwrap(call), "__globals__", {})
    return namespace


def _resolved(annotation: Any, namespace: dict[str, Any]) -> Any:
    """Resolve one annotation, strings inside of it too; Any where that fails."""
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        resolved = typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - a string annotation is evaluated, and may raise anything
        return Any
    return _resolved(resolved.type, namespace) if _is_init_var(resolved) else resolved


def _is_init_var(annotation: Any) -> bool:
    return type(annotation).__name__ == "InitVar"  # importing dataclasses costs more than this


# Taking annotations apart


def is_union(origin: Any) -> bool:
    """Tell unions, of either spelling, from other forms."""
    return origin is Union or origin is types.UnionType


def take_apart(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Give the generic class or form and its arguments; the annotation itself if it has none."""
    if annotation is None:
        return types.NoneType, ()
    pydantic = getattr(annotation, "__pydantic_generic_metadata__", None)
    if pydantic and pydantic["origin"]:
        return pydantic["origin"], pydantic["args"]
    return typing.get_origin(annotation) or annotation, typing.get_args(annotation)


def strip(annotation: Any) -> Any:
    """Strip what says nothing about the type; Any for what cannot be known."""
    if annotation is None:
        return types.NoneType
    if isinstance(annotation, _OPAQUE) or any(annotation is each for each in _UNSAID):
        return Any
    origin, arguments = take_apart(annotation)
    if type(origin).__name__ == "TypeAliasType":
        bound = dict(zip(origin.__type_params__, arguments, strict=False))
        return strip(substituted(origin.__value__, bound))
    if arguments and getattr(origin, "__name__", None) in _QUALIFIERS:
        return strip(arguments[0])
    return annotation


def literal(value: Any) -> Any:
    """Make the literal type of a value, which for None is None itself."""
    form: Any = Literal
    return types.NoneType if value is None else form[value]


def substituted(annotation: Any, bound: dict[Any, Any]) -> Any:
    """Fill in type variables; those without a value become Any."""
    if isinstance(annotation, TypeVar):
        return bound.get(annotation, Any)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not parameters:
        return annotation
    unknown = {each: ... if isinstance(each, typing.ParamSpec) else Any for each in parameters}
    return annotation[tuple((unknown | bound)[each] for each in parameters)]


def tuple_items(annotation: Any) -> tuple[tuple[Any, ...], bool]:
    """Give the item types of a tuple type, and whether there may be any number of them."""
    arguments = typing.get_args(annotation)
    if _is_empty_tuple(annotation):
        return (), False
    if not arguments or any(map(_is_unpacked, arguments)):
        return (Any,), True
    return (arguments[:1], True) if arguments[-1] is Ellipsis else (arguments, False)


def _is_empty_tuple(annotation: Any) -> bool:
    """Tell `tuple[()]` from a bare `tuple`."""
    return typing.get_origin(annotation) is tuple and getattr(annotation, "__args__", None) == ()


def _is_unpacked(argument: Any) -> bool:
    origin = typing.get_origin(argument)
    return getattr(argument, "__unpacked__", False) or getattr(origin, "__name__", "") == "Unpack"
