"""Code that is not the same in worker processes as in the driver: never a wrong value is kept."""

import importlib
import sys
import textwrap
import threading
import warnings

import pytest

from hypernodes import (
    MISS,
    Cache,
    CacheSpec,
    CacheStats,
    CacheWarning,
    Pipeline,
    RuntimeConfig,
    node,
)
from hypernodes.cache import MemoryCache
from hypernodes.executors import ProcessPoolExecutor

SIZES = (1, 2)


class Module:
    """A module of the user's, in a file."""

    def __init__(self, folder, name):
        self.path = folder / f"{name}.py"
        self.name = name

    def write(self, source):
        self.path.write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()

    def load(self):
        module = sys.modules.get(self.name)
        return importlib.import_module(self.name) if module is None else importlib.reload(module)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Module(tmp_path, f"users_code_{tmp_path.name.replace('-', '_')}")
    yield made
    sys.modules.pop(made.name, None)


@pytest.fixture(params=SIZES, ids="workers={}".format)
def executor(request):
    with ProcessPoolExecutor(max_workers=request.param) as opened:
        yield opened


@pytest.fixture(params=["disk", "memory"])
def cache(request, tmp_path):
    place = tmp_path / "kept"
    return MemoryCache() if request.param == "memory" else CacheSpec(kind="disk", path=place)


def run(function, cache, executor="sequential", mapped=False):
    pipeline = Pipeline([node("y")(function)])
    config = RuntimeConfig(cache=cache, executor=executor)
    if mapped:
        return [row["y"] for row in pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config)]
    return pipeline.run({"x": 1}, config=config)["y"]


FIRST = "def f(x):\n    return x + 10\n"
SECOND = "def f(x):\n    return x + 20\n"


@pytest.mark.parametrize("mapped", [False, True])
def test_after_a_reload_workers_run_the_new_code(module, executor, cache, mapped):
    module.write(FIRST)
    expected = [11, 12, 13] if mapped else 11
    assert run(module.load().f, cache, executor, mapped) == expected

    module.write(SECOND)
    expected = [21, 22, 23] if mapped else 21
    assert run(module.load().f, cache, executor, mapped) == expected
    assert run(module.load().f, cache, mapped=mapped) == expected


def test_after_a_reload_of_a_helper_workers_run_the_new_code(module, executor, cache):
    module.write(FIRST)
    helper = module.load()

    def by_value(x):
        return helper.f(x)

    assert run(by_value, cache, executor) == 11
    module.write(SECOND)
    module.load()
    assert run(by_value, cache, executor) == 21
    assert run(by_value, cache) == 21


@pytest.mark.parametrize("mapped", [False, True])
def test_what_was_edited_and_not_reloaded_is_not_kept(module, executor, cache, mapped):
    module.write(FIRST)
    old = module.load().f
    module.write(SECOND)

    with pytest.warns(CacheWarning, match=f"{module.name}.f: not the same") as told:
        run(old, cache, executor, mapped)
    assert len(told) == 1
    assert run(old, cache, mapped=mapped) == ([11, 12, 13] if mapped else 11)


def test_nothing_is_kept_of_values_that_were_changed_here_only(module, executor, cache):
    module.write("LIMIT = 1\n\ndef f(x):\n    return x + LIMIT\n")
    loaded = module.load()
    loaded.LIMIT = 5

    with pytest.warns(CacheWarning, match="pass it in as an input"):
        run(loaded.f, cache, executor)
    assert run(loaded.f, cache) == 6


def test_what_follows_in_the_same_run_is_not_kept_either(module, executor, cache):
    module.write(FIRST)
    old = module.load().f
    module.write(SECOND)
    here = RuntimeConfig(executor="sequential")
    pipeline = Pipeline([node("y")(old), node("z", config=here)(lambda y: y * 100)])

    with pytest.warns(CacheWarning):
        pipeline.run({"x": 1}, config=RuntimeConfig(cache=cache, executor=executor))
    assert pipeline.run({"x": 1}, config=RuntimeConfig(cache=cache)) == {"y": 11, "z": 1100}


