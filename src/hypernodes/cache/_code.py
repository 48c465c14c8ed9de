"""What code hashes to: a function's own, and that of everything of the user's that it uses.

A code object is *read* once: its normalised source, or where there is none its bytecode, and the
names that it looks up. A definition (a function, class or module of the user's own) is *described*
at each call: what it is by itself, and the values that its names have now. What it uses is
described in turn, until all that can be reached is known. Then definitions are *labelled* from the
bottom up; those that use one another in a circle are labelled together, by refining what tells them
apart until nothing more does (partition refinement, as for finite automata).

What is not the user's own, that is of the standard library, of an installed package or of this one,
counts by its name and by the version of what it came with.
"""

from __future__ import annotations
import __future__

import ast
import dis
import functools
import importlib
import linecache
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from hypernodes.cache._values import digest, encode, module_name, register_code

__all__ = ["CodeHash", "CodeSnapshot", "describe_code", "hash_code"]


class CodeHash(NamedTuple):
    """What a callable's code hashes to.

    Attributes:
        digest: A lowercase hex string of 64 characters.
        by_type: The names of what has no stable identity, such as a logger: it counts by its type.
    """

    digest: str
    by_type: tuple[str, ...]


def hash_code(function: Callable[..., Any]) -> str:
    """Return what the code of `function`, and all of the user's code that it uses, hashes to.

    Comments, formatting, docstrings, the place in the file, and decorators that leave no trace do
    not count. Defaults, closures, globals, helpers and classes do, as they are now.

    Args:
        function: Any callable: a function, method, partial, class, callable object, builtin.

    Returns:
        A lowercase hex string of 64 characters.

    Example:
        >>> hash_code(lambda x: x + 1) == hash_code(lambda x: (x + 1))
        True
    """
    return CodeSnapshot().describe(function).digest


def describe_code(function: Callable[..., Any]) -> CodeHash:
    """Return what `hash_code` does, and the names of what counts by its type only.

    Args:
        function: Any callable.
    """
    return CodeSnapshot().describe(function)


