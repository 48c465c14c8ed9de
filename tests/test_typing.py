"""Whether annotations agree, as a type checker would say."""

import collections
import collections.abc as c
import contextlib  # noqa: F401 - rows of the table name it
import dataclasses
import datetime as dt  # noqa: F401 - rows of the table name it
import decimal  # noqa: F401 - rows of the table name it
import doctest
import enum
import functools
import inspect
import io  # noqa: F401 - rows of the table name it
import numbers  # noqa: F401 - rows of the table name it
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import numpy as np
import numpy.typing as npt  # noqa: F401 - rows of the table name it
import pandas as pd  # noqa: F401 - rows of the table name it
import pydantic
import pytest
import typing_extensions as te

from hypernodes import _typing
from hypernodes._annotations import describe, parameter_types, return_type
from hypernodes._typing import accepts, split

T = t.TypeVar("T")
T_co = t.TypeVar("T_co", covariant=True)
T_contra = t.TypeVar("T_contra", contravariant=True)
Real = t.TypeVar("Real", bound=float)
Scalar = t.TypeVar("Scalar", int, str)
P = t.ParamSpec("P")
Ts = t.TypeVarTuple("Ts")
UserId = t.NewType("UserId", int)
AdminId = t.NewType("AdminId", UserId)
Pair: t.TypeAlias = tuple[T, T]
Alias = te.TypeAliasType("Alias", list[T], type_params=(T,))
Same = te.TypeAliasType("Same", T, type_params=(T,))
Json = te.TypeAliasType("Json", dict[str, "Json"] | list["Json"] | str | int | None)


class Animal:
    def __init__(self, name: str) -> None:
        self.name = name


class Dog(Animal): ...


class Puppy(Dog): ...


class Box(t.Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


class IntBox(Box[int]): ...


class NamedBox(Box[T]): ...


class Swapped(dict[T_co, T], t.Generic[T, T_co]): ...  # type: ignore[type-var]


class Source(t.Generic[T_co]): ...


class Sink(t.Generic[T_contra]): ...


class Rows(list[dict[str, int]]): ...


class Words(c.Sequence[str]):
    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: t.Any) -> t.Any:
        raise IndexError(index)


class Countdown:
    def __iter__(self) -> t.Iterator[int]:
        return iter(())


class Bare(list): ...  # type: ignore[type-arg]


class Scorer:
    def __call__(self, x: int) -> float:
        return float(x)


class AsyncScorer:
    async def __call__(self, x: int) -> float:
        return float(x)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


class Lazy:
    def __getattr__(self, name: str) -> t.Any:
        raise AttributeError(name)


class Anything(t.Any): ...


class Point(t.NamedTuple):
    x: int
    label: str


class Movie(t.TypedDict):
    title: str
    year: int


class RatedMovie(Movie):
    rating: float


class DraftMovie(t.TypedDict):
    title: str
    year: te.NotRequired[int]


class TitledMovie(t.TypedDict):
    title: str
    year: float


class ExtendedMovie(te.TypedDict):
    title: str
    year: int


class Named(t.Protocol):
    name: str


@t.runtime_checkable
class Closable(t.Protocol):
    def close(self) -> None: ...


class ClosableNamed(Closable, Named, t.Protocol): ...


class ExtendedNamed(te.Protocol):
    name: str


class Scores(t.Protocol):
    def __call__(self, x: int) -> float: ...


class Gets(t.Protocol[T_co]):
    def get(self) -> T_co: ...


class GetsInt(Gets[int]):
    def get(self) -> int:
        return 1


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Meta(type): ...


class WithMeta(metaclass=Meta): ...


@dataclasses.dataclass
class Tagged:
    name: str
    size: "int" = 0


class Model(pydantic.BaseModel, t.Generic[T]):
    value: T


class IntModel(Model[int]): ...


