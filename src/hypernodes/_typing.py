"""Whether the type that a producer gives fits the one that its consumer takes.

The rules are those of a type checker on the assignment ``consumer: C = value_of_type_P``, after the
typing specification (https://typing.python.org/en/latest/spec/). What cannot be told, agrees: a
missing or unresolvable annotation, an unsolved type variable, a construct that is not known here.
"""

# Own code: beartype.door.is_subhint has list covariant and int no float, and raises for TypedDict.

import collections
import enum
import functools
import inspect
import io
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, LiteralString, Never, NoReturn, TypeVar, Union

__all__ = ["accepts", "describe", "parameter_types", "return_type", "split"]

# From here on annotations are evaluated when they are read, and a missing name must not raise.
if sys.version_info >= (3, 14):
    import annotationlib

    _FORMAT = annotationlib.Format.FORWARDREF
    _signature = functools.partial(inspect.signature, annotation_format=_FORMAT)
    _own_annotations = functools.partial(annotationlib.get_annotations, format=_FORMAT)
else:
    _signature = inspect.signature
    _own_annotations = inspect.get_annotations

_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_T_co = TypeVar("_T_co", covariant=True)
_V_co = TypeVar("_V_co", covariant=True)
_S_contra = TypeVar("_S_contra", contravariant=True)
_R_co = TypeVar("_R_co", covariant=True)


def _of(cls: Any, *arguments: Any) -> Any:
    """Make a generic alias; written as a subscript, it would be a type in the eyes of a checker."""
    return types.GenericAlias(cls, arguments)


# The bases that typeshed declares for classes which do not carry them at run time. The first one
# names all type parameters of the class, in order.
_TYPESHED: dict[type, tuple[Any, ...]] = {
    abc.Container: (_of(Generic, _T_co),),
    abc.Iterable: (_of(Generic, _T_co),),
    abc.Iterator: (_of(abc.Iterable, _T_co),),
    abc.Reversible: (_of(abc.Iterable, _T_co),),
    abc.Collection: (_of(abc.Iterable, _T_co), _of(abc.Container, _T_co)),
    abc.Sequence: (_of(abc.Collection, _T_co), _of(abc.Reversible, _T_co)),
    abc.MutableSequence: (_of(abc.Sequence, _T),),
    abc.Set: (_of(abc.Collection, _T_co),),
    abc.MutableSet: (_of(abc.Set, _T),),
    abc.Mapping: (_of(Generic, _K, _V_co), _of(abc.Collection, _K)),
    abc.MutableMapping: (_of(abc.Mapping, _K, _V),),
    abc.KeysView: (_of(abc.Set, _T_co),),
    abc.ValuesView: (_of(abc.Collection, _T_co),),
    abc.ItemsView: (_of(Generic, _T_co, _V_co), _of(abc.Set, _of(tuple, _T_co, _V_co))),
    abc.Generator: (_of(Generic, _T_co, _S_contra, _R_co), _of(abc.Iterator, _T_co)),
    abc.Awaitable: (_of(Generic, _R_co),),
    abc.Coroutine: (_of(Generic, _T_co, _S_contra, _R_co), _of(abc.Awaitable, _R_co)),
    abc.AsyncIterable: (_of(Generic, _T_co),),
    abc.AsyncIterator: (_of(abc.AsyncIterable, _T_co),),
    abc.AsyncGenerator: (_of(Generic, _T_co, _S_contra), _of(abc.AsyncIterator, _T_co)),
    list: (_of(abc.MutableSequence, _T),),
    collections.deque: (_of(abc.MutableSequence, _T),),
    collections.UserList: (_of(abc.MutableSequence, _T),),
    set: (_of(abc.MutableSet, _T),),
    frozenset: (_of(abc.Set, _T_co),),
    dict: (_of(abc.MutableMapping, _K, _V),),
    collections.defaultdict: (_of(dict, _K, _V),),
    collections.OrderedDict: (_of(dict, _K, _V),),
    collections.Counter: (_of(dict, _T, int),),
    collections.ChainMap: (_of(abc.MutableMapping, _K, _V),),
    collections.UserDict: (_of(abc.MutableMapping, _K, _V),),
    enumerate: (_of(abc.Iterator, _of(tuple, int, _T)),),
    str: (_of(abc.Sequence, str),),
    bytes: (_of(abc.Sequence, int),),
    bytearray: (_of(abc.MutableSequence, int),),
    memoryview: (_of(abc.Sequence, int),),
    range: (_of(abc.Sequence, int),),
    typing.IO: (_of(abc.Iterator, typing.AnyStr),),
    io.TextIOBase.__mro__[1]: (typing.TextIO,),  # the classes of io share the base that is in C
    io.BufferedIOBase.__mro__[1]: (typing.BinaryIO,),
    io.RawIOBase.__mro__[1]: (typing.BinaryIO,),
}
_PROMOTED: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}
_QUALIFIERS = {"Annotated", "ClassVar", "Final", "NotRequired", "ReadOnly", "Required", "Unpack"}
_OPAQUE = (str, typing.ForwardRef, typing.ParamSpec, typing.TypeVarTuple)
_UNSAID = (typing.Self, inspect.Parameter.empty)