class CodeSnapshot:
    """Code as it is at one moment: each definition is read once, however often it is used.

    Keep one for as long as nothing is rebound or mutated, such as while a run is planned.

    Example:
        >>> snapshot = CodeSnapshot()
        >>> snapshot.describe(len) == describe_code(len)
        True
    """

    def __init__(self) -> None:
        self._labels: dict[int, bytes] = {}
        self._by_type: dict[int, frozenset[str]] = {}
        self._kept: list[Any] = []

    def describe(self, function: Callable[..., Any]) -> CodeHash:
        """Return what `function` hashes to; see `hash_code`.

        Args:
            function: Any callable.
        """
        root = _Description(b"root", function)
        self._add_use(root, "", function)
        for target in root.targets:
            self.identify(target)
        label = self._label(root)
        return CodeHash(label.hex(), tuple(sorted(self._gathered([root]))))

    def identify(self, definition: Any) -> bytes:
        """Return the label of a class, function or module: 32 bytes.

        Args:
            definition: One of the user's own, or anybody else's.
        """
        known = self._labels.get(id(definition))
        return known or self._foreign_label(definition) or self._explore(definition)

    def _foreign_label(self, definition: Any) -> bytes | None:
        """Return the label of what counts by its name, or None for what does by its content."""
        name = _foreign_name(definition)
        if name is None:
            return None
        return self._keep(definition, digest(b"foreign", *[part.encode() for part in name]))

    def _keep(self, definition: Any, label: bytes) -> bytes:
        self._labels[id(definition)] = label
        self._kept.append(definition)
        return label

    def _explore(self, root: Any) -> bytes:
        """Describe and label all that can be reached from `root`; return its label."""
        found: dict[int, _Description] = {}
        pending = [root]
        while pending:
            definition = pending.pop()
            if id(definition) not in found:
                found[id(definition)] = description = self._describe(definition)
                pending += description.targets
        for component in _components(found, id(root)):
            self._settle(component)
        return self._labels[id(root)]

    def _describe(self, definition: Any) -> _Description:
        own, uses = _contents(definition)
        description = _Description(own, definition)
        for name, value in uses:
            self._add_use(description, name, value)
        return description

    def _add_use(self, description: _Description, name: str, value: Any) -> None:
        """Note the encoding of `value`, or the value itself where it waits for labels."""
        before = len(description.targets)

        def identify(definition: Any) -> bytes:
            label = self._labels.get(id(definition)) or self._foreign_label(definition)
            if label is None:
                description.targets.append(definition)
            elif self._by_type.get(id(definition)):
                description.by_type |= self._by_type[id(definition)]
            return label or b""

        def on_unstable(part: Any, path: str) -> bytes:
            if not name.startswith("__"):
                description.by_type.add(f"{name}{path}".lstrip("."))
            return identify(type(part))

        encoding = encode(value, identify=identify, on_unstable=on_unstable)
        waits = len(description.targets) > before
        description.uses.append((name.encode(), value, None if waits else encoding))

    def _label(self, description: _Description, so_far: bytes = b"") -> bytes:
        parts = [so_far]
        for name, value, encoding in description.uses:
            parts += (name, encoding or self._encode(value))
        return digest(description.own, *parts)

    def _encode(self, value: Any) -> bytes:
        def identify(definition: Any) -> bytes:
            return self._labels.get(id(definition)) or self._foreign_label(definition) or b""

        return encode(value, identify=identify, on_unstable=lambda part, _: identify(type(part)))

    def _settle(self, component: list[_Description]) -> None:
        """Label definitions that use one another in a circle, or a single one."""
        if len(component) == 1 and not component[0].uses_itself:
            labels = [self._label(component[0])]
        else:
            labels = self._refine(component)
        names = frozenset(self._gathered(component))
        for description, label in zip(component, labels, strict=True):
            self._keep(description.definition, label)
            self._by_type[id(description.definition)] = names

    def _refine(self, component: list[_Description]) -> list[bytes]:
        """Tell definitions apart by what they use, by what that uses, and so on.

        No more classes than in the round before means that no further round would find any. The set
        of all classes goes into each label, so that labels of different circles compare.
        """
        labels = [description.own for description in component]
        classes = 0
        while len(set(labels)) > classes:
            classes = len(set(labels))
            for description, label in zip(component, labels, strict=True):
                self._labels[id(description.definition)] = label
            labels = [
                self._label(description, label)
                for description, label in zip(component, labels, strict=True)
            ]
        everything = sorted(set(labels))
        return [digest(b"circle", label, *everything) for label in labels]

    def _gathered(self, component: list[_Description]) -> set[str]:
        names: set[str] = set()
        for description in component:
            names |= description.by_type
            for target in description.targets:
                names |= self._by_type.get(id(target), frozenset())
        return names


class _Description:
    """A definition, what it is by itself, and what it uses."""

    __slots__ = ("by_type", "definition", "own", "targets", "uses")

    def __init__(self, own: bytes, definition: Any) -> None:
        self.own = own
        self.definition = definition
        self.uses: list[tuple[bytes, Any, bytes | None]] = []
        self.targets: list[Any] = []
        self.by_type: set[str] = set()

    @property
    def uses_itself(self) -> bool:
        return any(target is self.definition for target in self.targets)


def _components(found: Mapping[int, _Description], root: int) -> Iterator[list[_Description]]:
    """Yield the circles (strongly connected components), those that others use first.

    Tarjan's algorithm with an explicit stack. R. Tarjan, Depth-first search and linear graph
    algorithms, SIAM J. Comput. 1 (1972).
    """
    order = {root: 0}
    lowest = {root: 0}
    open_nodes = [root]
    path = [(root, iter(found[root].targets))]
    while path:
        node, targets = path[-1]
        for target in map(id, targets):
            if target not in found:
                continue
            if target not in order:
                order[target] = lowest[target] = len(order)
                open_nodes.append(target)
                path.append((target, iter(found[target].targets)))
                break
            if target in lowest:
                lowest[node] = min(lowest[node], order[target])
        else:
            path.pop()
            if path:
                lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
            if lowest[node] == order[node]:
                place = open_nodes.index(node)
                component = open_nodes[place:]
                del open_nodes[place:]
                for member in component:
                    del lowest[member]
                yield [found[member] for member in component]


# --- What a definition is, and uses ---------------------------------------------------------------

Uses = Iterable[tuple[str, Any]]