# Consumer, producer, whether they agree. Spelled as source, for the comparison with mypy.
TABLE = [
    # Any, object, nothing known
    ("t.Any", "int", True),
    ("int", "t.Any", True),
    ("object", "int", True),
    ("object", "int | None", True),
    ("int", "object", False),
    ("int", "'Missing'", True),
    ("'Missing'", "int", True),
    ("list[t.Any]", "list[int]", True),
    ("list[int]", "list[t.Any]", True),
    ("int", "Anything", True),
    ("list[int]", "list['Missing']", True),
    # numbers
    ("int", "int", True),
    ("float", "int", True),
    ("complex", "float", True),
    ("complex", "int", True),
    ("int", "bool", True),
    ("float", "bool", True),
    ("int", "float", False),
    ("float", "complex", False),
    ("bool", "int", False),
    ("int", "str", False),
    ("str", "int", False),
    ("float", "decimal.Decimal", False),
    ("numbers.Number", "int", True),
    ("numbers.Number", "str", False),
    ("numbers.Real", "float", True),
    ("t.SupportsFloat", "int", True),
    ("t.SupportsIndex", "float", False),
    ("bytes", "bytearray", False),
    ("str", "bytes", False),
    ("dt.date", "dt.datetime", True),
    ("dt.datetime", "dt.date", False),
    # None and unions
    ("None", "None", True),
    ("int", "None", False),
    ("None", "int", False),
    ("int", "int | None", False),
    ("int | None", "int", True),
    ("int | None", "None", True),
    ("int | None", "str", False),
    ("t.Optional[int]", "int | None", True),
    ("int | None", "t.Optional[int]", True),
    ("int | str", "str | int", True),
    ("int | str", "int | str | None", False),
    ("int | str | None", "int | None", True),
    ("t.Union[int, str]", "str", True),
    ("int", "t.Union[int, str]", False),
    ("float | str", "int | str", True),
    ("float | None", "int", True),
    ("float", "int | bool", True),
    ("int", "t.Union[int, t.Any]", True),
    ("int", "t.Union[str, t.Any]", False),
    ("int | t.Any", "str", True),
    ("list[int] | list[str]", "list[int]", True),
    ("list[int] | list[str]", "list[int | str]", False),
    ("list[int | str]", "list[int] | list[str]", False),
    ("list[int] | None", "list[str] | None", False),
    ("c.Sequence[int | str]", "list[int] | list[str]", True),
    ("c.Hashable", "None", True),
    # Annotated
    ("t.Annotated[int, 'metres']", "int", True),
    ("int", "t.Annotated[int, 'metres']", True),
    ("t.Annotated[int, 'metres']", "t.Annotated[int, 'feet']", True),
    ("t.Annotated[int, 'metres']", "t.Annotated[str, 'metres']", False),
    ("list[t.Annotated[int, 'metres']]", "list[int]", True),
    ("t.Annotated[int | None, 'metres']", "None", True),
    # Literal
    ("str", "t.Literal['a']", True),
    ("int", "t.Literal[1, 2]", True),
    ("float", "t.Literal[1]", True),
    ("int", "t.Literal['a']", False),
    ("int", "t.Literal[1, 'a']", False),
    ("int | str", "t.Literal[1, 'a']", True),
    ("t.Literal['a']", "str", False),
    ("t.Literal['a', 'b']", "t.Literal['b']", True),
    ("t.Literal['a', 'b']", "t.Literal['b', 'a']", True),
    ("t.Literal['a']", "t.Literal['a', 'b']", False),
    ("t.Literal['a', 'b'] | None", "t.Literal['a'] | None", True),
    ("t.Literal['a', None]", "None", True),
    ("t.Literal[1]", "t.Literal[True]", False),
    ("t.Literal[True, False]", "bool", True),
    ("t.Literal[True]", "bool", False),
    ("bool | None", "t.Literal[True]", True),
    ("t.Literal['a'] | int", "int", True),
    ("t.Literal['a'] | int", "str", False),
    ("c.Sequence[str]", "t.Literal['ab']", True),
    ("list[str]", "list[t.Literal['a']]", False),
    ("c.Sequence[str]", "list[t.Literal['a']]", True),
    ("t.LiteralString", "t.Literal['a']", True),
    ("t.LiteralString", "t.LiteralString", True),
    ("t.LiteralString", "str", False),
    ("t.LiteralString", "int", False),
    ("t.LiteralString", "t.Literal[1]", False),
    ("str", "t.LiteralString", True),
    ("int", "t.LiteralString", False),
    ("c.Sequence[str]", "t.LiteralString", True),
    # enum
    ("Color", "Color", True),
    ("Color", "t.Literal[Color.RED]", True),
    ("t.Literal[Color.RED]", "Color", False),
    ("t.Literal[Color.RED, Color.BLUE]", "Color", True),
    ("t.Literal[Color.RED]", "t.Literal[Color.BLUE]", False),
    ("int", "Color", False),
    ("int", "Level", True),
    ("int", "t.Literal[Level.LOW]", True),
    ("Level", "int", False),
    ("str", "Mode", True),
    ("enum.Enum", "Color", True),
    ("Color", "Level", False),
    ("c.Iterable[Color]", "type[Color]", True),
    # invariant
    ("list[int]", "list[int]", True),
    ("list[float]", "list[int]", False),
    ("list[int]", "list[bool]", False),
    ("list[object]", "list[int]", False),
    ("list[int | None]", "list[int]", False),
    ("list[int]", "list[int | None]", False),
    ("list[int | str]", "list[str | int]", True),
    ("t.List[int]", "list[int]", True),
    ("list[int]", "t.List[str]", False),
    ("list[list[int]]", "list[list[int]]", True),
    ("list[list[float]]", "list[list[int]]", False),
    ("list[c.Sequence[int]]", "list[list[int]]", False),
    ("list[Animal]", "list[Dog]", False),
    ("dict[str, int]", "dict[str, int]", True),
    ("dict[str, float]", "dict[str, int]", False),
    ("dict[object, int]", "dict[str, int]", False),
    ("dict[str, t.Any]", "dict[str, int]", True),
    ("dict[str, object]", "dict[str, int]", False),
    ("set[float]", "set[int]", False),
    ("set[int]", "set[int]", True),
    ("collections.deque[float]", "collections.deque[int]", False),
    ("collections.defaultdict[str, float]", "collections.defaultdict[str, int]", False),
    ("collections.OrderedDict[str, int]", "collections.OrderedDict[str, int]", True),
    ("c.MutableSequence[float]", "list[int]", False),
    ("c.MutableSequence[int]", "list[int]", True),
    ("c.MutableMapping[str, float]", "dict[str, int]", False),
    ("c.MutableMapping[str, int]", "dict[str, int]", True),
    ("c.MutableSet[float]", "set[int]", False),
    # unparameterised
    ("list", "list[int]", True),
    ("list[int]", "list", True),
    ("list", "list", True),
    ("t.List", "list[int]", True),
    ("list[int]", "t.List", True),
    ("dict", "dict[str, int]", True),
    ("dict[str, int]", "dict", True),
    ("tuple", "tuple[int, str]", True),
    ("tuple[int, str]", "tuple", True),
    ("tuple[int, str]", "t.Tuple", True),
    ("c.Iterable[int]", "list", True),
    ("c.Sequence", "list[int]", True),
    ("list", "dict[str, int]", False),
    ("list", "c.Sequence[int]", False),
    ("list[int]", "Bare", True),
    # covariant
    ("c.Sequence[float]", "c.Sequence[int]", True),
    ("c.Sequence[int]", "c.Sequence[float]", False),
    ("c.Sequence[int | None]", "c.Sequence[int]", True),
    ("c.Iterable[float]", "c.Iterator[int]", True),
    ("c.Iterator[float]", "c.Iterator[int]", True),
    ("c.Iterator[int]", "c.Iterable[int]", False),
    ("c.Collection[Animal]", "list[Dog]", True),
    ("c.Collection[Dog]", "list[Animal]", False),
    ("c.Container[float]", "list[int]", True),
    ("c.Reversible[float]", "list[int]", True),
    ("c.Mapping[str, float]", "c.Mapping[str, int]", True),
    ("c.Mapping[object, int]", "c.Mapping[str, int]", False),
    ("c.Mapping[str, int]", "c.Mapping[str, float]", False),
    ("frozenset[float]", "frozenset[int]", True),
    ("c.Set[float]", "frozenset[int]", True),
    ("c.Awaitable[float]", "c.Awaitable[int]", True),
    ("c.Awaitable[int]", "c.Awaitable[str]", False),
    ("c.Awaitable[float]", "c.Coroutine[t.Any, t.Any, int]", True),
    ("c.Awaitable[str]", "c.Coroutine[t.Any, t.Any, int]", False),
    ("c.AsyncIterable[float]", "c.AsyncIterator[int]", True),
    ("c.AsyncIterator[int]", "c.AsyncGenerator[int, None]", True),
    ("c.Iterator[float]", "c.Generator[int, None, None]", True),
    ("c.Iterable[str]", "c.Generator[int, None, None]", False),
    ("c.Generator[int, bool, None]", "c.Generator[int, int, None]", True),
    ("c.Generator[int, int, None]", "c.Generator[int, bool, None]", False),
    # seen as a base class
    ("c.Iterable[int]", "list[int]", True),
    ("c.Iterable[str]", "list[int]", False),
    ("c.Sequence[object]", "list[int]", True),
    ("list[int]", "c.Sequence[int]", False),
    ("list[int]", "c.Iterable[int]", False),
    ("list[int]", "tuple[int, ...]", False),
    ("c.Mapping[str, int]", "dict[str, int]", True),
    ("c.Mapping[str, float]", "dict[str, int]", True),
    ("c.Mapping[str, str]", "dict[str, int]", False),
    ("c.Iterable[str]", "dict[str, int]", True),
    ("c.Iterable[int]", "dict[str, int]", False),
    ("c.Sequence[str]", "dict[str, int]", False),
    ("dict[str, int]", "collections.defaultdict[str, int]", True),
    ("dict[str, float]", "collections.defaultdict[str, int]", False),
    ("collections.defaultdict[str, int]", "dict[str, int]", False),
    ("dict[str, int]", "collections.Counter[str]", True),
    ("c.Mapping[str, str]", "collections.Counter[str]", False),
    ("c.Mapping[str, int]", "collections.ChainMap[str, int]", True),
    ("c.Mapping[str, int]", "collections.UserDict[str, str]", False),
    ("c.Sequence[str]", "str", True),
    ("c.Iterable[str]", "str", True),
    ("c.Sequence[int]", "str", False),
    ("list[str]", "str", False),
    ("c.Sequence[int]", "bytes", True),
    ("c.Iterable[str]", "bytes", False),
    ("c.Iterable[int]", "range", True),
    ("c.Iterable[str]", "range", False),
    ("c.Iterable[tuple[int, str]]", "enumerate[str]", True),
    ("c.Iterable[tuple[int, str]]", "c.ItemsView[int, str]", True),
    ("c.Iterable[tuple[int, int]]", "c.ItemsView[int, str]", False),
    ("c.Set[object]", "c.KeysView[str]", True),
    ("c.Sequence[object]", "c.KeysView[str]", False),
    ("c.Iterable[int]", "Countdown", True),
    ("c.Iterable[str]", "Countdown", True),
    ("c.Sized", "list[int]", True),
    ("c.Sized", "int", False),
    ("c.Hashable", "int", True),
    ("c.Hashable", "Unhashable", False),
    ("c.Hashable", "list[int]", False),
    ("c.Hashable", "c.Mapping[str, int]", True),
    ("t.TextIO", "io.StringIO", True),
    ("t.IO[str]", "io.StringIO", True),
    ("t.IO[bytes]", "io.BytesIO", True),
    ("t.IO[str]", "io.BytesIO", False),
    ("t.IO[str]", "t.TextIO", True),
    ("c.Iterable[str]", "t.TextIO", True),
    ("c.Iterable[str]", "io.BytesIO", False),
    ("t.BinaryIO", "io.FileIO", True),
    ("os.PathLike[str]", "pathlib.Path", True),
    ("str", "pathlib.Path", False),
    ("str | os.PathLike[str]", "pathlib.Path", True),
    ("re.Pattern[str]", "re.Pattern[str]", True),
    ("re.Pattern[str]", "re.Pattern[bytes]", False),
    ("contextlib.AbstractContextManager[int]", "io.StringIO", True),
    ("contextlib.AbstractContextManager[object]", "io.StringIO", True),
    # tuples
    ("tuple[int, str]", "tuple[int, str]", True),
    ("tuple[float, str]", "tuple[int, str]", True),
    ("tuple[int, str]", "tuple[float, str]", False),
    ("tuple[int]", "tuple[int, int]", False),
    ("tuple[int, ...]", "tuple[int, int]", True),
    ("tuple[int, ...]", "tuple[int, str]", False),
    ("tuple[float, ...]", "tuple[int, ...]", True),
    ("tuple[int, int]", "tuple[int, ...]", False),
    ("tuple[int, int]", "tuple[t.Any, ...]", True),
    ("tuple[int, ...]", "tuple[()]", True),
    ("tuple[()]", "tuple[()]", True),
    ("tuple[()]", "tuple[int]", False),
    ("tuple[int]", "tuple[()]", False),
    ("t.Tuple[int, str]", "tuple[int, str]", True),
    ("c.Sequence[int | str]", "tuple[int, str]", True),
    ("c.Sequence[int]", "tuple[int, str]", False),
    ("c.Iterable[float]", "tuple[int, ...]", True),
    ("c.Iterable[int]", "tuple[()]", True),
    ("list[int]", "tuple[int, int]", False),
    ("tuple[int, ...]", "list[int]", False),
    ("tuple[tuple[float, float], ...]", "tuple[tuple[int, int], tuple[int, int]]", True),
    ("Pair[float]", "tuple[int, int]", True),
    ("Pair[int]", "tuple[int, str]", False),
    ("tuple[int, *tuple[str, ...]]", "tuple[int, str]", True),
    ("tuple[int, te.Unpack[tuple[str, ...]]]", "tuple[int, str]", True),
    # NamedTuple, TypedDict
    ("Point", "Point", True),
    ("tuple[int, str]", "Point", True),
    ("tuple[int, int]", "Point", False),
    ("tuple[int | str, ...]", "Point", True),
    ("c.Sequence[object]", "Point", True),
    ("c.Sequence[int]", "Point", False),
    ("Point", "tuple[int, str]", False),
    ("Movie", "Movie", True),
    ("Movie", "RatedMovie", True),
    ("RatedMovie", "Movie", False),
    ("Movie", "ExtendedMovie", True),
    ("ExtendedMovie", "Movie", True),
    ("Movie", "DraftMovie", False),
    ("DraftMovie", "Movie", False),
    ("TitledMovie", "Movie", False),
    ("Movie", "dict[str, t.Any]", False),
    ("dict[str, t.Any]", "Movie", False),
    ("c.Mapping[str, object]", "Movie", True),
    ("c.Mapping[str, t.Any]", "Movie", True),
    ("c.Mapping[str, int]", "Movie", False),
    ("c.Iterable[str]", "Movie", True),
    ("list[Movie]", "list[RatedMovie]", False),
    # classes
    ("Animal", "Dog", True),
    ("Dog", "Animal", False),
    ("Animal | None", "Dog", True),
    ("Box[int]", "Box[int]", True),
    ("Box[float]", "Box[int]", False),
    ("Box[int]", "Box", True),
    ("Box", "Box[int]", True),
    ("Box[int]", "IntBox", True),
    ("Box[str]", "IntBox", False),
    ("Box[int]", "NamedBox[int]", True),
    ("Box[str]", "NamedBox[int]", False),
    ("NamedBox[int]", "Box[int]", False),
    ("Box[list[int]]", "Box[list[int]]", True),
    ("dict[str, int]", "Swapped[int, str]", True),
    ("dict[int, str]", "Swapped[int, str]", False),
    ("Source[float]", "Source[int]", True),
    ("Source[int]", "Source[float]", False),
    ("Sink[int]", "Sink[float]", True),
    ("Sink[float]", "Sink[int]", False),
    ("list[dict[str, int]]", "Rows", True),
    ("c.Iterable[c.Mapping[str, float]]", "Rows", True),
    ("c.Iterable[dict[str, str]]", "Rows", False),
    ("c.Iterable[str]", "Words", True),
    ("c.Iterable[int]", "Words", False),
    ("Tagged", "Tagged", True),
    ("Tagged", "Animal", False),
    ("Model[int]", "Model[int]", True),
    ("Model[str]", "Model[int]", False),
    ("Model[int]", "Model", True),
    ("Model[int]", "IntModel", True),
    ("Model[str]", "IntModel", False),
    ("pydantic.BaseModel", "Model[int]", True),
    # Protocol
    ("Named", "Animal", True),
    ("Named", "Dog", True),
    ("Named", "Tagged", True),
    ("Named", "int", False),
    ("Named", "None", False),
    ("Named | None", "None", True),
    ("ExtendedNamed", "Animal", True),
    ("ExtendedNamed", "int", False),
    ("Closable", "io.StringIO", True),
    ("Closable", "int", False),
    ("Closable", "type[Animal]", False),
    ("Closable", "Lazy", True),
    ("c.Sized", "Lazy", False),
    ("ClosableNamed", "io.FileIO", True),
    ("ClosableNamed", "Animal", False),
    ("Named", "ClosableNamed", True),
    ("Animal", "Named", False),
    ("Scores", "Scorer", True),
    ("Scores", "Animal", False),
    ("Scores", "c.Callable[[int], float]", True),
    ("Gets[int]", "GetsInt", True),
    ("Gets[str]", "GetsInt", False),
    ("Gets[str]", "dict[str, str]", True),
    ("Gets[str]", "list[str]", False),
    # Callable
    ("c.Callable[[int], float]", "c.Callable[[int], float]", True),
    ("c.Callable[[int], float]", "c.Callable[[int], int]", True),
    ("c.Callable[[int], int]", "c.Callable[[int], float]", False),
    ("c.Callable[[int], int]", "c.Callable[[float], int]", True),
    ("c.Callable[[float], int]", "c.Callable[[int], int]", False),
    ("c.Callable[[int], int]", "c.Callable[[int, int], int]", False),
    ("c.Callable[[], None]", "c.Callable[[], int]", False),
    ("c.Callable[..., int]", "c.Callable[[int, str], int]", True),
    ("c.Callable[[int], int]", "c.Callable[..., int]", True),
    ("c.Callable[..., int]", "c.Callable[..., str]", False),
    ("c.Callable", "c.Callable[[int], int]", True),
    ("t.Callable", "t.Callable[[int], int]", True),
    ("t.Callable[[int], int]", "c.Callable", True),
    ("c.Callable[[int], float]", "Scorer", True),
    ("c.Callable[[int], float]", "Scores", True),
    ("c.Callable[[int], str]", "Scorer", False),
    ("c.Callable[[int], c.Awaitable[float]]", "AsyncScorer", True),
    ("c.Callable[[int], float]", "AsyncScorer", False),
    ("c.Callable[[int], int]", "int", False),
    ("c.Callable[..., Animal]", "type[Dog]", True),
    ("c.Callable[..., Dog]", "type[Animal]", False),
    ("c.Callable[..., t.Any]", "type", True),
    ("int", "c.Callable[[], int]", False),
    ("object", "c.Callable[[], int]", True),
    ("c.Hashable", "c.Callable[[], int]", True),
    ("c.Callable[te.Concatenate[int, P], int]", "c.Callable[[int, str], int]", True),
    ("c.Callable[P, int]", "c.Callable[[int], str]", False),
    # type
    ("type[Animal]", "type[Dog]", True),
    ("type[Dog]", "type[Animal]", False),
    ("type", "type[Dog]", True),
    ("type[Dog]", "type", True),
    ("t.Type[Animal]", "type[Dog]", True),
    ("type[Animal]", "Animal", False),
    ("Animal", "type[Animal]", False),
    ("type[int | str]", "type[int]", True),
    ("type[t.Any]", "type[int]", True),
    ("Meta", "type[WithMeta]", True),
    ("Meta", "type[Animal]", False),
    ("type", "Meta", True),
    ("c.Hashable", "type[Animal]", True),
    # NewType
    ("int", "UserId", True),
    ("float", "UserId", True),
    ("UserId", "int", False),
    ("UserId", "UserId", True),
    ("UserId", "AdminId", True),
    ("AdminId", "UserId", False),
    ("int", "AdminId", True),
    ("str", "UserId", False),
    ("UserId | None", "UserId", True),
    ("UserId", "t.Literal[1]", False),
    ("list[int]", "list[UserId]", False),
    ("c.Sequence[int]", "list[UserId]", True),
    # type variables and their like
    ("T", "int", True),
    ("int", "T", True),
    ("list[T]", "list[int]", True),
    ("list[int]", "list[T]", True),
    ("Real", "int", True),
    ("Real", "str", False),
    ("int", "Real", True),
    ("str", "Real", False),
    ("list[Real]", "list[int]", True),
    ("list[Real]", "list[str]", False),
    ("Scalar", "int", True),
    ("Scalar", "bytes", False),
    ("bytes", "Scalar", False),
    ("t.AnyStr", "str", True),
    ("t.AnyStr", "int", False),
    ("int", "t.Self", True),
    ("t.Self", "int", True),
    ("P", "int", True),
    ("tuple[te.Unpack[Ts]]", "tuple[int, str]", True),
    ("Alias[int]", "list[int]", True),
    ("Alias[int]", "list[str]", False),
    ("list[str]", "Alias[str]", True),
    ("Alias", "list[int]", True),
    ("Same[int]", "bool", True),
    ("Same[int]", "str", False),
    ("Json", "Json", True),
    ("Json", "int", True),
    ("Json", "float", False),
    # Never
    ("int", "t.Never", True),
    ("int", "t.NoReturn", True),
    ("t.Never", "int", False),
    ("t.NoReturn", "t.Never", True),
    ("list[int]", "list[t.Never]", False),
    ("c.Sequence[int]", "list[t.Never]", True),
    # numpy, pandas
    ("np.ndarray", "npt.NDArray[np.float64]", True),
    ("npt.NDArray[np.float64]", "np.ndarray", True),
    ("npt.NDArray[np.float64]", "npt.NDArray[np.float64]", True),
    ("npt.NDArray[np.float64]", "npt.NDArray[np.int64]", False),
    ("npt.NDArray[np.floating]", "npt.NDArray[np.float64]", True),
    ("npt.NDArray[np.float64]", "npt.NDArray[np.floating]", False),
    ("npt.NDArray[np.generic]", "npt.NDArray[np.str_]", True),
    ("npt.NDArray[np.float64]", "list[float]", False),
    ("list[float]", "npt.NDArray[np.float64]", False),
    ("c.Sequence[float]", "npt.NDArray[np.float64]", False),
    ("c.Iterable[float]", "npt.NDArray[np.float64]", True),
    ("npt.ArrayLike", "npt.NDArray[np.float64]", True),
    ("npt.ArrayLike", "list[float]", True),
    ("npt.ArrayLike", "float", True),
    ("npt.ArrayLike", "tuple[int, ...]", True),
    ("float", "np.float64", True),
    ("float", "np.float32", False),
    ("int", "np.int64", False),
    ("np.floating[t.Any]", "np.float64", True),
    ("np.integer[t.Any]", "np.float64", False),
    ("np.dtype[np.float64]", "np.dtype[np.int64]", False),
    ("pd.DataFrame", "pd.DataFrame", True),
    ("pd.DataFrame", "pd.Series", False),
    ("pd.Series", "pd.DataFrame", False),
    ("pd.Index", "pd.DatetimeIndex", True),
    ("pd.DataFrame | None", "pd.DataFrame", True),
    ("pd.DataFrame", "pd.DataFrame | None", False),
]


