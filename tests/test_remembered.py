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


def recursive():
    def fall(n):
        return fall(n - 1) if n else 0

    return fall


def mutual():
    def even(n):
        return not n or odd(n - 1)

    def odd(n):
        return bool(n) and even(n - 1)

    return even


def executed():
    space = {"__name__": "__main__"}
    exec("def f(n):\n    return f(n - 1) if n else 0", space)  # noqa: S102
    return space["f"]


@pytest.mark.parametrize("make", [lambda: closing_over(1), recursive, mutual, executed])
def test_nothing_is_kept_alive(make):
    memory = CodeMemory()
    gone = weakref.ref(function := make())
    for _ in range(2):
        memory.describe(function, CodeSnapshot())
    del function
    gc.collect()
    assert gone() is None


def test_not_everything_is_remembered_for_ever(monkeypatch, counted):
    monkeypatch.setattr(_remembered, "_MOST", 2)
    memory = CodeMemory()
    functions = [closing_over(value) for value in range(3)]
    for function in functions:
        memory.describe(function, CodeSnapshot())
    for function in (functions[2], functions[0]):
        memory.describe(function, CodeSnapshot())
    assert counted == [*functions, functions[0]]


def test_a_helper_that_is_gone_is_seen():
    space = {"__name__": "__main__"}
    exec("def h(): pass\ndef f():\n    return h", space)  # noqa: S102
    memory = CodeMemory()
    before = memory.describe(space["f"], CodeSnapshot())
    space["h"] = None
    gc.collect()
    assert memory.describe(space["f"], CodeSnapshot()) != before


def test_an_object_that_cannot_be_watched_is_read_each_time(counted):
    class Call:
        __slots__ = ()

        def __call__(self):
            return 1

    memory, call = CodeMemory(), Call()
    for _ in range(2):
        memory.describe(call, CodeSnapshot())
    assert counted == [call, call]