def _contents(definition: Any) -> tuple[bytes, Uses]:
    """Return what `definition` is by itself, and the names and values that it uses."""
    if isinstance(definition, types.FunctionType):
        if _is_own_namespace(definition.__globals__, definition.__code__.co_filename):
            return _read(definition.__code__).own, _function_uses(definition)
        name = [part.encode() for part in _function_name(definition)]
        return digest(b"wrapper", *name), _wrapped(definition)
    if isinstance(definition, type):
        return digest(b"class", definition.__name__.encode()), _class_uses(definition)
    if isinstance(definition, types.CodeType):
        return _read(definition).own, ()
    return b"module", _module_uses(definition)


def _function_uses(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    reading = _read(code)
    if function.__defaults__:
        yield from _defaults(function, function.__defaults__)
    yield from sorted((function.__kwdefaults__ or {}).items())
    yield from sorted(_attributes(function))
    cells = _cells(function)
    for name, chains in reading.globals:
        if name in function.__globals__:
            yield from _follow(name, function.__globals__[name], chains)
    for name, chains in reading.locals:
        if name in cells:
            yield from _follow(name, cells[name], chains)
    for name, origin, chains in reading.imports:
        yield from _imported(function.__globals__, name, origin, chains)


def _defaults(function: types.FunctionType, defaults: tuple[Any, ...]) -> Uses:
    code = function.__code__
    return zip(code.co_varnames[code.co_argcount - len(defaults) :], defaults, strict=False)


def _attributes(function: types.FunctionType) -> Uses:
    return [(f".{name}", value) for name, value in vars(function).items() if name[:1] != "_"]


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """Return what the closure of `function` holds now."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # Not assigned yet, or deleted.
    return found


def _wrapped(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a wrapper made by somebody else's decorator wraps, and how it was set up."""
    if hasattr(function, "registry") and hasattr(function, "dispatch"):
        yield (
            "__registry__",
            function.registry,
        )  # functools.singledispatch, whose closure has a cache
    else:
        yield "__closure__", tuple(_cells(function).items())
    yield "__wrapped__", getattr(function, "__wrapped__", None)
    yield "__defaults__", (function.__defaults__, function.__kwdefaults__)


Chains = tuple[tuple[str, ...], ...]


def _follow(name: str, value: Any, chains: Chains) -> Iterator[tuple[str, Any]]:
    """Yield what is used of `value`: of a module of the user's, only what is looked up in it."""
    if not _is_own_module(value):
        yield name, value
        return
    found = dict(_last(name, value, chain) for chain in chains)
    yield from sorted(found.items(), key=lambda use: use[0])


def _last(name: str, value: Any, chain: tuple[str, ...]) -> tuple[str, Any]:
    """Return the first thing along `chain` that is no module of the user's own, and its name."""
    for attribute in chain:
        if not _is_own_module(value):
            break
        name = f"{name}.{attribute}"
        try:
            value = getattr(value, attribute)
        except AttributeError:
            return name, "absent"
    return name, value


_GENERATED: Final = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__",
        "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__dict__",
        "__doc__", "__firstlineno__", "__match_args__", "__module__", "__orig_bases__",
        "__parameters__", "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl",
    }
)  # fmt: skip
_SIMPLE: Final = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset, type(None))
_FUNCTIONS: Final = (types.FunctionType, staticmethod, classmethod, property)


def _class_uses(cls: type) -> Iterator[tuple[str, Any]]:
    yield "__bases__", cls.__bases__
    if type(cls) is not type:
        yield "__class__", type(cls)
    yield "__annotations__", list(_annotations(cls).items())
    yield from _fields(cls)
    prefix = cls.__name__
    for name, member in sorted(vars(cls).items(), key=lambda item: item[0]):
        if name not in _GENERATED and _counts(cls, name, member):
            yield f"{prefix}.{name}", member


def _counts(cls: type, name: str, member: Any) -> bool:
    """Whether a member of a class is the user's doing, and not that of a base or a decorator."""
    if isinstance(member, _FUNCTIONS):
        return not _is_generated(member)
    if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType):
        return False
    if name[:2] == name[-2:] == "__":
        return isinstance(member, _SIMPLE) and not name.startswith("__pydantic_")
    is_enum = hasattr(cls, "__members__")
    return not (is_enum and name[:1] == name[-1:] == "_")