def resolve(source):
    """Turn the spelling into what typing.get_type_hints would give."""
    return t.ForwardRef("Missing") if source == "'Missing'" else eval(source)  # noqa: S307 - our own


ANNOTATIONS = {source: resolve(source) for row in TABLE for source in row[:2]}
every_annotation = pytest.mark.parametrize("annotation", ANNOTATIONS.values(), ids=ANNOTATIONS)


@pytest.mark.parametrize(("consumer", "producer", "expected"), TABLE)
def test_annotations_agree_as_a_type_checker_says(consumer, producer, expected):
    assert accepts(resolve(consumer), resolve(producer)) is expected


# What mypy does not take as the type of a variable: an unknown name, an unbound type variable.
NO_SOURCE = {
    ("int", "'Missing'"),
    ("'Missing'", "int"),
    ("list[int]", "list['Missing']"),
    ("T", "int"),
    ("list[T]", "list[int]"),
    ("Real", "int"),
    ("Real", "str"),
    ("list[Real]", "list[int]"),
    ("list[Real]", "list[str]"),
    ("Scalar", "int"),
    ("Scalar", "bytes"),
    ("t.AnyStr", "str"),
    ("t.AnyStr", "int"),
    ("int", "t.Self"),
    ("t.Self", "int"),
    ("P", "int"),
    ("tuple[te.Unpack[Ts]]", "tuple[int, str]"),
}