HIDDEN = """
    class Scale:
        def __init__(self):
            self._factor = 1

        def __call__(self, x):
            return x * self._factor

    scale = Scale()

    def f(x):
        return scale(x)
"""


def test_nothing_is_kept_of_hidden_attributes_that_were_changed_here_only(module, executor, cache):
    module.write(HIDDEN)
    loaded = module.load()
    loaded.scale._factor = 5

    with pytest.warns(CacheWarning, match="pass it in as an input"):
        run(loaded.f, cache, executor)
    assert run(loaded.f, cache) == 5


LAZY = """
    import threading

    handle = None
    calls = {}

    def f(x):
        global handle
        if handle is None:
            handle = threading.Lock()
        return x + 10

    def g(x):
        return f(x) + 1

    class Client:
        def __init__(self):
            self._connection = None

        def ask(self, x):
            if self._connection is None:
                self._connection = threading.Lock()
            return x + 12

    client = Client()

    def h(x):
        return client.ask(x)
"""


def test_what_workers_make_when_first_needed_is_no_other_code(module, executor, cache):
    module.write(LAZY)
    loaded = module.load()

    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        assert run(loaded.f, cache, executor) == 11
        assert run(loaded.g, cache, executor) == 12
        assert run(loaded.h, cache, executor) == 13
        assert loaded.f(1) == 11  # now it is there in this process too
        assert loaded.h(1) == 13
        assert run(loaded.h, cache, executor, mapped=True) == [13, 14, 15]
        assert run(loaded.f, cache, executor, mapped=True) == [11, 12, 13]


SCRIPT = """
import enum, functools, logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypedDict, TypeVar
import pydantic
from hypernodes import CacheSpec, Pipeline, RuntimeConfig, node
from hypernodes.cache import DiskCache
from hypernodes.executors import ProcessPoolExecutor

T = TypeVar("T")
log = logging.getLogger("mine")

class Colour(enum.Enum):
    RED = 1

@dataclass
class Point:
    x: int = 0
    tags: list[str] = field(default_factory=list)
    def norm(self): return abs(self.x)

class Model(pydantic.BaseModel):
    a: int = 1
    @pydantic.field_validator("a")
    @classmethod
    def check(cls, value): return value

class Pair(NamedTuple):
    a: int
    b: int = 2

class Row(TypedDict):
    a: int

class Shape(ABC, Generic[T]):
    sides = 4
    @abstractmethod
    def area(self): ...
    @property
    def name(self): return "shape"
    @staticmethod
    def unit(): return 1

class Square(Shape[int]):
    def __init__(self, a): self.a = a
    def area(self): return self.a ** 2 * super().unit()

def scaled(factor):
    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **kwargs): return function(*args, **kwargs) * factor
        return inner
    return decorate

@scaled(2)
def helper(x, *, by=functools.partial(pow, 2)): return by(x)

def recursive(n): return n if n < 1 else recursive(n - 1)

def everything(x):
    log.info("x")
    row: Row = {"a": x}
    return (helper(x) + Square(x).area() + Point(x).norm() + Model(a=x).a + Pair(x).b + row["a"]
            + Colour.RED.value + recursive(x) + len(Square(x).name))

if __name__ == "__main__":
    calls = [everything, lambda x: everything(x) + 1]
    for made in calls:
        pipeline = Pipeline([node("y")(made)])
        with ProcessPoolExecutor(max_workers=2) as executor:
            config = RuntimeConfig(cache=CacheSpec(kind="disk", path="kept"), executor=executor)
            for _ in range(2):
                pipeline.map({"x": [1, 2, 3]}, map_over="x", config=config)
                pipeline.run({"x": 7}, config=config)
    assert DiskCache("kept").stats().items == 8, DiskCache("kept").stats()
"""


def test_code_of_scripts_is_the_same_in_workers(run_script):
    run_script(SCRIPT)


