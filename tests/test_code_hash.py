"""Code hashes by its source, and by all of the user's code and constants that it uses."""

import abc
import functools
import gc
import importlib
import json
import linecache
import logging
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import typing
from concurrent import futures

import pytest

from hypernodes.cache import _names, _origin, _source, _uses
from hypernodes.cache._code import CodeHash, CodeSnapshot, describe_code, hash_code


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes modules, imports them anew and returns the first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written = set()

    def write_modules(**sources):
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
            written.add(name.replace("__", "."))
        for name in list(sys.modules):
            if name.partition(".")[0] in {each.partition(".")[0] for each in written}:
                del sys.modules[name]
        linecache.clearcache()
        importlib.invalidate_caches()
        return importlib.import_module(next(iter(sources)).replace("__", "."))

    yield write_modules
    for name in list(sys.modules):
        if name.partition(".")[0] in {each.partition(".")[0] for each in written}:
            del sys.modules[name]


@pytest.fixture
def hash_of(write):
    """Return a function that hashes `f` of a module with the given source."""
    return lambda source, **others: hash_code(write(main_part=source, **others).f)


def run_code(source):
    """Return the variables after running `source`, of which no file has the text."""
    namespace = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<no file>", "exec"), namespace)  # noqa: S102
    return namespace


def bytecode_hash(source):
    return hash_code(run_code(source)["f"])


BASE = """
def f(x, y=1):
    total = x + y
    return [total, 'a']
"""

SAME = {
    "comments": """
# A comment.
def f(x, y=1):  # Another one.
    # And more.
    total = x + y
    return [total, 'a']
""",
    "formatting": """
def f(
    x,
    y = 1
):
    total = (x
             + y)
    return [
        total, "a",
    ]
""",
    "docstring": '''
def f(x, y=1):
    """What it does."""
    total = x + y
    return [total, 'a']
''',
    "moved lines": "\n\nZ = 1\n\n\ndef g():\n    pass\n\n" + BASE,
    "indentation": """
if True:
    def f(x, y=1):
        total = x + y
        return [total, 'a']
""",
    "a decorator that returns the function": """
def mark(**options):
    return lambda function: function

@mark(output_name="a", retries=3)
def f(x, y=1):
    total = x + y
    return [total, 'a']
""",
}

DIFFERENT = {
    "an operator": BASE.replace("x + y", "x - y"),
    "a constant": BASE.replace("'a'", "'b'"),
    "the type of a constant": BASE.replace("'a'", "b'a'"),
    "a default": BASE.replace("y=1", "y=2"),
    "the type of a default": BASE.replace("y=1", "y=True"),
    "no default": BASE.replace("y=1", "y"),
    "a parameter": BASE.replace("(x, y=1)", "(x, y=1, z=2)"),
    "the kind of a parameter": BASE.replace("(x, y=1)", "(x, *, y=1)"),
    "the order of statements": BASE.replace("return", "x = 0; return"),
    "a coroutine": BASE.replace("def f", "async def f"),
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME.keys())
def test_what_changes_nothing_does_not_count(hash_of, source):
    assert hash_of(source) == hash_of(BASE)