# Where the table does not follow mypy, and why.
DEPARTURES = {
    # registered subclasses count, typeshed does not know them
    ("numbers.Number", "int"),
    ("numbers.Real", "float"),
    # the typing specification, and pyright, refuse; mypy reads LiteralString as str
    ("t.LiteralString", "str"),
    # protocols are compared by the names of their members alone, also those of the standard library
    ("c.Iterable[str]", "Countdown"),
    ("contextlib.AbstractContextManager[int]", "io.StringIO"),
    ("Scores", "c.Callable[[int], float]"),
    ("Gets[str]", "dict[str, str]"),
    # __getattr__ is not asked for dunder methods, mypy thinks it is
    ("c.Sized", "Lazy"),
    # classes can be hashed; mypy looks at __hash__ of their instances
    ("c.Hashable", "type[Animal]"),
    # what a type variable will stand for is open until its function is called
    ("int", "T"),
    ("list[int]", "list[T]"),
    ("int", "Real"),
    ("c.Callable[te.Concatenate[int, P], int]", "c.Callable[[int, str], int]"),
    # pandas comes without types: all of it is Any to mypy
    ("pd.DataFrame", "pd.Series"),
    ("pd.Series", "pd.DataFrame"),
    ("pd.DataFrame", "pd.DataFrame | None"),
}


