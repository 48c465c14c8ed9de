"""What is not the user's own counts by its name and version, what is made of it by content."""

import collections
import dataclasses
import enum
import functools
import json
import random
import statistics
import types

import numpy as np
import pydantic

from hypernodes.cache import _origin
from hypernodes.cache._code import describe_code, hash_code


def test_the_distribution_may_have_another_name_than_the_package():
    assert _origin._package_version("dateutil")
    assert _origin._package_version("numpy") == np.__version__
    assert _origin._package_version("json") == ""


def test_what_belongs_to_the_library_itself_is_not_read():
    used = describe_code(hash_code)

    assert used == describe_code(hash_code)
    assert _origin.foreign_name(hash_code) is not None


FOREIGN = [
    len,
    max,
    str.upper,
    "a".upper,
    json.dumps,
    json.JSONDecoder,
    statistics.mean,
    np.add,
    np.mean,
    np.linalg.norm,
    random.Random,
    dict.fromkeys,
    int,
    collections.OrderedDict,
    functools.reduce,
    [].append,
    [1].append,
    print,
]


def test_things_of_libraries_are_told_apart_by_name():
    assert len({hash_code(each) for each in FOREIGN}) == len(FOREIGN)
    assert all(describe_code(each).by_type == () for each in FOREIGN)


def test_classes_made_by_factories_count_by_content():
    made = [
        dataclasses.make_dataclass("A", [("x", int, 1)]),
        dataclasses.make_dataclass("A", [("x", int, 2)]),
        pydantic.create_model("A", x=(int, 1)),
        pydantic.create_model("A", x=(int, 2)),
        collections.namedtuple("A", "x", defaults=[1]),  # noqa: PYI024
        collections.namedtuple("A", "x", defaults=[2]),  # noqa: PYI024
        collections.namedtuple("A", "y", defaults=[2]),  # noqa: PYI024
        enum.Enum("A", {"x": 1}),
        enum.Enum("A", {"x": 2}),
        type("A", (), {"x": 1}),
        type("A", (), {"x": 2}),
        types.new_class("A"),
    ]

    assert len({hash_code(each) for each in made}) == len(made)