@pytest.mark.parametrize("source", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_changes_something_counts(hash_of, source):
    assert hash_of(source) != hash_of(BASE)


@pytest.mark.parametrize("source", SAME.values(), ids=SAME.keys())
def test_what_changes_nothing_does_not_count_without_a_file(source):
    assert bytecode_hash(source) == bytecode_hash(BASE)


@pytest.mark.parametrize("source", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_changes_something_counts_without_a_file(source):
    assert bytecode_hash(source) != bytecode_hash(BASE)


def test_a_docstring_that_the_body_uses_too_counts_without_a_file():
    source = "def f():\n    'one'\n    return 'one'"

    assert bytecode_hash(source) != bytecode_hash(source.replace("one", "two"))


def test_docstrings_and_comments_inside_the_body_do_not_count(hash_of):
    bare = """
    def f(x):
        class Inner:
            def run(self):
                return x
        def inner():
            return Inner().run()
        return inner
    """
    full = """
    def f(x):
        '''One.'''
        class Inner:
            def run(self):
                '''Three.'''
                return x
        def inner():
            '''Four.'''
            return Inner().run()  # Five.
        return inner
    """

    assert hash_of(bare) == hash_of(full)


DOCUMENTED = {
    "a class": 'class A:\n    """{}"""\ndef f(x):\n    return A',
    "a class inside": 'def f(x):\n    class A:\n        """{}"""\n    return A',
    "a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
        '    """{}"""\n    y: int = 1\ndef f(x):\n    return A'
    ),
    "a model": (
        'import pydantic\nclass A(pydantic.BaseModel):\n    """{}"""\n'
        "def f(x):\n    return A.model_json_schema()"
    ),
    "a function's, looked at": 'def g():\n    """{}"""\ndef f(x):\n    return g.__doc__',
    "its own, looked at": 'def f(x):\n    """{}"""\n    return f.__doc__',
    "that of a function inside": (
        'def f(x):\n    def g():\n        """{}"""\n    return g.__doc__'
    ),
    "a method's": (
        'class A:\n    def m(self):\n        """{}"""\ndef f(x):\n    return A.m.__doc__'
    ),
    "a global function's, looked at by another": (
        'def g():\n    """{}"""\ndef doc(what):\n    return what.__doc__\n'
        "def f(x):\n    return doc(g)"
    ),
    "by name": 'def g():\n    """{}"""\ndef f(x):\n    return getattr(g, "__doc__")',
    "by inspect": (
        'import inspect\ndef g():\n    """{}"""\ndef f(x):\n    return inspect.getdoc(g)'
    ),
    "by inspect, imported inside": (
        'def g():\n    """{}"""\ndef f(x):\n    from inspect import getdoc as d\n    return d(g)'
    ),
    "one that was assigned": "def g(): pass\ng.__doc__ = '{}'\ndef f(x):\n    return g.__doc__",
    "what an annotation of a class names": (
        "import typing\nT = typing.Literal['{}']\nclass A:\n    a: 'T'\n"
        "def f(x):\n    return typing.get_type_hints(A)"
    ),
    "a module's": "import helpers\nm = [helpers]\ndef f(x):\n    return m[0].__doc__",
}


@pytest.mark.parametrize("source", DOCUMENTED.values(), ids=DOCUMENTED.keys())
def test_docstrings_and_annotations_count_that_somebody_looks_at(hash_of, source):
    def hashed(text):
        return hash_of(source.format(text), helpers=f'"""{text}"""')

    one, again, two = hashed("one"), hashed("one"), hashed("two")

    assert one == again
    assert one != two


def test_a_docstring_that_dataclasses_make_does_not_count(write):
    source = """
    import dataclasses
    @dataclasses.dataclass
    class A:
        x: object = object
        y: frozenset = frozenset("abc")
    def f():
        return A
    """
    module = write(made=source)
    before = hash_code(module.f)
    module.A.__doc__ = None

    assert hash_code(module.f) == before


def test_annotations_count_as_they_are_written(hash_of):
    assert hash_of("def f(x: int): return x") != hash_of("def f(x: float): return x")


@pytest.mark.parametrize("head", ["", "from __future__ import annotations\n"])
def test_the_source_is_found_whatever_the_function_looks_like(write, head):
    module = write(
        varied=head
        + textwrap.dedent("""
        import json
        import numpy as np
        from functools import wraps

        class Base:
            def run(self): return 1

        class C(Base):
            __slots__ = ("__x",)
            def private(self): return self.__x + json.dumps(1)
            def up(self): return super().run() + np.mean(1)
            @property
            def prop(self): return __class__
            @classmethod
            def make(cls): return [cls for _ in range(3) if cls]
            def outer(self):
                def inner(): return self.__x
                return inner

        def closure(a, b):
            c = 3
            def inner(x=a, *args, k: int = b, **more):
                nonlocal c
                class D:
                    z = c
                    def m(self): return a + b
                return [lambda y: y + i for i in x] + [D]
            return inner

        def generator(): yield 1
        async def coroutine(): return [x async for x in generator()]
        def decorated(f):
            @wraps(f)
            def wrapper(*args): return f(*args)
            return wrapper

        @decorated
        @decorated
        def twice(x): return x

        pair = (lambda x: x + 1, lambda x: x + 2)
        nested = (lambda a: lambda b: a + b)(1)
        in_comprehension = [lambda: i for i in range(2)]
        """)
    )
    functions = [
        module.C.private,
        module.C.up,
        module.C.prop.fget,
        module.C.make.__func__,
        module.C.outer,
        module.C.outer(module.C()),
        module.closure,
        module.closure(1, 2),
        module.closure([1], 2)()[0],
        module.closure([1], 2)()[1].m,
        module.generator,
        module.coroutine,
        module.twice,
        module.twice.__wrapped__.__wrapped__,
        *module.pair,
        module.nested,
        *module.in_comprehension,
    ]

    assert [each for each in functions if _source.find_source(each.__code__) is None] == []


# --- Lambdas --------------------------------------------------------------------------------------


def test_lambdas_in_one_line_are_told_apart(write):
    module = write(
        several="fs = [lambda x: x + 1, lambda x: x + 2, lambda x: x + 1, lambda y: y + 1]"
    )

    first, second, third, fourth = map(hash_code, module.fs)

    assert first == third
    assert len({first, second, fourth}) == 3


def test_a_lambda_does_not_depend_on_its_neighbours(write):
    alone = write(alone="f = lambda x: x + 1").f
    crowd = write(crowd="f, g = lambda x: x + 1, lambda x: x + 2").f

    assert hash_code(alone) == hash_code(crowd)


# --- Files that change ----------------------------------------------------------------------------


def test_a_file_edited_after_the_import_does_not_count_for_the_old_function(write, tmp_path):
    module = write(stale="def f(x):\n    return x + 1\n")
    path = tmp_path / "stale.py"
    old = module.f
    path.write_text("def f(x):\n    return x + 2\n")
    os.utime(path, (1, 1))

    new = write(fresh="def f(x):\n    return x + 2\n").f

    assert hash_code(old) != hash_code(new)


def test_a_function_keeps_its_hash_when_its_file_changes(write, tmp_path):
    module = write(kept="def f(x):\n    return x + 1\n")
    before = hash_code(module.f)
    (tmp_path / "kept.py").write_text("def f(x):\n    return x + 2\n")
    os.utime(tmp_path / "kept.py", (1, 1))

    assert hash_code(module.f) == before


def test_a_function_is_found_in_a_file_whose_lines_moved(write, tmp_path):
    source = "def f(x):\n    return x + 1\n"
    module = write(shifted=source)
    (tmp_path / "shifted.py").write_text("# A comment.\n\n\n" + source)
    os.utime(tmp_path / "shifted.py", (1, 1))

    assert _source.find_source(module.f.__code__) is not None
    assert hash_code(module.f) == hash_code(write(unmoved=source).f)


def test_an_edited_and_reloaded_module_is_noticed(write):
    before = hash_code(write(edited="def f(x):\n    return x + 1\n").f)
    after = hash_code(write(edited="def f(x):\n    return x + 2\n").f)

    assert before != after


def test_equal_bytecode_with_other_annotations_is_not_mixed_up(write):
    first = hash_code(write(noted="def f(x: int): return x").f)
    second = hash_code(write(noted="def f(x: str): return x").f)

    assert first != second


def test_a_function_of_a_shell_has_a_hash():
    shell = run_code("K = 1\ndef g(x):\n    return x + K\ndef f(x):\n    return g(x)")
    before = hash_code(shell["f"])
    shell["K"] = 2

    assert hash_code(shell["f"]) != before


def test_a_redefined_helper_of_a_shell_is_noticed():
    shell = run_code("def g(x):\n    return x + 1\ndef f(x):\n    return g(x)")
    before = hash_code(shell["f"])
    exec("def g(x):\n    return x + 2", shell)  # noqa: S102

    assert hash_code(shell["f"]) != before


# --- What it uses ---------------------------------------------------------------------------------

USES = {
    "global constant": ("K = {}", "return K"),
    "global list": ("K = [{}]", "return K"),
    "helper": ("def g():\n    return {}", "return g()"),
    "helper of a helper": ("def h():\n    return {}\ndef g():\n    return h()", "return g()"),
    "default of a helper": ("def g(x={}):\n    return x", "return g()"),
    "keyword default of a helper": ("def g(*, x={}):\n    return x", "return g()"),
    "lambda": ("g = lambda: {}", "return g()"),
    "helper in a list": ("def h():\n    return {}\ngs = [h]", "return gs[0]()"),
    "helper in a set": ("def h():\n    return {}\ngs = {{h, len}}", "return gs"),
    "helper as a key": ("def h():\n    return {}\ngs = {{h: 1}}", "return gs"),
    "use in a nested function": ("K = {}", "return (lambda: K)"),
    "use in a comprehension": ("K = {}", "return [K for _ in range(3)]"),
    "use in a nested class": ("K = {}", "class A:\n        k = K\n    return A"),
    "method": ("class A:\n    def m(self):\n        return {}", "return A().m()"),
    "static method": ("class A:\n    @staticmethod\n    def m():\n        return {}", "return A"),
    "class method": ("class A:\n    @classmethod\n    def m(cls):\n        return {}", "return A"),
    "property": ("class A:\n    @property\n    def p(self):\n        return {}", "return A().p"),
    "cached property": (
        (
            "import functools\nclass A:\n    @functools.cached_property\n    def p(self):\n"
            "        return {}"
        ),
        "return A().p",
    ),
    "class attribute": ("class A:\n    k = {}", "return A.k"),
    "hidden class attribute": ("class A:\n    _k = {}", "return A()"),
    "base class": (
        "class B:\n    def m(self):\n        return {}\nclass A(B):\n    pass",
        "return A().m()",
    ),
    "metaclass": (
        "class M(type):\n    def m(cls):\n        return {}\nclass A(metaclass=M):\n    pass",
        "return A.m()",
    ),
    "nested class": ("class A:\n    class B:\n        k = {}", "return A.B"),
    "helper of a method": (
        "def h():\n    return {}\nclass A:\n    def m(self):\n        return h()",
        "return A().m()",
    ),
    "instance": (
        "class A:\n    def __init__(self, k):\n        self.k = k\na = A({})",
        "return a.k",
    ),
    "bound method": (
        (
            "class A:\n    def __init__(self, k):\n        self.k = k\n    def m(self):\n"
            "        return self.k\nm = A({}).m"
        ),
        "return m()",
    ),
    "partial": (
        "import functools\ndef h(x):\n    return x\ng = functools.partial(h, {})",
        "return g()",
    ),
    "cached function": (
        "import functools\n@functools.lru_cache\ndef g():\n    return {}",
        "return g()",
    ),
    "wrapped function": (
        (
            "import functools\ndef wrap(f):\n    @functools.wraps(f)\n    def inner():\n"
            "        return f()\n    return inner\n@wrap\ndef g():\n    return {}"
        ),
        "return g()",
    ),
    "wrapper": (
        (
            "import functools\ndef wrap(f):\n    @functools.wraps(f)\n    def inner():\n"
            "        return f(), {}\n    return inner\n@wrap\ndef g():\n    return 0"
        ),
        "return g()",
    ),
    "argument of a decorator": (
        "def wrap(k):\n    return lambda f: lambda: f() + k\n@wrap({})\ndef g():\n    return 0",
        "return g()",
    ),
    "function wrapped by the standard library": (
        "import contextlib\n@contextlib.contextmanager\ndef g():\n    yield {}",
        "return g()",
    ),
    "implementation of a generic function": (
        (
            "import functools\n@functools.singledispatch\ndef g(x):\n    return 0\n"
            "@g.register(int)\n"
            "def _(x):\n    return {}"
        ),
        "return g(1)",
    ),
    "function wrapped by a package": (
        "import tenacity\n@tenacity.retry\ndef g():\n    return {}",
        "return g()",
    ),
    "enum": ("import enum\nclass E(enum.Enum):\n    A = {}", "return E.A"),
    "method of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 0\n    def m(self):\n        return {}",
        "return E.A.m()",
    ),
    "default of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = {}",
        "return A()",
    ),
    "default factory of a dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
            "    x: int = dataclasses.field(default_factory=lambda: {})"
        ),
        "return A()",
    ),
    "method of a dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n"
            "    def __post_init__(self):\n        self.x = {}"
        ),
        "return A()",
    ),
    "option of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass(frozen=bool({} - 1))\nclass A:\n    x: int = 0",
        "return A()",
    ),
    "default of a named tuple": (
        "import typing\nclass A(typing.NamedTuple):\n    x: int = {}",
        "return A()",
    ),
    "default of a model": (
        "import pydantic\nclass A(pydantic.BaseModel):\n    x: int = {}",
        "return A()",
    ),
    "bound of a model": (
        "import pydantic\nclass A(pydantic.BaseModel):\n    x: int = pydantic.Field(3, gt={})",
        "return A()",
    ),
    "validator of a model": (
        (
            "import pydantic\nclass A(pydantic.BaseModel):\n    x: int = 3\n"
            "    @pydantic.field_validator('x')\n    @classmethod\n    def check(cls, x):\n"
            "        return x + {}"
        ),
        "return A()",
    ),
    "function as an attribute of a function": ("def g():\n    pass\ng.k = {}", "return g.k"),
    "hidden attribute of a function": ("def g():\n    pass\ng._k = {}", "return g._k"),
    "hidden attribute of an object": (
        (
            "class A:\n    def __init__(self, k):\n        self._k = k\n"
            "    def get(self):\n        return self._k\na = A({})"
        ),
        "return a.get()",
    ),
    "hidden slot of an object": (
        (
            "class A:\n    __slots__ = ('_k',)\n    def __init__(self, k):\n        self._k = k\n"
            "a = A({})"
        ),
        "return a._k",
    ),
    "function that a decorating class hides": (
        (
            "class Memo:\n    def __init__(self, function):\n        self._function = function\n"
            "    def __call__(self):\n        return self._function()\n"
            "@Memo\ndef g():\n    return {}"
        ),
        "return g()",
    ),
    "function that a decorating class wraps": (
        (
            "import functools\nclass Memo:\n    def __init__(self, function):\n"
            "        functools.update_wrapper(self, function)\n"
            "    def __call__(self):\n        return self.__wrapped__()\n"
            "@Memo\ndef g():\n    return {}"
        ),
        "return g()",
    ),
    "private attribute of a model": (
        ("import pydantic\nclass A(pydantic.BaseModel):\n    _k: int = 0\na = A()\na._k = {}"),
        "return a._k",
    ),
    "special method that is cached": (
        (
            "import functools\nclass A:\n    @functools.lru_cache\n"
            "    def __call__(self):\n        return {}\na = A()"
        ),
        "return a()",
    ),
    "special method behind a descriptor": (
        (
            "import functools\nclass Bound:\n"
            "    def __init__(self, function):\n        self.function = function\n"
            "    def __get__(self, one, cls=None):\n"
            "        return functools.partial(self.function, one)\n"
            "class A:\n    @Bound\n    def __getitem__(self, key):\n        return {}\na = A()"
        ),
        "return a[0]",
    ),
    "special method that is partial": (
        (
            "import functools\nclass A:\n    def get(self, k, key):\n        return k\n"
            "    __getitem__ = functools.partialmethod(get, {})\na = A()"
        ),
        "return a[0]",
    ),
    "metadata of a field": (
        (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n"
            "    x: int = dataclasses.field(default=1, metadata=dict(k={}))"
        ),
        "import dataclasses; return dataclasses.fields(A)",
    ),
    "order of members": (
        (
            "import enum\nnames = ('ab', 'ba')[{} - 1]\n"
            "E = enum.Enum('E', [(name, ord(name)) for name in names])"
        ),
        "return list(E)",
    ),
    "attribute of a member": (
        "import enum\nclass E(enum.Enum):\n    A = 0\nE.A.k = {}",
        "return E.A.k",
    ),
    "hidden attribute of a member": (
        "import enum\nclass E(enum.Enum):\n    A = 0\nE.A._k = {}",
        "return E.A._k",
    ),
    "attribute of a partial": (
        "import functools\ng = functools.partial(print)\ng.k = {}",
        "return g.k",
    ),
    "attribute of a cached function": (
        "import functools\n@functools.lru_cache\ndef g():\n    pass\ng.k = {}",
        "return g.k",
    ),
    "docstring of a property": (
        "class A:\n    x = property(lambda self: 1, doc=str({}))",
        "return A.x.__doc__",
    ),
    "name in a text": ("K = {}", "return globals()['K']"),
    "name in an expression": ("K = {}", "return eval('1 + K')"),
    "behind a weak reference": (
        "import weakref\ndef g():\n    return {}\nr = weakref.ref(g)",
        "return r()()",
    ),
    "in a weak dict": (
        ("import weakref\ndef g():\n    return {}\nd = weakref.WeakValueDictionary()\nd['g'] = g"),
        "return d['g']()",
    ),
    "attribute of a date of one's own": (
        "import datetime\nclass D(datetime.datetime):\n    pass\nd = D(2020, 1, 1)\nd.k = {}",
        "return d.k",
    ),
    "slot of a number of one's own": (
        ("import decimal\nclass D(decimal.Decimal):\n    __slots__ = ('_k',)\nd = D(1)\nd._k = {}"),
        "return d._k",
    ),
    "hidden field of a frozen dataclass": (
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass A:\n    _k: int\n"
            "a = A({})"
        ),
        "return a._k",
    ),
    "annotation that is looked at": (
        "import typing\nT = typing.Literal[{}]\ndef g(a: T): pass",
        "return typing.get_type_hints(g)",
    ),
    "annotation in quotes that is looked at": (
        "import typing\nT = typing.Literal[{}]\ndef g(a: 'list[T]'): pass",
        "return typing.get_type_hints(g)",
    ),
    "stateful node": (
        (
            "class N:\n    __hypernodes_function__ = 'func'\n    def __init__(self, func):\n"
            "        self.func = func\n@N\ndef g():\n    return {}"
        ),
        "return g",
    ),
}