@pytest.fixture(scope="module")
def verdicts_of_mypy(tmp_path_factory):
    """The error codes that mypy has for each row, written as an assignment on a line of its own."""
    folder = tmp_path_factory.mktemp("mypy")
    rows = (f"def row(value: {given}) -> None: _: {taken} = value" for taken, given, _ in TABLE)
    (folder / "rows.py").write_text("\n".join(["from test_typing import *", *rows]))
    options = ["--config-file=", "--cache-dir=cache", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *options, "--disable-error-code=no-redef", "rows.py"]
    paths = os.environ | {"MYPYPATH": str(pathlib.Path(__file__).parent)}
    done = subprocess.run(
        command, cwd=folder, env=paths, capture_output=True, text=True, timeout=600, check=False
    )
    codes = collections.defaultdict(set)
    for line, code in re.findall(
        r"^rows.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE
    ):
        codes[int(line)].add(code)
    assert codes, done.stdout + done.stderr
    return {row[:2]: codes[line] for line, row in enumerate(TABLE, start=2)}


def test_the_table_agrees_with_mypy_wherever_mypy_can_read_it(verdicts_of_mypy):
    found = {
        (consumer, producer)
        for consumer, producer, expected in TABLE
        if (consumer, producer) not in NO_SOURCE
        and expected is bool(verdicts_of_mypy[consumer, producer])
    }
    assert found == DEPARTURES