def accepts(consumer: Any, producer: Any) -> bool:
    """Tell whether a value of the producer's type may go where the consumer's type is asked for.

    Args:
        consumer: The annotation of the parameter, resolved (see `parameter_types`).
        producer: The annotation of the value, resolved (see `return_type` and `split`).

    Returns:
        False when a type checker would refuse the assignment. True when it would not, and when the
        annotations cannot be judged.

    Example:
        >>> accepts(float, int), accepts(int, int | None)
        (True, False)
        >>> accepts(list[float], list[int]), accepts(abc.Iterable[float], list[int])
        (False, True)
    """
    try:
        return _agrees(consumer, producer)
    except Exception:  # noqa: BLE001 - an annotation is any object, whose class may raise anything
        return True


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


def split(annotation: Any, count: int) -> tuple[Any, ...]:
    """Divide the type of a function that returns several values into the types of the values.

    Args:
        annotation: What the function returns, resolved.
        count: How many values it returns.

    Returns:
        One type per value: the items of a tuple or NamedTuple, the item type of a list or another
        sequence. `typing.Any` for each where the annotation does not say.

    Example:
        >>> split(tuple[int, str], 2)
        (<class 'int'>, <class 'str'>)
    """
    producer = _plain(annotation)
    origin = _parts(producer)[0]
    if not isinstance(origin, type) or _is_union(origin) or issubclass(origin, (str, bytes)):
        return (Any,) * count
    seen = _as_base(producer, tuple)
    if seen is None:
        return (_parts(_as_base(producer, abc.Sequence))[1] or (Any,)) * count
    items, any_number = _tuple_items(seen)
    fitting = items if len(items) == count else (Any,) * count
    return items * count if any_number else fitting


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
    origin, arguments = _parts(annotation)
    if origin is typing.Annotated:
        return describe(arguments[0])
    if _is_union(origin):
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