@pytest.mark.parametrize(("before", "body"), USES.values(), ids=USES.keys())
def test_what_it_uses_counts(hash_of, before, body):
    source = f"{before}\ndef f():\n    {body}\n"
    one, again, two = (hash_of(source.format(number)) for number in (1, 1, 2))

    assert one == again
    assert one != two


@pytest.mark.parametrize(("before", "body"), USES.values(), ids=USES.keys())
def test_what_it_uses_counts_without_a_file(before, body):
    source = f"{before}\ndef f():\n    {body}\n"
    one, again, two = (bytecode_hash(source.format(number)) for number in (1, 1, 2))

    assert one == again
    assert one != two


@pytest.mark.parametrize(("before", "body"), USES.values(), ids=USES.keys())
def test_nothing_ordinary_counts_by_its_type_only(write, before, body):
    module = write(ordinary=f"{before}\ndef f():\n    {body}\n".format(1))

    assert describe_code(module.f).by_type == ()


def test_what_it_does_not_use_does_not_count(hash_of):
    source = "K = {}\ndef g():\n    return {}\ndef f(x):\n    return x.K + x.g"

    assert hash_of(source.format(1, 2)) == hash_of(source.format(3, 4))


def test_a_local_name_hides_a_global_one(hash_of):
    source = "K = {}\ndef f():\n    K = 1\n    return (lambda: K)"

    assert hash_of(source.format(1)) == hash_of(source.format(2))