def test_mypy_can_read_all_rows_but_those_listed(verdicts_of_mypy):
    assert {row for row, codes in verdicts_of_mypy.items() if codes - {"assignment"}} == NO_SOURCE


def test_no_row_is_said_twice():
    assert len({row[:2] for row in TABLE}) == len(TABLE)


@every_annotation
def test_an_annotation_agrees_with_itself_with_any_and_with_object(annotation):
    assert accepts(annotation, annotation)
    assert accepts(annotation, t.Any)
    assert accepts(t.Any, annotation)
    assert accepts(object, annotation)


@every_annotation
def test_no_annotation_of_the_table_needs_the_guard_against_errors(annotation):
    for producer in ANNOTATIONS.values():
        assert _typing._agrees(annotation, producer) in {True, False}


class Hostile(type):
    def __subclasscheck__(cls, other):
        raise RuntimeError

    def __eq__(cls, other):
        raise RuntimeError

    __hash__ = type.__hash__


class Guarded(metaclass=Hostile): ...


UNKNOWN = [
    inspect.Parameter.empty,
    5,
    ...,
    [],
    {},
    t.Optional,
    t.ClassVar,
    len,
    np.zeros(2),
    Guarded,
]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=repr)
def test_what_is_not_known_agrees_and_never_raises(unknown):
    assert accepts(unknown, int)
    assert accepts(list[unknown] if callable(unknown) else unknown, list[int])
    assert accepts(unknown, unknown)