def test_warnings_of_workers_come_once_to_the_driver(executor, tmp_path):
    spec = CacheSpec(kind="disk", path=tmp_path / "file" / "kept")
    (tmp_path / "file").write_text("no directory")

    with pytest.warns(CacheWarning) as told:
        assert run(lambda x: x + 1, spec, executor, mapped=True) == [2, 3, 4]
    assert len(told) == 1
    assert str(tmp_path) in str(told[0].message)


def test_each_node_whose_values_cannot_be_pickled_warns_once(executor, tmp_path):
    pipeline = Pipeline([node("y")(lambda x: (n for n in (x,))), node("z")(lambda y: [*y])])
    spec = CacheSpec(kind="disk", path=tmp_path / "kept")
    config = RuntimeConfig(cache=spec, executor=executor)

    with pytest.warns(CacheWarning, match="is not kept") as told:
        found = pipeline.map({"x": range(40)}, map_over="x", output_name="z", config=config)
    assert [row["z"] for row in found] == [[n] for n in range(40)]
    assert len(told) == 1


CLASSES = """
import enum, pathlib
from dataclasses import dataclass
from hypernodes import Pipeline, RuntimeConfig, node
from hypernodes.cache import DiskCache
from hypernodes.executors import ProcessPoolExecutor

class Colour(enum.Enum):
    RED = 1

@dataclass
class Point:
    x: int
    colour: Colour = Colour.RED

def make(x):
    with open("calls", "a") as file:
        file.write("made ")
    return Point(x)

def moved(point):
    return Point(point.x + 1, point.colour)

if __name__ == "__main__":
    pipeline = Pipeline([node("point")(make), node("end")(moved)])
    with ProcessPoolExecutor(max_workers=1) as executor:
        config = RuntimeConfig(cache=DiskCache("kept"), executor=executor)
        for _ in range(2):
            found = pipeline.map({"x": [1, 2]}, map_over="x", config=config, output_name="end")
            assert [row["end"] for row in found] == [Point(2), Point(3)]
            assert pipeline.run({"x": 7}, config=config)["end"] == Point(8)
    here = RuntimeConfig(cache=DiskCache("kept"), executor="sequential")
    assert pipeline.run({"x": 7}, config=here)["end"] == Point(8)
    assert pathlib.Path("calls").read_text() == "made made made "
"""


def test_instances_of_classes_of_scripts_are_kept_by_workers(run_script):
    run_script(CLASSES)


@pytest.mark.parametrize("name", ["thread", "async"])
def test_equal_items_that_cannot_be_kept_run_beside_one_another(name):
    company = threading.Event()
    running = []

    def look_around(x):
        running.append(x)
        if len(running) > 1:
            company.set()
        company.wait(0.5)  # those that lead have none
        running.pop()
        return (n for n in (x,))

    pipeline = Pipeline([node("y")(look_around)])
    config = RuntimeConfig(cache=MemoryCache(), executor=name)
    with pytest.warns(CacheWarning, match="is not kept"):
        found = pipeline.map({"x": [1] * 6}, map_over="x", config=config)
    assert [[*row["y"]] for row in found] == [[1]] * 6
    assert company.is_set()


class Table(Cache):
    """A cache of somebody's own, in this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kept = {}

    def get(self, signature):
        return self.kept.get(signature, MISS)

    def put(self, signature, value):
        self.kept[signature] = value

    def has(self, signature):
        return signature in self.kept

    def delete(self, signature):
        self.kept.pop(signature, None)

    def clear(self):
        self.kept.clear()

    def stats(self):
        return CacheStats(0, 0, len(self.kept), 0)


def test_a_live_cache_of_ones_own_works_with_workers(executor):
    cache = Table()
    config = RuntimeConfig(cache=cache, executor=executor)
    inner = Pipeline([node("z")(lambda y: -y)]).as_node(map_over="y")
    pipeline = Pipeline([node("y")(lambda x: [x, x + 1]), inner])
    for _ in range(2):
        assert pipeline.run({"x": 1}, config=config)["z"] == [-1, -2]
        found = pipeline.map({"x": [1, 2]}, map_over="x", config=config, output_name="z")
        assert found == [{"z": [-1, -2]}, {"z": [-2, -3]}]
    assert len(cache.kept) == 7