def test_a_builtin_that_is_hidden_by_a_global_is_noticed(hash_of):
    source = "def f(x):\n    return len(x)"

    assert hash_of(source) != hash_of("def len(x):\n    return 0\n" + source)


def test_rebound_globals_are_noticed(write):
    module = write(rebound="K = 1\ndef g():\n    return 1\ndef f():\n    return g() + K")
    hashes = [hash_code(module.f)]
    module.K = 2
    hashes.append(hash_code(module.f))
    module.g = lambda x=2: x
    hashes.append(hash_code(module.f))
    module.g.__defaults__ = (1,)
    hashes.append(hash_code(module.f))
    del module.K
    hashes.append(hash_code(module.f))

    assert len(set(hashes)) == 5


def test_mutated_globals_are_noticed(write):
    module = write(mutated="K = {'a': [1]}\nclass A:\n    k = 1\ndef f():\n    return K, A")
    hashes = [hash_code(module.f)]
    module.K["a"].append(2)
    hashes.append(hash_code(module.f))
    module.A.k = 2
    hashes.append(hash_code(module.f))
    module.A.m = lambda self: 1
    hashes.append(hash_code(module.f))

    assert len(set(hashes)) == 4


def test_closure_values_count_as_they_are_now():
    def make(step, helper):
        def add(x):
            return helper(x) + step

        def move(new):
            nonlocal step
            step = new

        return add, move

    add, move = make(1, abs)
    before = hash_code(add)
    assert hash_code(make(1, abs)[0]) == before
    assert hash_code(make(2, abs)[0]) != before
    assert hash_code(make(1, round)[0]) != before
    move(2)

    assert hash_code(add) == hash_code(make(2, abs)[0])


def test_a_closure_variable_that_is_not_assigned_yet_is_no_problem():
    def make():
        def f():
            return later

        hashed = hash_code(f)
        later = 1
        return hashed, hash_code(f)

    before, after = make()

    assert before != after