def test_the_producer_may_be_unknown_too():
    assert accepts(int, 5)
    assert accepts(int, ...)
    assert accepts(Guarded, int)


@pytest.mark.parametrize(
    "qualifier", [t.ClassVar, t.Final, t.Required, te.NotRequired, te.ReadOnly]
)
def test_qualifiers_say_nothing_about_the_type(qualifier):
    assert accepts(qualifier[int], int)
    assert not accepts(qualifier[int], str)
    assert not accepts(int, qualifier[str])


def test_an_annotation_too_deep_to_follow_agrees():
    def nest(inner):
        return functools.reduce(lambda each, _: list[each], range(2000), inner)

    assert accepts(nest(int), nest(str))


def test_the_arguments_of_a_parameter_with_inferred_variance_may_differ_either_way():
    inferred = te.TypeVar("inferred", infer_variance=True)

    class Holder(t.Generic[inferred]): ...

    assert accepts(Holder[float], Holder[int])
    assert accepts(Holder[int], Holder[float])
    assert not accepts(Holder[int], Holder[str])


def test_a_typed_dictionary_with_unresolvable_values_is_compared_by_its_keys():
    class First(t.TypedDict):
        a: "Missing"  # noqa: F821

    class Second(First):
        b: int

    assert accepts(First, Second)
    assert not accepts(Second, First)


