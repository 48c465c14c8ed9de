"""Whether the type that a producer gives fits the one that its consumer takes.

The rules are those of a type checker on the assignment ``consumer: C = value_of_type_P``, after the
typing specification (https://typing.python.org/en/latest/spec/). What cannot be told, agrees: a
missing or unresolvable annotation, an unsolved type variable, a construct that is not known here.
"""

# Own code: beartype.door.is_subhint has list covariant and int no float, and raises for TypedDict.

import enum
import inspect
import typing
from collections import abc
from collections.abc import Callable, Iterator
from typing import Any, Literal, LiteralString, Never, NoReturn, TypeVar

from hypernodes._annotations import is_union, literal, strip, take_apart, tuple_items
from hypernodes._bases import as_base, class_of, has_members, is_typed_dict, parameters

__all__ = ["accepts", "split"]

_PROMOTED: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}


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
    producer = strip(annotation)
    origin = take_apart(producer)[0]
    if not isinstance(origin, type) or is_union(origin) or issubclass(origin, (str, bytes)):
        return (Any,) * count
    seen = as_base(producer, tuple)
    if seen is None:
        return (take_apart(as_base(producer, abc.Sequence))[1] or (Any,)) * count
    items, any_number = tuple_items(seen)
    fitting = items if len(items) == count else (Any,) * count
    return items * count if any_number else fitting


# Rules: each gives its verdict, or None for what is not its matter


def _agrees(consumer: Any, producer: Any) -> bool:
    consumer, producer = strip(consumer), strip(producer)
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


def _members(annotation: Any) -> tuple[Any, ...]:
    """Give the alternatives of a union, or of a literal with several values."""
    origin, arguments = take_apart(annotation)
    if is_union(origin):
        return arguments
    return tuple(map(literal, arguments)) if origin is Literal else (annotation,)


def _exhausts(consumer: Any, producer: Any) -> bool:
    """Tell whether all values of a bool or an enum are among the literals of the consumer."""
    values: tuple[Any, ...] = (True, False) if producer is bool else ()
    if isinstance(producer, enum.EnumMeta):
        values = tuple(producer)
    return bool(values) and all(_agrees(consumer, literal(each)) for each in values)


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
    origin, arguments = take_apart(annotation)
    return arguments if origin is Literal else (_NOT_LITERAL,)


def _classes(consumer: Any, producer: Any) -> bool | None:
    target, given = take_apart(consumer)[0], take_apart(producer)[0]
    if not isinstance(target, type) or not isinstance(given, type):
        return None
    seen = as_base(producer, target)
    if seen is not None:
        return _arguments_agree(consumer, seen)
    if is_typed_dict(target):
        return is_typed_dict(given) and _items_agree(target, given)
    if getattr(target, "_is_protocol", False):
        return has_members(producer, target)
    return _is_subclass(class_of(producer), target)


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


def _arguments_agree(consumer: Any, producer: Any) -> bool:
    """Compare the type arguments of one class; left out, they are Any."""
    cls, taken = take_apart(consumer)
    given = take_apart(producer)[1]
    if cls is tuple:
        return _tuples_agree(consumer, producer)
    if not taken or not given:
        return True
    if cls is abc.Callable:
        return _agrees(taken[1], given[1]) and _signatures_agree(taken[0], given[0])
    missing = (None,) * len(taken)
    triples = zip((*parameters(cls), *missing), taken, given, strict=False)
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
    taken, any_taken = tuple_items(consumer)
    given, any_given = tuple_items(producer)
    if any_taken:
        return all(_agrees(taken[0], each) for each in given)
    if any_given:
        return strip(given[0]) is Any
    return len(taken) == len(given) and all(map(_agrees, taken, given))


def _signatures_agree(taken: Any, given: Any) -> bool:
    """Compare parameter lists: what the consumer passes must fit what the function takes."""
    if not isinstance(taken, list) or not isinstance(given, list):
        return True
    return len(taken) == len(given) and all(map(_agrees, given, taken))


def _items_agree(consumer: Any, producer: Any) -> bool:
    """Compare typed dictionaries by their keys and, as these may be assigned to, exact types."""
    required = producer.__required_keys__
    optional = producer.__optional_keys__
    if not (consumer.__required_keys__ <= required and consumer.__optional_keys__ <= optional):
        return False
    taken, given = typing.get_type_hints(consumer), typing.get_type_hints(producer)
    return all(_agrees(taken[key], given[key]) and _agrees(given[key], taken[key]) for key in taken)