# --- Modules of the user's own --------------------------------------------------------------------

HELPERS = "def g(x):\n    return x + {}\ndef unused():\n    return 0\nK = 1\n"

IMPORTS = {
    "import": "import helpers\ndef f(x):\n    return helpers.g(x)",
    "import as": "import helpers as h\ndef f(x):\n    return h.g(x)",
    "from import": "from helpers import g\ndef f(x):\n    return g(x)",
    "import inside": "def f(x):\n    import helpers\n    return helpers.g(x)",
    "import as inside": "def f(x):\n    import helpers as h\n    return h.g(x)",
    "from import inside": "def f(x):\n    from helpers import g\n    return g(x)",
    "from import as inside": "def f(x):\n    from helpers import K, g as h\n    return h(x), K",
    "import inside, used deeper": (
        "def f(x):\n    import helpers\n    def inner():\n        return helpers.g(x)\n"
        "    return inner()"
    ),
    "import inside a nested function": (
        "def f(x):\n    def inner():\n        from helpers import g\n        return g(x)\n"
        "    return inner()"
    ),
    "import inside, of two modules": (
        "def f(x):\n    import json, helpers\n    y = 1\n    return helpers.g(x) + y"
    ),
    "the module under another name": (
        "import helpers\ndef f(x):\n    h = helpers\n    return h.g(x)"
    ),
    "the module in a dict": "import helpers\nm = {'h': helpers}\ndef f(x):\n    return m['h'].g(x)",
    "one of two in functions inside": (
        "def f(x):\n    def one():\n        from helpers import g\n        return g(x)\n"
        "    def two():\n        from others import g\n        return g(x)\n"
        "    return one(), two()"
    ),
    "the module in sys.modules": "import sys\ndef f(x):\n    return sys.modules['helpers'].g(x)",
    "one of two under one name": (
        "def f(x):\n    if x:\n        from helpers import g\n    else:\n"
        "        from others import g\n    return g(x)"
    ),
    "the preferred of two": (
        "def f(x):\n    try:\n        from helpers import g\n    except ImportError:\n"
        "        from others import g\n    return g(x)"
    ),
    "the module by import_module": (
        "import importlib\ndef f(x):\n    return importlib.import_module('helpers').g(x)"
    ),
    "the module by __import__": "def f(x):\n    return __import__('helpers').g(x)",
    "from an enclosing function": (
        "def make():\n    import helpers\n    def f(x):\n        return helpers.g(x)\n"
        "    return f\nf = make()"
    ),
}


@pytest.mark.parametrize("source", IMPORTS.values(), ids=IMPORTS.keys())
def test_an_edited_module_is_noticed(hash_of, source):
    one, again, two = (
        hash_of(source, helpers=HELPERS.format(number), others=HELPERS.format(3))
        for number in (1, 1, 2)
    )

    assert one == again
    assert one != two


PRECISE = [name for name in IMPORTS if not name.startswith("the module")]


@pytest.mark.parametrize("name", PRECISE)
def test_what_is_not_used_of_a_module_does_not_count(hash_of, name):
    helpers = HELPERS.format(1)

    one = hash_of(IMPORTS[name], helpers=helpers)
    other = hash_of(IMPORTS[name], helpers=helpers.replace("return 0", "return 5"))

    assert one == other


def test_an_import_inside_counts_the_same_before_and_after_the_first_call(write):
    module = write(
        late="def f(x):\n    import json, helpers\n    return helpers.g(x), json.dumps(x)",
        helpers=HELPERS.format(1),
    )
    before = hash_code(module.f)
    module.f(1)

    assert hash_code(module.f) == before


PACKAGES = {
    "import a.b": "import pack.part\ndef f(x):\n    return pack.part.g(x)",
    "import a.b as c": "import pack.part as p\ndef f(x):\n    return p.g(x)",
    "import a.b inside": "def f(x):\n    import pack.part\n    return pack.part.g(x)",
    "import a.b as c inside": "def f(x):\n    import pack.part as p\n    return p.g(x)",
    "from a.b import inside": "def f(x):\n    from pack.part import g\n    return g(x)",
    "from a import b inside": "def f(x):\n    from pack import part\n    return part.g(x)",
    "import two parts inside": (
        "def f(x):\n    import pack.part\n    import pack.relative\n"
        "    return pack.part.g(x), pack.relative.f(x)"
    ),
    "by import_module": (
        "from importlib import import_module\ndef f(x):\n    return import_module('pack.part').g(x)"
    ),
    "relative": "from pack.relative import f",
}


@pytest.mark.parametrize("source", PACKAGES.values(), ids=PACKAGES.keys())
def test_an_edited_part_of_a_package_is_noticed(hash_of, source):
    def hashed(number):
        return hash_of(
            source,
            pack____init__="",
            pack__part=HELPERS.format(number),
            pack__relative="def f(x):\n    from . import part\n    from .part import g as h\n"
            "    return part.K + h(x)",
        )

    one, again, two = hashed(1), hashed(1), hashed(2)

    assert one == again
    assert one != two


def test_each_of_several_parts_of_a_package_counts(hash_of):
    source = "def f(x):\n    import pack.a\n    import pack.b\n    return pack.a.g(x) + pack.b.g(x)"

    def hashed(a, b):
        parts = {"pack__a": HELPERS.format(a), "pack__b": HELPERS.format(b)}
        return hash_of(source, pack____init__="", **parts)

    assert hashed(1, 1) == hashed(1, 1)
    assert len({hashed(1, 1), hashed(2, 1), hashed(1, 2)}) == 3


def test_a_part_that_others_import_counts_before_and_after(write):
    source = "import pack\ndef f(x):\n    return pack.part.g(x)"

    def hashed(number):
        module = write(main_part=source, pack____init__="", pack__part=HELPERS.format(number))
        before = hash_code(module.f)
        importlib.import_module("pack.part")
        assert hash_code(module.f) == before
        return before

    assert hashed(1) == hashed(1)
    assert hashed(1) != hashed(2)


def test_a_module_named_like_one_of_python_s_is_the_user_s(hash_of, write):
    source = "def f(x):\n    from turtledemo import g\n    return g(x)"
    one, two = (hash_of(source, turtledemo=HELPERS.format(number)) for number in (1, 2))
    assert one != two

    module = write(main_part=source, turtledemo=HELPERS.format(1))
    module.f(1)
    assert hash_code(module.f) == one