def test_a_plain_named_tuple_has_items_of_any_type():
    span = collections.namedtuple("span", "start stop")  # noqa: PYI024 - the one without types
    assert accepts(tuple[int, str], span)
    assert not accepts(tuple[int], span)


def test_a_type_checking_import_leaves_the_other_annotations_alone():
    def producer() -> "list[int]": ...
    def consumer(x: "Missing", y: int): ...  # noqa: F821

    assert accepts(parameter_types(consumer)["x"], return_type(producer))
    assert not accepts(parameter_types(consumer)["y"], return_type(producer))


# Several values


@pytest.mark.parametrize(
    ("annotation", "count", "expected"),
    [
        (tuple[int, str], 2, (int, str)),
        (t.Annotated[tuple[int, str], "pair"], 2, (int, str)),
        (tuple[int, ...], 3, (int, int, int)),
        (tuple[int], 1, (int,)),
        (tuple[int, str], 3, (t.Any, t.Any, t.Any)),
        (tuple, 2, (t.Any, t.Any)),
        (tuple[()], 1, (t.Any,)),
        (Point, 2, (int, str)),
        (Pair[int], 2, (int, int)),
        (list[int], 2, (int, int)),
        (Rows, 2, (dict[str, int], dict[str, int])),
        (c.Sequence[int], 2, (int, int)),
        (list, 2, (t.Any, t.Any)),
        (Bare, 2, (t.Any, t.Any)),
        (str, 2, (t.Any, t.Any)),
        (bytes, 2, (t.Any, t.Any)),
        (int, 2, (t.Any, t.Any)),
        (dict[str, int], 2, (t.Any, t.Any)),
        (None, 2, (t.Any, t.Any)),
        (t.Any, 2, (t.Any, t.Any)),
        (tuple[int, str] | None, 2, (t.Any, t.Any)),
        ("Missing", 2, (t.Any, t.Any)),
        (5, 2, (t.Any, t.Any)),
        (Guarded, 2, (t.Any, t.Any)),
    ],
)
def test_a_type_is_split_into_those_of_its_values(annotation, count, expected):
    assert split(annotation, count) == expected


@every_annotation
def test_no_spelling_shows_how_python_prints_objects(annotation):
    assert not re.search("<|>|~|typing|class ", describe(annotation))


# The module


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(_typing).failed == 0


def test_the_module_imports_nothing_but_the_standard_library():
    load = "import sys; sys.path.append(sys.argv[1]); import hypernodes._typing as _; "
    load += "print(*sys.modules)"
    source = str(pathlib.Path(_typing.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", load, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= sys.stdlib_module_names | {"__main__", "hypernodes"}
    assert loaded.isdisjoint({"asyncio", "dataclasses", "logging", "unittest"})