def _is_union(origin: Any) -> bool:
    return origin is Union or origin is types.UnionType


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Give the generic class or form and its arguments; the annotation itself if it has none."""
    if annotation is None:
        return types.NoneType, ()
    pydantic = getattr(annotation, "__pydantic_generic_metadata__", None)
    if pydantic and pydantic["origin"]:
        return pydantic["origin"], pydantic["args"]
    return typing.get_origin(annotation) or annotation, typing.get_args(annotation)


def _plain(annotation: Any) -> Any:
    """Strip what says nothing about the type; Any for what cannot be known."""
    if annotation is None:
        return types.NoneType
    if isinstance(annotation, _OPAQUE) or any(annotation is each for each in _UNSAID):
        return Any
    origin, arguments = _parts(annotation)
    if type(origin).__name__ == "TypeAliasType":
        bound = dict(zip(origin.__type_params__, arguments, strict=False))
        return _plain(_substituted(origin.__value__, bound))
    if arguments and getattr(origin, "__name__", None) in _QUALIFIERS:
        return _plain(arguments[0])
    return annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """Give the alternatives of a union, or of a literal with several values."""
    origin, arguments = _parts(annotation)
    if _is_union(origin):
        return arguments
    return tuple(map(_literal, arguments)) if origin is Literal else (annotation,)


def _literal(value: Any) -> Any:
    """Make the literal type of a value, which for None is None itself."""
    literal: Any = Literal
    return types.NoneType if value is None else literal[value]


def _substituted(annotation: Any, bound: dict[Any, Any]) -> Any:
    """Fill in type variables; those without a value become Any."""
    if isinstance(annotation, TypeVar):
        return bound.get(annotation, Any)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not parameters:
        return annotation
    unknown = {each: ... if isinstance(each, typing.ParamSpec) else Any for each in parameters}
    return annotation[tuple((unknown | bound)[each] for each in parameters)]


def _tuple_items(annotation: Any) -> tuple[tuple[Any, ...], bool]:
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


# Rules: each gives its verdict, or None for what is not its matter


def _agrees(consumer: Any, producer: Any) -> bool:
    consumer, producer = _plain(consumer), _plain(producer)
    verdicts = (rule(consumer, producer) for rule in _RULES)
    return next((each for each in verdicts if each is not None), True)


def _trivial(consumer: Any, producer: Any) -> bool | None:
    if consumer is Any or consumer is object or producer in (Any, Never, NoReturn, consumer):
        return True
    return False if consumer in (Never, NoReturn) else None


def _variables(consumer: Any, producer: Any) -> bool | None:
    """Agree when some value of the type variable would."""
    if isinstance(producer, TypeVar):
        solutions = _solutions(producer)
        return any(_agrees(consumer, each) or _agrees(each, consumer) for each in solutions)
    if isinstance(consumer, TypeVar):
        return any(_agrees(each, producer) for each in _solutions(consumer))
    return None


def _solutions(variable: TypeVar) -> tuple[Any, ...]:
    bound = variable.__bound__
    return variable.__constraints__ or (Any if bound is None else bound,)


def _unions(consumer: Any, producer: Any) -> bool | None:
    given, taken = _members(producer), _members(consumer)
    if len(given) > 1:
        return all(_agrees(consumer, each) for each in given)
    if len(taken) > 1:
        return any(_agrees(each, producer) for each in taken) or _exhausts(consumer, producer)
    return None


def _exhausts(consumer: Any, producer: Any) -> bool:
    """Tell whether all values of a bool or an enum are among the literals of the consumer."""
    values: tuple[Any, ...] = (True, False) if producer is bool else ()
    if isinstance(producer, enum.EnumMeta):
        values = tuple(producer)
    return bool(values) and all(_agrees(consumer, _literal(each)) for each in values)


def _new_types(consumer: Any, producer: Any) -> bool | None:
    if isinstance(producer, typing.NewType):
        return _agrees(consumer, producer.__supertype__)
    return False if isinstance(consumer, typing.NewType) else None


def _literals(consumer: Any, producer: Any) -> bool | None:
    if producer is LiteralString:
        return _agrees(consumer, str)
    (taken,), (given,) = _values(consumer), _values(producer)
    if consumer is LiteralString:
        return isinstance(given, str)
    if taken is not _NOT_LITERAL:
        return type(taken) is type(given) and taken == given
    return None if given is _NOT_LITERAL else _agrees(consumer, type(given))


_NOT_LITERAL = object()


def _values(annotation: Any) -> tuple[Any, ...]:
    origin, arguments = _parts(annotation)
    return arguments if origin is Literal else (_NOT_LITERAL,)


def _classes(consumer: Any, producer: Any) -> bool | None:
    target, given = _parts(consumer)[0], _parts(producer)[0]
    if not isinstance(target, type) or not isinstance(given, type):
        return None
    seen = _as_base(producer, target)
    if seen is not None:
        return _arguments_agree(consumer, seen)
    if _is_typed_dict(target):
        return _is_typed_dict(given) and _items_agree(target, given)
    if getattr(target, "_is_protocol", False):
        return _has_members(producer, target)
    return _is_subclass(_class_of(producer), target)


def _is_subclass(cls: type, target: type) -> bool:
    """Ask the classes; an abstract one does not say whether its subclasses can be hashed."""
    promoted = issubclass(cls, (target, *_PROMOTED.get(target, ()))) or Any in cls.__mro__
    return promoted or (target is abc.Hashable and inspect.isabstract(cls))


_RULES: tuple[Callable[[Any, Any], bool | None], ...] = (
    _trivial,
    _variables,
    _unions,
    _new_types,
    _literals,
    _classes,
)


# Classes and their bases


def _class_of(producer: Any) -> type:
    """Give the class of a value of this type, for issubclass."""
    origin, arguments = _parts(producer)
    if origin is abc.Callable:
        return types.FunctionType
    if origin is type and arguments:
        return type(arguments[0]) if isinstance(arguments[0], type) else type
    cls: type = abc.Mapping if _is_typed_dict(origin) else origin
    return cls


def _as_base(producer: Any, target: Any) -> Any:
    """See a class, with its arguments, as one of its bases; None if that is not among them."""
    origin, arguments = _parts(producer)
    if origin is target:
        return producer
    if target is abc.Callable:
        return _as_callable(producer)
    bound = dict(zip(_parameters(origin), arguments, strict=False))
    bases = (_substituted(base, bound) for base in _bases(producer) if not _is_marker(base))
    seen = (_as_base(base, target) for base in bases)
    return next((each for each in seen if each is not None), None)


def _is_marker(base: Any) -> bool:
    """Tell the bases that only declare type parameters."""
    return getattr(_parts(base)[0], "__name__", "") in {"Generic", "Protocol"}


def _as_callable(producer: Any) -> Any:
    """See a class as the function that makes its instances, a callable object as its method."""
    origin, arguments = _parts(producer)
    if origin is type:
        return Callable[..., arguments[0] if arguments else Any]
    function: Any = Callable
    if not issubclass(origin, function):
        return None
    call: Any = origin.__call__
    result = return_type(call)
    awaited = inspect.iscoroutinefunction(call)
    return Callable[..., _of(abc.Coroutine, Any, Any, result) if awaited else result]


def _bases(producer: Any) -> tuple[Any, ...]:
    """Give the direct bases of a class in terms of its type parameters."""
    cls = _parts(producer)[0]
    if cls is tuple:
        union: Any = Union
        return (_of(abc.Sequence, union[_tuple_items(producer)[0] or Never]),)
    if tuple in cls.__bases__ and "_fields" in vars(cls):
        fields = parameter_types(cls)
        return (_of(tuple, *(fields.get(name, Any) for name in cls._fields)),)
    if _is_typed_dict(cls):
        return (abc.Mapping[str, object],)
    bases: tuple[Any, ...] = vars(cls).get("__orig_bases__", cls.__bases__)
    return _TYPESHED.get(cls, bases)


def _parameters(cls: Any) -> tuple[Any, ...]:
    """Give the type parameters that a class declares, none where it keeps them to itself."""
    declared: tuple[Any, ...] | None = vars(cls).get("__parameters__")
    if declared is not None or cls is tuple:
        return declared or ()
    aliases = (base for base in _bases(cls) if not isinstance(base, type))
    found = (each for base in aliases for each in getattr(base, "__parameters__", ()))
    return tuple(dict.fromkeys(found))


def _arguments_agree(consumer: Any, producer: Any) -> bool:
    """Compare the type arguments of one class; left out, they are Any."""
    cls, taken = _parts(consumer)
    given = _parts(producer)[1]
    if cls is tuple:
        return _tuples_agree(consumer, producer)
    if not taken or not given:
        return True
    if cls is abc.Callable:
        return _agrees(taken[1], given[1]) and _signatures_agree(taken[0], given[0])
    missing = (None,) * len(taken)
    triples = zip((*_parameters(cls), *missing), taken, given, strict=False)
    return all(_argument_agrees(*triple) for triple in triples)


def _argument_agrees(parameter: Any, taken: Any, given: Any) -> bool:
    """Compare one type argument after the variance of its parameter, covariant if unknown."""
    directions: Iterator[bool] = (_agrees(*pair) for pair in ((taken, given), (given, taken)))
    if getattr(parameter, "__infer_variance__", False):
        return any(directions)
    if parameter is None or parameter.__covariant__:
        return next(directions)
    return _agrees(given, taken) if parameter.__contravariant__ else all(directions)


def _tuples_agree(consumer: Any, producer: Any) -> bool:
    taken, any_taken = _tuple_items(consumer)
    given, any_given = _tuple_items(producer)
    if any_taken:
        return all(_agrees(taken[0], each) for each in given)
    if any_given:
        return _plain(given[0]) is Any
    return len(taken) == len(given) and all(map(_agrees, taken, given))


def _signatures_agree(taken: Any, given: Any) -> bool:
    """Compare parameter lists: what the consumer passes must fit what the function takes."""
    if not isinstance(taken, list) or not isinstance(given, list):
        return True
    return len(taken) == len(given) and all(map(_agrees, given, taken))


def _is_typed_dict(cls: Any) -> bool:
    return hasattr(cls, "__total__") and hasattr(cls, "__required_keys__")


def _items_agree(consumer: Any, producer: Any) -> bool:
    """Compare typed dictionaries by their keys and, as these may be assigned to, exact types."""
    required = producer.__required_keys__
    optional = producer.__optional_keys__
    if not (consumer.__required_keys__ <= required and consumer.__optional_keys__ <= optional):
        return False
    taken, given = typing.get_type_hints(consumer), typing.get_type_hints(producer)
    return all(_agrees(taken[key], given[key]) and _agrees(given[key], taken[key]) for key in taken)


def _has_members(producer: Any, protocol: Any) -> bool:
    """Look for the members of a protocol by name; their types are not compared."""
    names = getattr(protocol, "__protocol_attrs__", None)
    if names is None:
        names = vars(typing)["_get_protocol_attrs"](protocol)
    places = _places(producer)
    return all(any(_defines(cls, name) for cls in places) for name in names)


def _places(producer: Any) -> tuple[type, ...]:
    """Give the classes where the attributes of a value are looked up."""
    cls = _class_of(producer)
    described = _parts(producer)[1][:1] if issubclass(cls, type) else ()
    bases = (base for each in described if isinstance(each, type) for base in each.__mro__)
    return (*cls.__mro__, *_ancestors(cls), *bases)


def _ancestors(cls: Any) -> Iterator[type]:
    """Walk the declared bases, which have more than those at run time: __reversed__ of a tuple."""
    for base in _bases(cls):
        origin = _parts(base)[0]
        yield origin
        yield from _ancestors(origin)


def _defines(cls: type, name: str) -> bool:
    """Tell whether a class defines or declares an attribute, or a method of it assigns one."""
    namespace = vars(cls)
    if name in _own_annotations(cls) or ("__getattr__" in namespace and not name.startswith("__")):
        return True
    if name in namespace:
        return namespace[name] is not None
    methods = (value for value in namespace.values() if isinstance(value, types.FunctionType))
    return any(name in method.__code__.co_names for method in methods)