def _is_generated(member: Any) -> bool:
    """Whether a function was made by dataclasses, namedtuple or attrs, out of fields that count."""
    function = getattr(member, "__wrapped__", member)
    code = getattr(function, "__code__", None)
    return code is not None and bool(
        code.co_qualname.startswith("__create_fn__.")
        or code.co_filename.startswith("<attrs generated")
        or function.__globals__.get("__name__", "").startswith("namedtuple_")
    )


def _annotations(cls: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        library = importlib.import_module("annotationlib")
        return library.get_annotations(cls, format=library.Format.FORWARDREF)  # type: ignore[no-any-return]
    found = vars(cls).get("__annotations__")
    return found if isinstance(found, dict) else {}


_FIELD_FLAGS: Final = ("init", "repr", "hash", "compare", "kw_only")


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what dataclasses and pydantic have put away of a class's body."""
    members = vars(cls)
    for name, field in members.get("__dataclass_fields__", {}).items():
        flags = [getattr(field, flag) for flag in _FIELD_FLAGS]
        yield f"{cls.__name__}.{name}", (field.default, field.default_factory, flags)
    if "__dataclass_params__" in members:
        yield "__dataclass_params__", repr(members["__dataclass_params__"])
    yield from members.get("__pydantic_fields__", {}).items()
    decorators = members.get("__pydantic_decorators__")
    for name in getattr(decorators, "__dataclass_fields__", ()):
        group = getattr(decorators, name)
        if isinstance(group, dict):
            yield "__decorators__", [(each.cls_var_name, each.info) for each in group.values()]


def _module_uses(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(module).items(), key=lambda item: item[0]):
        if name[:2] != "__":
            yield name, value


# --- Imports inside a body ------------------------------------------------------------------------


class _Origin(NamedTuple):
    """What an import statement names: a module, how many packages up, and a member of it."""

    module: str
    level: int
    member: str | None
    is_top: bool


def _imported(
    namespace: Mapping[str, Any], name: str, origin: _Origin, chains: Chains
) -> Iterator[tuple[str, Any]]:
    """Yield what an import in a function's body gives; what is not the user's own, not imported."""
    module = _absolute(namespace, origin)
    if not _is_own_name(module):
        yield name, f"{module} {_version(module)}"
        return
    try:
        value = importlib.import_module(module)
        if origin.is_top:
            value = sys.modules[module.partition(".")[0]]
        elif origin.member:
            value = _member(value, origin.member)
    except Exception:  # noqa: BLE001  # the module's own code ran, it may raise anything
        yield name, "absent"
        return
    yield from _follow(name, value, chains)


def _absolute(namespace: Mapping[str, Any], origin: _Origin) -> str:
    if not origin.level:
        return origin.module
    package = namespace.get("__package__") or namespace.get("__name__", "").rpartition(".")[0]
    parent = package.split(".")[: len(package.split(".")) - origin.level + 1]
    return ".".join([*parent, *filter(None, [origin.module])])


def _member(module: Any, name: str) -> Any:
    if not hasattr(module, name):
        importlib.import_module(f"{module.__name__}.{name}")
    return getattr(module, name)


# --- Whose it is ----------------------------------------------------------------------------------

_THIS_PACKAGE: Final = __name__.partition(".")[0]
_STDLIB: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120  # pathlib is slow to import
_HEAP_TYPE: Final = 1 << 9
_STATELESS: Final = frozenset(
    {
        "builtins.object",
        "typing.Generic",
        "typing.Protocol",
        "abc.ABC",
        "typing_extensions.Protocol",
    }
)


@functools.lru_cache(maxsize=4096)
def _is_own_file(filename: str) -> bool:
    if filename.startswith(("<frozen ", _STDLIB)):
        return False
    path = filename.replace("\\", "/")
    return "/site-packages/" not in path and "/dist-packages/" not in path


def _is_own_namespace(namespace: Mapping[str, Any], filename: str | None = None) -> bool:
    """Whether a module, given by what is in it, is the user's.

    `__main__` always is: in a worker or a notebook its file is the launcher's.

    Args:
        namespace: The module's variables.
        filename: Where the code comes from, for a module without a file.
    """
    top = str(namespace.get("__name__", "")).partition(".")[0]
    if top in (_THIS_PACKAGE, "__main__"):
        return top == "__main__"
    file = namespace.get("__file__") or filename
    return _is_own_file(file) if isinstance(file, str) else top not in sys.stdlib_module_names


def _is_own_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and _is_own_namespace(vars(value))


def _is_own_name(module: str) -> bool:
    """Whether the module of this name is the user's; it is not imported to find out."""
    top = module.partition(".")[0]
    known = sys.modules.get(top)
    if known is not None:
        return _is_own_module(known)
    try:
        spec = importlib.import_module("importlib.util").find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None or top in sys.stdlib_module_names or top == _THIS_PACKAGE:
        return False
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
    return all(_is_own_file(f"{place}/") for place in places)


def _is_plain(cls: type) -> bool:
    """Whether `cls` and all its bases are written in Python, by the user."""
    return all(
        f"{module_name(base)}.{base.__qualname__}" in _STATELESS or _is_own_class(base)
        for base in cls.__mro__
    )


def _is_own_class(cls: type) -> bool:
    module = sys.modules.get(module_name(cls))
    if module is not None and not _is_own_namespace(vars(module)):
        return False
    file = getattr(module, "__file__", None) or ""
    return (not file or file.endswith((".py", ".pyc"))) and bool(cls.__flags__ & _HEAP_TYPE)


def _foreign_name(definition: Any) -> tuple[str, ...] | None:
    """Return kind, module, qualified name and version of what is not the user's, else None."""
    if isinstance(definition, types.FunctionType):
        return _foreign_function(definition)
    if isinstance(definition, type):
        return _foreign_class(definition)
    if isinstance(definition, types.ModuleType):
        own = _is_own_module(definition)
        return None if own else ("module", definition.__name__, "", _version(definition.__name__))
    if isinstance(definition, types.CodeType):
        return None
    owner = definition.__self__
    module = owner.__name__ if owner is not None else definition.__module__ or "builtins"
    return "builtin", module, definition.__qualname__, _version(module)


def _foreign_function(function: types.FunctionType) -> tuple[str, ...] | None:
    if _is_own_namespace(function.__globals__, function.__code__.co_filename):
        return None
    if function.__closure__ or hasattr(function, "__wrapped__"):
        return None
    return _function_name(function)


def _function_name(function: types.FunctionType) -> tuple[str, ...]:
    module = str(function.__globals__.get("__name__", ""))
    code = function.__code__
    # Of several lambdas in one module the line tells which; the version pins the file.
    line = str(code.co_firstlineno) if "<" in code.co_qualname else ""
    return "function", module, code.co_qualname, _version(module), line


def _foreign_class(cls: type) -> tuple[str, ...] | None:
    """Return the name of a class of somebody else's, if that leads to it.

    It does not for what the user has made with somebody else's factory, such as `make_dataclass`.
    """
    name = module_name(cls)
    module = sys.modules.get(name)
    if _is_own_namespace(vars(module)) if module is not None else _is_own_name(name):
        return None
    if cls.__flags__ & _HEAP_TYPE and _find(module, cls.__qualname__) is not cls:
        return None
    return "class", name, cls.__qualname__, _version(name)


def _find(module: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        module = getattr(module, name, None)
    return module


def _version(module: str) -> str:
    return _package_version(module.partition(".")[0])


@functools.lru_cache(maxsize=1024)
def _package_version(package: str) -> str:
    """Return the version of the distribution that an installed package came with."""
    if package in sys.stdlib_module_names or not package:
        return ""
    metadata = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version(package))
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package, ())
        return " ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names)))