def test_parts_of_a_package_may_be_the_user_s_own(write, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    (installed / "shared" / "theirs").mkdir(parents=True)
    monkeypatch.syspath_prepend(installed)
    source = "def f(x):\n    from shared.mine import g\n    return g(x)"
    hashes = [
        hash_code(write(main_part=source, shared__mine=HELPERS.format(number)).f)
        for number in (1, 1, 2)
    ]

    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_a_missing_import_inside_is_no_problem(hash_of):
    assert hash_of("def f(x):\n    import missing_thing\n    return missing_thing.g(x)")


def test_a_module_that_fails_on_import_is_no_problem(hash_of):
    source = "def f(x):\n    import failing\n    return failing.g(x)"

    assert hash_of(source, failing="raise ZeroDivisionError")


def test_a_module_that_exits_is_no_problem_and_runs_once(write, capsys):
    exiting = "print('ran', {})\nraise SystemExit"
    source = "def f(x):\n    import exiting\n    return exiting.g(x)"
    module = write(main_part=source, exiting=exiting.format(1))
    one, again = hash_code(module.f), hash_code(module.f)
    assert capsys.readouterr().out == "ran 1\n"

    module = write(main_part=source, exiting=exiting.format(2))
    assert one == again != hash_code(module.f)
    assert capsys.readouterr().out == "ran 2\n"


def test_libraries_are_not_imported_to_hash_what_imports_them(write):
    module = write(lazy="def f(x):\n    import wave\n    return wave.open(x)")
    sys.modules.pop("wave", None)

    hash_code(module.f)

    assert "wave" not in sys.modules


# --- What is not the user's own -------------------------------------------------------------------


def test_what_belongs_to_a_package_counts_by_its_version(write, monkeypatch):
    module = write(user="import numpy as np\ndef f(x):\n    return np.mean(x)")
    before = hash_code(module.f)
    assert hash_code(module.f) == before
    monkeypatch.setattr(_origin, "_package_version", lambda package: "0.0")

    assert hash_code(module.f) != before


def test_the_version_counts_for_an_import_inside_too(write, monkeypatch):
    module = write(user="def f(x):\n    import numpy\n    return numpy.mean(x)")
    before = hash_code(module.f)
    monkeypatch.setattr(_origin, "_package_version", lambda package: "0.0")

    assert hash_code(module.f) != before


# --- Kinds of callables ---------------------------------------------------------------------------


class Service:
    def __init__(self, factor, _hidden=0):
        self.factor = factor
        self._hidden = _hidden

    def __call__(self, x):
        return self.factor * x

    def run(self, x):
        return self.factor + x

    @staticmethod
    def static(x):
        return x

    @classmethod
    def make(cls, x):
        return cls(x)


def add(x, y):
    return x + y


def test_kinds_of_callables_are_told_apart():
    kinds = [
        add,
        functools.partial(add, 1),
        functools.partial(add, 2),
        functools.partial(add, y=1),
        functools.lru_cache(add),
        functools.lru_cache(maxsize=2)(add),
        Service,
        Service(1),
        Service(2),
        Service(1).run,
        Service(2).run,
        Service.run,
        Service.static,
        Service.make,
    ]

    assert len({hash_code(each) for each in kinds}) == len(kinds)
    assert [hash_code(each) for each in kinds] == [hash_code(each) for each in kinds]


def test_equal_callable_objects_have_one_hash():
    assert hash_code(Service(1)) == hash_code(Service(1))
    assert hash_code(Service(1).run) == hash_code(Service(1).run)


def test_hidden_attributes_of_callable_objects_count():
    assert hash_code(Service(1)) != hash_code(Service(1, 2))
    assert hash_code(Service(1).run) != hash_code(Service(1, 2).run)


def test_an_object_that_names_its_function_counts_by_it():
    class Wrapper:
        __hypernodes_function__ = "func"
        __slots__ = ("func", "lock")

        def __init__(self, func):
            self.func = func
            self.lock = threading.Lock()

        def __call__(self, *args):
            return self.func(*args)

    assert hash_code(Wrapper(add)) == hash_code(add)
    assert describe_code(Wrapper(add)).by_type == ()


def test_generic_and_abstract_classes_have_hashes():
    item = typing.TypeVar("item")

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...

    class Box(Shape, typing.Generic[item]):
        content: list[item]

        def area(self):
            return 1

    assert describe_code(Box) == describe_code(Box)
    assert describe_code(Box).by_type == ()


# --- What has no stable identity ------------------------------------------------------------------


def test_what_has_no_stable_identity_counts_by_its_type_and_is_reported(write):
    source = """
    import logging, threading
    logger = {}
    lock = threading.{}()
    CONFIG = {{"limit": {}, "lock": threading.Lock()}}
    def g(x):
        with lock:
            return CONFIG["limit"]
    def f(x):
        logger.info("x")
        return g(x)
    """
    logger = "logging.getLogger('{}')"
    one = describe_code(write(shared=source.format(logger.format("a"), "Lock", 1)).f)
    same = describe_code(write(shared=source.format(logger.format("b"), "Lock", 1)).f)
    other_type = describe_code(write(shared=source.format(logger.format("a"), "Event", 1)).f)
    other_limit = describe_code(write(shared=source.format(logger.format("a"), "Lock", 2)).f)

    assert one == same
    assert one.by_type == ("CONFIG['lock']", "lock", "logger")
    assert one.digest != other_type.digest
    assert one.digest != other_limit.digest


def test_the_user_s_own_client_counts_by_what_it_shows(write):
    source = """
    import threading
    class Client:
        def __init__(self, host):
            self.host = host
            self.lock = threading.Lock()
            self._session = object()
    client = Client({!r})
    def f():
        return client
    """
    one, other = (describe_code(write(client=source.format(host)).f) for host in "ab")

    assert one.by_type == other.by_type == ("client._session", "client.lock")
    assert one.digest != other.digest


PARTS_OF_PARTS = {
    "namespace": "g = types.SimpleNamespace(log=log, k={})",
    "default dict": "g = collections.defaultdict(list, log=log, k={})",
    "object of a library": "g = string.Template(log)\ng.k = {}",
    "pipeline": (
        "class Watch(hypernodes.callbacks.Callback):\n    def __init__(self):\n"
        "        self.lock = threading.Lock()\ndef h():\n    return {}\n"
        "config = hypernodes.RuntimeConfig(callbacks=[Watch()])\n"
        "g = hypernodes.Pipeline([hypernodes.node('y')(h)], config=config)"
    ),
}


class Unwilling:
    def __getattribute__(self, name):
        raise RuntimeError(name)


def test_objects_may_refuse_to_be_looked_at():
    unwilling, module = Unwilling(), types.ModuleType("unwilling")
    module.__getattr__ = lambda name: 1 / 0
    numbers = {10**5000: threading.Lock()}

    def f():
        return unwilling, module.part, numbers

    assert describe_code(f) == describe_code(f)
    assert describe_code(f).by_type == ("numbers[...]", "unwilling")


@pytest.mark.parametrize("source", PARTS_OF_PARTS.values(), ids=PARTS_OF_PARTS.keys())
def test_beside_what_has_no_stable_identity_the_other_parts_count(write, source):
    head = (
        "import collections, logging, string, threading, types\n"
        "import hypernodes, hypernodes.callbacks\nlog = logging.getLogger('x')\n"
    )
    one, same, other = (
        describe_code(write(mixed=f"{head}{source.format(k)}\ndef f():\n    return g").f)
        for k in (1, 1, 2)
    )

    assert one == same
    assert one.by_type == other.by_type == ("g",)
    assert one.digest != other.digest


def test_names_are_reported_from_defaults_closures_classes_and_bound_objects():
    lock = threading.Lock()

    def f(x, marker=object()):  # noqa: B008
        return lock, marker

    class Holder:
        guard = threading.Lock()

        def __init__(self):
            self.lock = lock

        def run(self):
            return self.lock

    assert describe_code(f).by_type == ("lock", "marker")
    assert describe_code(Holder).by_type == ("Holder.guard", "lock")
    assert describe_code(Holder().run).by_type == ("Holder.guard", "__self__.lock", "lock")


def test_logging_through_a_logger_changes_nothing(write, caplog):
    module = write(
        logs="import logging\nlog = logging.getLogger('x')\ndef f():\n    log.warning('a')"
    )
    before = hash_code(module.f)
    with caplog.at_level(logging.DEBUG):
        module.f()

    assert hash_code(module.f) == before


def test_use_of_what_is_used_changes_nothing(write):
    module = write(
        used="""
        import contextlib, dataclasses, enum, functools, re
        import numpy as np
        import pydantic, tenacity

        class E(enum.Flag):
            A = 1
            B = 2
        class M(pydantic.BaseModel):
            x: int = 0
        @dataclasses.dataclass
        class D:
            x: int = 0
            @functools.cached_property
            def y(self): return 1
        d = D()
        pattern = re.compile("a")
        @functools.singledispatch
        def g(x): return x
        @functools.lru_cache
        def h(x): return x
        @contextlib.contextmanager
        def c(): yield 1
        @tenacity.retry
        def r(): return 1
        def f(x):
            with c():
                return g(x), h(x), E.A | E.B, M(x=x), d.y, pattern.match("a"), np.mean(x), r(), f
        """
    )
    before = describe_code(module.f)
    module.f(1)

    assert describe_code(module.f) == before
    assert before.by_type == ()


# --- Circles --------------------------------------------------------------------------------------


def test_a_function_may_use_itself(hash_of):
    source = "def f(n):\n    return f(n - {}) if n else 0"

    assert hash_of(source.format(1)) == hash_of(source.format(1))
    assert hash_of(source.format(1)) != hash_of(source.format(2))


MUTUAL = """
K = {}
def even(n):
    return n == 0 or odd(n - {})
def odd(n):
    return n != 0 and even(n - {})
def third(n):
    return even(n) + K
f = {}
"""


def test_functions_may_use_one_another(hash_of):
    sources = [
        MUTUAL.format(*values)
        for values in (
            (0, 1, 1, "even"),
            (0, 1, 1, "odd"),
            (0, 1, 2, "even"),
            (0, 2, 1, "even"),
            (0, 1, 2, "odd"),
            (0, 1, 1, "third"),
            (1, 1, 1, "third"),
            (0, 1, 2, "third"),
        )
    ]

    assert len({hash_of(source) for source in sources}) == len(sources)
    assert [hash_of(source) for source in sources] == [hash_of(source) for source in sources]


def circle(length, change=None):
    """Return the first of functions that each hold the next, all of the same code."""
    cells = [[] for _ in range(length)]

    def make(mine, constant):
        return lambda: (mine[0], constant)

    functions = [make(cell, 1 if place == change else 0) for place, cell in enumerate(cells)]
    for place, cell in enumerate(cells):
        cell.append(functions[(place + 1) % length])
    return functions[0]


def test_a_change_anywhere_in_a_circle_is_noticed():
    hashes = [hash_code(circle(5, change)) for change in (None, 0, 1, 2, 3, 4)]

    assert len(set(hashes)) == 6
    assert hash_code(circle(5, 3)) == hashes[4]


def test_two_closures_of_one_function_are_not_mixed_up():
    def make(k):
        return lambda x: x + k

    def pair(first, second):
        return lambda x: first(x) - second(x)

    one, two = make(1), make(2)

    assert hash_code(pair(one, two)) != hash_code(pair(two, one))


def test_classes_and_their_methods_may_use_one_another(hash_of):
    source = """
    class A:
        def make(self): return B(self)
        def up(self): return super().__repr__()
    class B:
        k = {}
        def __init__(self, a): self.a = a
        def back(self): return A()
    def f(): return A().make()
    """

    assert hash_of(source.format(1)) == hash_of(source.format(1))
    assert hash_of(source.format(1)) != hash_of(source.format(2))


def test_a_global_may_contain_the_function_that_uses_it(hash_of):
    source = "def f(x):\n    return REGISTRY['f'](x) + {}\nREGISTRY = {{'f': f, 'all': {{f, len}}}}"

    assert hash_of(source.format(1)) == hash_of(source.format(1))
    assert hash_of(source.format(1)) != hash_of(source.format(2))


def test_a_long_chain_of_helpers_is_no_problem(hash_of):
    chain = "".join(f"def f{i}(x):\n    return f{i + 1}(x)\n" for i in range(2_000))
    source = chain + "def f2000(x):\n    return x + {}\nf = f0"

    assert hash_of(source.format(1)) != hash_of(source.format(2))


# --- Everywhere the same --------------------------------------------------------------------------

SCRIPT = """
import collections, dataclasses, enum, functools, logging
import numpy as np
import helpers_of_script as helpers

log = logging.getLogger("x")

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int = 0
    def norm(self):
        return helpers.g(self.x)

TABLE = {Point: 1, Color: 2, helpers.g: 3}
NAMES = {"a", "b", "c"}

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def f(x, point=Point(1), *, names=frozenset("abc")):
    log.info("x")
    return [even(x), TABLE, NAMES, Color.RED, np.mean(x), (lambda y: y in {"p", "q"})]

if __name__ == "__main__":
    from hypernodes.cache._code import hash_code
    for each in (f, even, odd, Point, Point(2).norm, Color, functools.partial(f, 1)):
        print(hash_code(each))
"""


SOURCE = pathlib.Path(_origin.__file__).parents[2]


def run(arguments, cwd, seed="0"):
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{cwd}{os.pathsep}{SOURCE}"}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.fixture
def script(tmp_path):
    (tmp_path / "the_script.py").write_text(SCRIPT)
    (tmp_path / "helpers_of_script.py").write_text("def g(x):\n    return x + 1\n")
    return tmp_path


def test_hashes_hold_in_other_processes_whatever_the_hash_seed(script):
    outputs = {tuple(run(["the_script.py"], script, seed)) for seed in ("0", "1", "2", "3")}

    assert len(outputs) == 1
    assert len(set(outputs.pop())) == 7


def test_hashes_are_the_same_for_a_script_and_an_import(script):
    imported = "import the_script as s\nfrom hypernodes.cache._code import hash_code\n"
    loop = "for each in (s.f, s.even, s.Point, s.Color):\n    print(hash_code(each))"
    as_script = run(["the_script.py"], script)

    as_module = run(["-c", imported + loop], script)

    assert as_module == [as_script[0], as_script[1], as_script[3], as_script[5]]


def test_hashes_are_the_same_under_another_path_and_package(script, tmp_path):
    package = tmp_path / "elsewhere" / "deep"
    package.mkdir(parents=True)
    (package / "the_script.py").write_text("\n\n# Moved.\n" + SCRIPT)
    imported = (
        "import elsewhere.deep.the_script as s\nfrom hypernodes.cache._code import hash_code\n"
        "print(hash_code(s.f))"
    )

    assert run(["-c", imported], tmp_path) == run(["the_script.py"], script)[:1]


def test_bytecode_hashes_hold_in_other_processes(tmp_path):
    code = (
        "from hypernodes.cache._code import hash_code\n"
        "def f(x):\n    return x in {'a', 'b', 'c'}, (lambda: frozenset('abc'))\n"
        "print(hash_code(f))"
    )
    launch = f"exec(compile({code!r}, '<nowhere>', 'exec'))"

    assert len({tuple(run(["-c", launch], tmp_path, seed)) for seed in ("0", "1", "2")}) == 1


# --- Snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_gives_what_single_calls_give():
    snapshot = CodeSnapshot()
    functions = [add, Service, Service(1).run, circle(3), json.dumps, functools.partial(add, 1)]

    assert [snapshot.describe(each) for each in functions * 2] == [
        describe_code(each) for each in functions * 2
    ]


def test_a_description_is_a_digest_and_names():
    found = describe_code(add)

    assert isinstance(found, CodeHash)
    assert found == (hash_code(add), ())
    assert len(found.digest) == 64
    assert int(found.digest, 16) >= 0


def test_a_snapshot_reads_a_shared_helper_once(monkeypatch):
    def helper(x):
        return x

    snapshot = CodeSnapshot()
    read = []
    function_uses = _uses._function_uses
    monkeypatch.setattr(
        _uses,
        "_function_uses",
        lambda function, reading: read.append(function) or function_uses(function, reading),
    )
    for k in range(3):
        snapshot.describe(lambda x, k=k: helper(x) + k)

    assert read.count(helper) == 1


def test_readings_are_dropped_with_their_code():
    def f():
        return run_code("def f(x):\n    return x + 1")["f"]

    hash_code(f())
    gc.collect()
    before = len(_names._readings)
    for _ in range(5):
        hash_code(f())
    gc.collect()

    assert len(_names._readings) <= before + 1


def test_few_parsed_files_are_kept(write):
    for number in range(40):
        hash_code(getattr(write(**{f"many_{number}": "def f(): pass"}), "f"))  # noqa: B009

    assert len(_source._files) <= _source._FILES_KEPT


# --- The scheme -----------------------------------------------------------------------------------

GOLDEN_SOURCE = """
import json
K = {"a": [1, 2.5, None]}
class A:
    k = 1
    def m(self, x: int = 3) -> str:
        return f"{x!r:>{self.k}}"
def g(*args, **kwargs):
    return [A().m(x) for x in args if x], K, len(kwargs)
async def f(x, /, y=(1, 2), *, z="z"):
    try:
        match x:
            case {"a": [1, *rest]} if rest:
                return g(*rest, **json.loads(x))
            case _:
                return lambda a: a @ y[1:2, ::-1] - 1j
    except* ValueError:
        raise
"""


GOLDEN = "335add2235ff5f09c8ba156ae531fc63f695e56eabfe1165f93678bea96142d5"


def test_the_scheme_has_not_changed(hash_of):
    assert hash_of(GOLDEN_SOURCE) == GOLDEN


class Pickled:
    """Its instances are pickled below."""


def test_pickling_an_instance_does_not_change_what_its_class_hashes_to():
    before = CodeSnapshot().identify(Pickled)
    pickle.dumps(Pickled(), protocol=2)
    assert "__slotnames__" in vars(Pickled)
    assert CodeSnapshot().identify(Pickled) == before


def test_a_client_of_an_installed_package_counts_by_its_type(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "package_of_clients.py").write_text(
        "import threading\n\nclass Client:\n    def __init__(self):\n"
        "        self.lock, self.requests = threading.Lock(), 0\n"
    )
    monkeypatch.syspath_prepend(folder)
    client = importlib.import_module("package_of_clients").Client()

    def ask(x):
        return client, x

    before = describe_code(ask)
    client.requests += 1
    assert describe_code(ask) == before
    assert before.by_type == ("client",)


def test_many_threads_may_read_sources_at_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    names = [f"module_for_threads_{number}" for number in range(40)]
    for number, name in enumerate(names):
        body = "".join(f"    x = [x, [{n}, (x, {number})]]\n" for n in range(200))
        (tmp_path / f"{name}.py").write_text(f"def f(x):\n{body}    return x\n")
    functions = [importlib.import_module(name).f for name in names]
    with futures.ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(hash_code, functions))
    assert len(set(hashes)) == len(names)
