"""What functions hash to is remembered as long as everything that counts stays what it was."""

import functools
import gc
import types
import weakref

import pytest

from hypernodes.cache import _remembered
from hypernodes.cache._code import CodeSnapshot, describe_code
from hypernodes.cache._remembered import CodeMemory

NUMBER = 1
LISTED = [1]


class Kind:
    size = 1


def helper(x):
    return x + NUMBER


def deep(x):
    return helper(x)


def using_list(x):
    return x in LISTED


def using_class(x):
    return Kind.size + x


def using_builtin(x):
    return len(x)


@pytest.fixture
def counted(monkeypatch):
    """Count how often code is read."""
    reads = []
    original = CodeSnapshot.describe

    def describe(self, function):
        reads.append(function)
        return original(self, function)

    monkeypatch.setattr(CodeSnapshot, "describe", describe)
    return reads


def closing_over(value):
    return lambda x: (x, value)


CASES = {
    "plain": lambda x: x,
    "global": helper,
    "helper": deep,
    "list": using_list,
    "class": using_class,
    "builtin": using_builtin,
    "closure": closing_over(3),
    "closure over a list": closing_over([3]),
    "partial": functools.partial(helper, 1),
    "wrapped": functools.wraps(helper)(lambda x: helper(x)),  # noqa: PLW0108
    "bound builtin": [].append,
    "from C": len,
    "keyword default": lambda x, *, k=1: (x, k),
}


@pytest.mark.parametrize("function", CASES.values(), ids=CASES)
def test_it_says_what_reading_says(function):
    memory = CodeMemory()
    for _ in range(3):
        assert memory.describe(function, CodeSnapshot()) == describe_code(function)


@pytest.mark.parametrize("name", ["plain", "global", "helper", "builtin", "closure"])
def test_most_functions_are_read_once(name, counted):
    memory = CodeMemory()
    for _ in range(3):
        memory.describe(CASES[name], CodeSnapshot())
    assert len(counted) == 1


@pytest.mark.parametrize(
    ("function", "change"),
    [
        (deep, lambda patch: patch.setitem(globals(), "NUMBER", 2)),
        (deep, lambda patch: patch.setitem(globals(), "helper", lambda x: x)),
        (using_builtin, lambda patch: patch.setitem(globals(), "len", lambda x: 3)),
        (using_list, lambda _: LISTED.append(2)),
        (using_class, lambda patch: patch.setattr(Kind, "size", 2)),
        (deep, lambda patch: patch.setattr(helper, "__code__", (lambda x: x).__code__)),
        (deep, lambda patch: patch.setattr(helper, "__defaults__", (1,))),
        (deep, lambda patch: patch.setattr(helper, "__kwdefaults__", {"x": 1})),
        (deep, lambda patch: patch.setattr(helper, "weight", 1, raising=False)),
    ],
)
def test_what_is_rebound_or_mutated_is_seen(function, change, monkeypatch):
    memory = CodeMemory()
    before = memory.describe(function, CodeSnapshot())
    change(monkeypatch)
    after = memory.describe(function, CodeSnapshot())
    assert after == describe_code(function)
    assert after != before
    monkeypatch.undo()
    LISTED[:] = [1]
    assert memory.describe(function, CodeSnapshot()) == before


def test_a_closure_whose_content_changes_is_seen():
    cell = types.CellType(1)
    function = types.FunctionType(closing_over(1).__code__, globals(), closure=(cell,))
    memory = CodeMemory()
    seen = set()
    for value in (1, 2, [1]):
        cell.cell_contents = value
        seen.add(memory.describe(function, CodeSnapshot()))
    del cell.cell_contents
    seen.add(memory.describe(function, CodeSnapshot()))
    assert len(seen) == 4


def test_not_everything_is_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(_remembered, "_MOST", 2)
    memory = CodeMemory()
    gone = weakref.ref(function := closing_over(1))
    memory.describe(function, CodeSnapshot())
    del function
    for value in (2, 3):
        memory.describe(closing_over(value), CodeSnapshot())
    gc.collect()
    assert gone() is None
