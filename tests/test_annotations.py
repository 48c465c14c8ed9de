"""How annotations are read off functions, and how they are spelled."""

# ruff: noqa: UP006, UP007, UP045 - the older spellings of types are tested as well

import collections.abc as c
import dataclasses
import decimal
import doctest
import enum
import functools
import types
import typing as t

import numpy as np
import pandas as pd
import pydantic
import pytest
import typing_extensions as te

from hypernodes import _annotations
from hypernodes._annotations import describe, parameter_types, return_type

T = t.TypeVar("T")
UserId = t.NewType("UserId", int)
Alias = te.TypeAliasType("Alias", list[T], type_params=(T,))


class Animal: ...


class Box(t.Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


class Point(t.NamedTuple):
    x: int
    label: str


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Tagged:
    name: str
    size: "int" = 0


class Model(pydantic.BaseModel, t.Generic[T]):
    value: T


class IntModel(Model[int]): ...


# Reading functions


def plain(x: int, y: "str" = "", *, z=None) -> "list[int]":
    return [x]


def half_known(x: "Missing", y: "list[Missing]", z: int) -> float:  # noqa: F821
    return 0.0


def lost(x: int) -> "Missing":  # noqa: F821
    return x


def silent(x):
    return x


def nothing(x: "int | None") -> None: ...


def annotated(x: t.Annotated[int, "metres"]) -> t.Annotated[int, "feet"]:
    return x


async def awaited(x: int) -> str:
    return ""


def generated(x: int) -> t.Iterator[int]:
    yield x


async def streamed(x: int) -> t.AsyncIterator[int]:
    yield x


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Service:
    def __init__(self, url: "str", retries: int = 0) -> None: ...

    def fetch(self, key: "str") -> "bytes":
        return b""

    @classmethod
    def default(cls, url: str) -> t.Self:
        return cls(url)

    @staticmethod
    def parse(raw: bytes) -> "dict[str, int]":
        return {}

    def __call__(self, x: "int") -> "float":
        return 0.0


class Plain: ...


@dataclasses.dataclass
class Job(Tagged):
    owner: "Animal | None" = None
    secret: dataclasses.InitVar["str"] = ""


FUNCTIONS = [
    (plain, {"x": int, "y": str, "z": t.Any}, list[int]),
    (half_known, {"x": t.Any, "y": t.Any, "z": int}, float),
    (lost, {"x": int}, t.Any),
    (silent, {"x": t.Any}, t.Any),
    (nothing, {"x": int | None}, types.NoneType),
    (annotated, {"x": t.Annotated[int, "metres"]}, t.Annotated[int, "feet"]),
    (lambda x, y: x, {"x": t.Any, "y": t.Any}, t.Any),
    (awaited, {"x": int}, str),
    (generated, {"x": int}, t.Iterator[int]),
    (streamed, {"x": int}, t.AsyncIterator[int]),
    (logged(plain), {"x": int, "y": str, "z": t.Any}, list[int]),
    (logged(logged(awaited)), {"x": int}, str),
    (functools.lru_cache(plain), {"x": int, "y": str, "z": t.Any}, list[int]),
    (functools.partial(plain, 1), {"y": str, "z": t.Any}, list[int]),
    (functools.partial(plain, y="a"), {"x": int, "y": str, "z": t.Any}, list[int]),
    (functools.partial(logged(plain), 1), {"y": str, "z": t.Any}, list[int]),
    (functools.partial(Service, "here"), {"retries": int}, Service),
    (functools.partial(Service("here").fetch, "a"), {}, bytes),
    (Service, {"url": str, "retries": int}, Service),
    (Service("here"), {"x": int}, float),
    (Service("here").fetch, {"key": str}, bytes),
    (Service.fetch, {"self": t.Any, "key": str}, bytes),
    (Service.default, {"url": str}, t.Self),
    (Service.parse, {"raw": bytes}, dict[str, int]),
    (logged(Service("here").fetch), {"key": str}, bytes),
    (Plain, {}, Plain),
    (Job, {"name": str, "size": int, "owner": Animal | None, "secret": str}, Job),
    (Point, {"x": int, "label": str}, Point),
    (IntModel, {"value": int}, IntModel),
    (Box[int], {"item": T}, Box[int]),
    (len, {"obj": t.Any}, t.Any),
    (max, {}, t.Any),
    (print, {"args": t.Any, "sep": t.Any, "end": t.Any, "file": t.Any, "flush": t.Any}, t.Any),
]


@pytest.mark.parametrize(("function", "parameters", "returned"), FUNCTIONS)
def test_types_are_read_off_any_callable(function, parameters, returned):
    assert parameter_types(function) == parameters
    assert list(parameter_types(function)) == list(parameters)
    assert return_type(function) == returned


def test_what_is_no_callable_has_no_types():
    assert parameter_types(5) == {}
    assert return_type(5) is t.Any


def test_inherited_fields_are_resolved_in_the_module_of_their_class(tmp_path, monkeypatch):
    lines = ["import dataclasses", "from decimal import Decimal as Money", "@dataclasses.dataclass"]
    (tmp_path / "priced.py").write_text("\n".join([*lines, "class Priced: price: 'Money'"]))
    monkeypatch.syspath_prepend(tmp_path)
    priced = __import__("priced").Priced
    article = dataclasses.make_dataclass("Article", [("title", "str")], bases=(priced,))
    assert parameter_types(article) == {"price": decimal.Decimal, "title": str}


# Spelling


@pytest.mark.parametrize(
    ("annotation", "spelling"),
    [
        (int, "int"),
        (None, "None"),
        (types.NoneType, "None"),
        (t.Any, "Any"),
        (int | None, "int | None"),
        (t.Optional[int], "int | None"),
        (t.Union[int, list[str]], "int | list[str]"),
        (list[int], "list[int]"),
        (t.List[int], "list[int]"),
        (t.List, "list"),
        (t.Tuple, "tuple"),
        (dict[str, list[int]], "dict[str, list[int]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (tuple[int, *tuple[str, ...]], "tuple[int, *tuple[str, ...]]"),
        (c.Iterable[int], "Iterable[int]"),
        (c.Callable[[int, str], None], "Callable[[int, str], None]"),
        (c.Callable[[], int], "Callable[[], int]"),
        (c.Callable[..., int], "Callable[..., int]"),
        (t.Callable, "Callable"),
        (t.Literal["a", 1], "Literal['a', 1]"),
        (t.Literal[Color.RED], "Literal[Color.RED]"),
        (t.Annotated[int | None, "metres"], "int | None"),
        (type[Animal], "type[Animal]"),
        (Box[int], "Box[int]"),
        (Model[int], "Model[int]"),
        (UserId, "UserId"),
        (T, "T"),
        (list[T], "list[T]"),
        (Alias[int], "Alias[int]"),
        (t.Never, "Never"),
        (t.Self, "Self"),
        (t.ForwardRef("Missing"), "Missing"),
        (list[t.ForwardRef("Missing")], "list[Missing]"),
        ("Missing", "Missing"),
        (np.ndarray[tuple[int], np.dtype[np.float64]], "ndarray[tuple[int], dtype[float64]]"),
        (pd.DataFrame, "DataFrame"),
        (len, "len"),
        (5, "5"),
    ],
)
def test_an_annotation_is_spelled_as_in_source(annotation, spelling):
    assert describe(annotation) == spelling


def test_a_class_from_inside_a_function_is_spelled_by_its_name():
    class Local: ...

    assert describe(list[Local]) == "list[Local]"


# The module


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(_annotations).failed == 0
