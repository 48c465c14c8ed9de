"""Classes seen as their bases: with the type arguments, and as typeshed declares them."""

import collections
import inspect
import io
import types
import typing
from collections import abc
from collections.abc import Callable, Iterator
from typing import Any, Generic, Never, TypeVar, Union

from hypernodes._annotations import (
    own_annotations,
    parameter_types,
    return_type,
    substituted,
    take_apart,
    tuple_items,
)

__all__ = ["as_base", "class_of", "has_members", "is_typed_dict", "parameters"]

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


def as_base(producer: Any, target: Any) -> Any:
    """See a class, with its arguments, as one of its bases; None if that is not among them."""
    origin, arguments = take_apart(producer)
    if origin is target:
        return producer
    if target is abc.Callable:
        return _as_callable(producer)
    bound = dict(zip(parameters(origin), arguments, strict=False))
    bases = (substituted(base, bound) for base in _bases(producer) if not _is_marker(base))
    seen = (as_base(base, target) for base in bases)
    return next((each for each in seen if each is not None), None)


def _is_marker(base: Any) -> bool:
    """Tell the bases that only declare type parameters."""
    return getattr(take_apart(base)[0], "__name__", "") in {"Generic", "Protocol"}


def _as_callable(producer: Any) -> Any:
    """See a class as the function that makes its instances, a callable object as its method."""
    origin, arguments = take_apart(producer)
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
    cls = take_apart(producer)[0]
    if cls is tuple:
        union: Any = Union
        return (_of(abc.Sequence, union[tuple_items(producer)[0] or Never]),)
    if tuple in cls.__bases__ and "_fields" in vars(cls):
        fields = parameter_types(cls)
        return (_of(tuple, *(fields.get(name, Any) for name in cls._fields)),)
    if is_typed_dict(cls):
        return (abc.Mapping[str, object],)
    bases: tuple[Any, ...] = vars(cls).get("__orig_bases__", cls.__bases__)
    return _TYPESHED.get(cls, bases)


def parameters(cls: Any) -> tuple[Any, ...]:
    """Give the type parameters that a class declares, none where it keeps them to itself."""
    declared: tuple[Any, ...] | None = vars(cls).get("__parameters__")
    if declared is not None or cls is tuple:
        return declared or ()
    aliases = (base for base in _bases(cls) if not isinstance(base, type))
    found = (each for base in aliases for each in getattr(base, "__parameters__", ()))
    return tuple(dict.fromkeys(found))


def class_of(producer: Any) -> type:
    """Give the class of a value of this type, for issubclass."""
    origin, arguments = take_apart(producer)
    if origin is abc.Callable:
        return types.FunctionType
    if origin is type and arguments:
        return type(arguments[0]) if isinstance(arguments[0], type) else type
    cls: type = abc.Mapping if is_typed_dict(origin) else origin
    return cls


def is_typed_dict(cls: Any) -> bool:
    """Tell a TypedDict from the classes that it is not at run time."""
    return hasattr(cls, "__total__") and hasattr(cls, "__required_keys__")


def has_members(producer: Any, protocol: Any) -> bool:
    """Look for the members of a protocol by name; their types are not compared."""
    names = getattr(protocol, "__protocol_attrs__", None)
    if names is None:
        names = vars(typing)["_get_protocol_attrs"](protocol)
    places = _places(producer)
    return all(any(_defines(cls, name) for cls in places) for name in names)


def _places(producer: Any) -> tuple[type, ...]:
    """Give the classes where the attributes of a value are looked up."""
    cls = class_of(producer)
    described = take_apart(producer)[1][:1] if issubclass(cls, type) else ()
    bases = (base for each in described if isinstance(each, type) for base in each.__mro__)
    return (*cls.__mro__, *_ancestors(cls), *bases)


def _ancestors(cls: Any) -> Iterator[type]:
    """Walk the declared bases, which have more than those at run time: __reversed__ of a tuple."""
    for base in _bases(cls):
        origin = take_apart(base)[0]
        yield origin
        yield from _ancestors(origin)


def _defines(cls: type, name: str) -> bool:
    """Tell whether a class defines or declares an attribute, or a method of it assigns one."""
    namespace = vars(cls)
    if name in own_annotations(cls) or ("__getattr__" in namespace and not name.startswith("__")):
        return True
    if name in namespace:
        return namespace[name] is not None
    methods = (value for value in namespace.values() if isinstance(value, types.FunctionType))
    return any(name in method.__code__.co_names for method in methods)