# --- Reading a code object ------------------------------------------------------------------------


class _Reading(NamedTuple):
    """What is to know about a code object: it does not change.

    Attributes:
        own: What its source, or its bytecode, hashes to.
        globals: The global names that are looked up, each with the attributes looked up in it.
        locals: The same for names of enclosing functions.
        imports: The same for what is imported in the body, with its origin.
    """

    own: bytes
    globals: tuple[tuple[str, Chains], ...]
    locals: tuple[tuple[str, Chains], ...]
    imports: tuple[tuple[str, _Origin, Chains], ...]


_readings: dict[int, tuple[weakref.ref[types.CodeType], _Reading]] = {}


def _read(code: types.CodeType) -> _Reading:
    # By identity: code objects that are equal may still differ in annotations.
    known = _readings.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    key = id(code)
    reading = _read_anew(code)
    _readings[key] = weakref.ref(code, lambda _: _readings.pop(key, None)), reading
    return reading


def _read_anew(code: types.CodeType) -> _Reading:
    source = _source_of(code)
    own = digest(b"source", source) if source is not None else digest(b"bytecode", _bytecode(code))
    lookups = _Lookups()
    lookups.scan(code)
    return _Reading(own, *lookups.sorted(code.co_freevars))


class _Lookups:
    """The names that a code object, and those inside it, look up."""

    def __init__(self) -> None:
        self._globals: dict[str, set[tuple[str, ...]]] = {}
        self._locals: dict[str, set[tuple[str, ...]]] = {}
        self._imports: dict[str, _Origin] = {}

    def scan(self, code: types.CodeType) -> None:
        if code.co_names:
            self._scan_instructions(code)
        else:
            for name in code.co_freevars:
                self._locals.setdefault(name, set()).add(())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.scan(constant)

    def sorted(self, free: tuple[str, ...]) -> tuple[Any, Any, Any]:
        """Return globals, names in `free`, and imports, each in an order of their own."""
        imports = []
        for name, origin in sorted(self._imports.items()):
            chains = self._locals.get(name) or self._globals.get(name) or {()}
            imports.append((name, origin, tuple(sorted(chains))))
        names = [(name, tuple(sorted(self._globals[name]))) for name in sorted(self._globals)]
        cells = [(name, tuple(sorted(self._locals.get(name, {()})))) for name in sorted(free)]
        return tuple(names), tuple(cells), tuple(imports)

    def _scan_instructions(self, code: types.CodeType) -> None:
        found: dict[str, set[tuple[str, ...]]] | None = None
        name = ""
        chain: tuple[str, ...] = ()
        statement = origin = _Origin("", 0, None, is_top=False)
        is_pending = False
        for action, argument in _actions(code):
            if action == "attribute" and found is not None:
                chain = (*chain, argument)
                continue
            if found is not None:
                found.setdefault(name, set()).add(chain)
            found = None
            if action in ("global", "local"):
                found = self._globals if action == "global" else self._locals
                name, chain = argument, ()
            elif action == "import":
                statement = origin = argument
                is_pending = True
            elif action == "member":
                # `import a.b as c` also takes b from a, but names a.b itself.
                member = None if statement.is_top else argument
                origin = statement._replace(member=member, is_top=False)
                is_pending = True
            elif action == "store" and is_pending:
                self._imports[argument] = origin
                is_pending = False


def _actions(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Yield the instructions of `code` that look up, import or store names."""
    cells = {*code.co_cellvars, *code.co_freevars}
    before: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            continue
        kind = _ACTIONS.get(instruction.opname)
        argument = instruction.argval
        if kind == "import":
            level, names = before
            yield kind, _Origin(argument, level or 0, None, is_top=not names)
        elif kind == "fast":
            yield from _fast(instruction.opname, argument, cells)
        else:
            yield kind or "", argument
        before = [before[1], argument]


def _fast(operation: str, argument: Any, cells: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what an instruction on local variables does; since Python 3.13 some do two things."""
    names = argument if isinstance(argument, tuple) else (argument,)
    verbs = [word for word in operation.split("_") if word in ("LOAD", "STORE")]
    for verb, name in zip(verbs, names, strict=False):
        if verb == "STORE":
            yield "store", name
        elif name not in cells:
            yield "local", name


def _kinds_of_action() -> dict[str, str]:
    kinds = dict.fromkeys(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"), "global")
    kinds |= dict.fromkeys(("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"), "local")
    kinds |= dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD"), "attribute")
    kinds |= dict.fromkeys(("STORE_DEREF", "STORE_NAME", "STORE_GLOBAL"), "store")
    kinds |= {"IMPORT_NAME": "import", "IMPORT_FROM": "member"}
    fast = [name for name in dis.opmap if "_FAST" in name and name.startswith(("LOAD", "STORE"))]
    return kinds | dict.fromkeys(fast, "fast")


_ACTIONS: Final = _kinds_of_action()


# --- Bytecode, where there is no source -----------------------------------------------------------

_HAS_DOCSTRING: Final = 0x4000000


def _bytecode(code: types.CodeType) -> bytes:
    """Return the bytecode without places and docstrings, for this minor version of Python."""
    constants = [
        _bytecode(each) if isinstance(each, types.CodeType) else each for each in _constants(code)
    ]
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    flags = code.co_flags & ~_HAS_DOCSTRING
    table = getattr(code, "co_exceptiontable", b"")
    version = sys.version_info[:2]
    return encode([version, code.co_name, counts, flags, names, code.co_code, table, constants])


def _constants(code: types.CodeType) -> tuple[Any, ...]:
    constants = code.co_consts
    if sys.version_info >= (3, 13):
        has_docstring = bool(code.co_flags & _HAS_DOCSTRING)
    else:
        has_docstring = bool(constants) and isinstance(constants[0], str) and code.co_name[0] != "<"
    return (None, *constants[1:]) if has_docstring and not _loads_first(code) else constants


def _loads_first(code: types.CodeType) -> bool:
    """Whether the first constant, where a docstring lies, is also used by the code."""
    pairs = zip(code.co_code[::2], code.co_code[1::2], strict=True)
    return any(operation in dis.hasconst and argument == 0 for operation, argument in pairs)


# --- Source ---------------------------------------------------------------------------------------


_FUNCTION_NODES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class _Scope(NamedTuple):
    """What a definition lies in."""

    name: str
    is_class: bool


class _Place(NamedTuple):
    """A definition in a file."""

    name: str
    node: Any
    line: int
    scopes: tuple[_Scope, ...]


class _File(NamedTuple):
    """A parsed file: its lines as they were, its definitions by name, the names that it imports."""

    lines: list[str]
    places: dict[str, list[_Place]]
    imports: frozenset[str]


_FILES_KEPT: Final = 32
_files: dict[str, _File] = {}


def _source_of(code: types.CodeType) -> bytes | None:
    """Return the normalised source of `code`, or None if there is none.

    A file may have been edited since it was imported, and several lambdas share a line. So a piece
    of source counts only if it compiles to this very bytecode.
    """
    try:
        file = _file(code.co_filename)
        places = file.places.get(code.co_name, [])
        for place in sorted(places, key=lambda place: abs(place.line - code.co_firstlineno)):
            if _compiles_to(place, file.imports, code):
                return _normalised(place.node)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None


def _file(filename: str) -> _File:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    known = _files.get(filename)
    if known is None or known.lines is not lines:
        while len(_files) >= _FILES_KEPT:
            _files.pop(next(iter(_files)), None)
        known = _files[filename] = _parse(lines)
    return known


def _parse(lines: list[str]) -> _File:
    places: dict[str, list[_Place]] = {}
    imports: set[str] = set()
    pending: list[tuple[ast.AST, tuple[_Scope, ...]]] = [(ast.parse("".join(lines)), ())]
    while pending:
        node, scopes = pending.pop()
        if isinstance(node, _FUNCTION_NODES):
            place = _place(node, scopes)
            places.setdefault(place.name, []).append(place)
            scopes = (*scopes, _Scope(place.name, is_class=False))
        elif isinstance(node, ast.ClassDef):
            scopes = (*scopes, _Scope(node.name, is_class=True))
        elif isinstance(node, _COMPREHENSIONS):
            scopes = (*scopes, _Scope("<comprehension>", is_class=False))
        elif isinstance(node, ast.Import | ast.ImportFrom) and not scopes:
            imports.update((each.asname or each.name).partition(".")[0] for each in node.names)
        pending += [(child, scopes) for child in ast.iter_child_nodes(node)]
    return _File(lines, places, frozenset(imports))


def _place(node: Any, scopes: tuple[_Scope, ...]) -> _Place:
    first = (getattr(node, "decorator_list", None) or [node])[0]
    return _Place(getattr(node, "name", "<lambda>"), node, first.lineno, scopes)


def _compiles_to(place: _Place, imports: frozenset[str], code: types.CodeType) -> bool:
    """Whether a piece of source gives `code`; the compiler treats imported names in its own way."""
    inner = [code, *_nested(code)]
    names = sorted(imports.intersection(*[[name for each in inner for name in each.co_names]]))
    head: list[ast.stmt] = [ast.Import([ast.alias(name)], lineno=1, col_offset=0) for name in names]
    tree = ast.Module(body=[*head, _wrap(place, code.co_freevars)], type_ignores=[])
    flags = code.co_flags & _FUTURE_FLAGS
    compiled = compile(ast.fix_missing_locations(tree), "", "exec", flags, dont_inherit=True)
    return any(_same(code, each) for each in _nested(compiled))


def _wrap(place: _Place, free: tuple[str, ...]) -> ast.stmt:
    """Return the definition within scopes like its own: names resolve, and mangle, as they did."""
    node = place.node
    statement = ast.Expr(node) if isinstance(node, ast.Lambda) else _undecorated(node)
    outermost = next((scope for scope in place.scopes if not scope.is_class), None)
    for scope in reversed(place.scopes):
        names = free if scope is outermost else ()
        statement = _class(scope, statement) if scope.is_class else _def(scope, names, statement)
    return statement


def _undecorated(node: Any) -> Any:
    fields = {name: getattr(node, name) for name in node._fields}
    return ast.copy_location(type(node)(**{**fields, "decorator_list": []}), node)


def _class(scope: _Scope, statement: ast.stmt) -> ast.stmt:
    source: Any = ast.parse("class _: pass").body[0]
    source.name, source.body = scope.name, [statement]
    return source  # type: ignore[no-any-return]


def _def(scope: _Scope, names: Iterable[str], statement: ast.stmt) -> ast.stmt:
    source: Any = ast.parse("def _(): pass").body[0]
    source.name, source.body = scope.name, [statement]
    source.args.args = [ast.arg(name) for name in names if name != "__class__"]
    return source  # type: ignore[no-any-return]


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


_FUTURE_FLAGS: Final = functools.reduce(
    lambda flags, name: flags | getattr(__future__, name).compiler_flag,
    __future__.all_feature_names,
    0,
)
_NESTED: Final = 0x10
_COMPARED: Final = (
    "co_code",
    "co_name",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
)


def _same(one: Any, other: Any) -> bool:
    """Whether two code objects, or constants in them, are the same but for their places."""
    if isinstance(one, types.CodeType) and isinstance(other, types.CodeType):
        return (
            all(getattr(one, name) == getattr(other, name) for name in _COMPARED)
            and one.co_flags | _NESTED == other.co_flags | _NESTED
            and len(one.co_consts) == len(other.co_consts)
            and all(map(_same, one.co_consts, other.co_consts))
        )
    return type(one) is type(other) and repr(one) == repr(other)


_LEFT_OUT: Final = frozenset({"ctx", "kind", "type_comment"})
_WITH_DOCSTRING: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _normalised(node: Any) -> bytes:
    """Return the source of a definition without places, comments, docstrings and decorators."""
    words: list[str] = []
    _write(_undecorated(node) if isinstance(node, _WITH_DOCSTRING) else node, words.append)
    return " ".join(words).encode("utf-8", "surrogatepass")


def _write(node: Any, write: Callable[[str], object]) -> None:
    """Write a node without empty fields: which there are depends on the version of Python."""
    if isinstance(node, ast.Constant):
        write(hex(node.value) if type(node.value) is int else repr(node.value))
        return
    write(type(node).__name__ + "(")
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if name == "body" and isinstance(node, _WITH_DOCSTRING):
            value = _without_docstring(value)
        if value is None or value == [] or name in _LEFT_OUT:
            continue
        write(name + "=")
        if isinstance(value, list):
            _write_list(value, write)
        elif isinstance(value, ast.AST):
            _write(value, write)
        else:
            write(repr(value))
    write(")")


def _write_list(nodes: list[Any], write: Callable[[str], object]) -> None:
    write("[")
    for node in nodes:
        if isinstance(node, ast.AST):
            _write(node, write)
        else:
            write(repr(node))
    write("]")


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0]
    is_string = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_string and isinstance(first.value.value, str) else body


def _new_identify() -> Callable[[Any], bytes]:
    return CodeSnapshot().identify


register_code(new_identify=_new_identify, is_plain=_is_plain)
