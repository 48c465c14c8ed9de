"""What a definition of the user's own is by itself, and the values that it uses now."""

from __future__ import annotations

import enum
import importlib
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._bytecode import texts, words
from hypernodes.cache._encoding import digest
from hypernodes.cache._names import Chains, Reading
from hypernodes.cache._names import read as read_source
from hypernodes.cache._origin import (
    function_name,
    is_own_module,
    is_own_name,
    is_own_namespace,
    module_name,
    package_name,
    version,
)
from hypernodes.cache._parts import DESCRIBED

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes.cache._bytecode import ImportedName
    from hypernodes.cache._walk import Identify

    Read = Callable[[types.CodeType, Identify], Reading]

__all__ = ["Contents", "absolute", "contents", "documentation"]

Uses = Iterable[tuple[str, Any]]


class Contents(NamedTuple):
    """What a definition is made of.

    Attributes:
        own: What it is by itself.
        uses: The names and values that it uses.
        is_curious: Whether it looks at docstrings or annotations.
    """

    own: bytes
    uses: Uses
    is_curious: bool = False


def contents(definition: Any, identify: Identify, read: Read = read_source) -> Contents:
    """Return what a definition is made of.

    Args:
        definition: A function, class, module or code object.
        identify: What definitions hash to that are constants in bytecode.
        read: Reads code objects.
    """
    if isinstance(definition, types.FunctionType):
        if is_own_namespace(definition.__globals__, definition.__code__.co_filename):
            reading = read(definition.__code__, identify)
            uses = _function_uses(definition, reading)
            return Contents(reading.own, uses, reading.is_curious)
        name = [part.encode() for part in function_name(definition)]
        return Contents(digest(b"wrapper", *name), _wrapped(definition))
    if isinstance(definition, type):
        return Contents(digest(b"class", definition.__name__.encode()), _class_uses(definition))
    if isinstance(definition, types.CodeType):
        reading = read(definition, identify)
        return Contents(reading.own, (), reading.is_curious)
    return Contents(b"module", _module_uses(definition))


def documentation(definition: Any) -> Iterator[tuple[str, Any]]:
    """Yield what else there is to use where somebody looks at docstrings and annotations.

    Those inside a function are among its texts. Docstrings of classes always count.
    """
    if isinstance(definition, types.FunctionType):
        yield "__doc__", definition.__doc__
        yield "__texts__", texts(definition.__code__)
        yield "__annotations__", list(_annotations(definition).items())
        yield from _named_in_annotations(definition, definition.__globals__)
    elif isinstance(definition, type):
        yield from _named_in_annotations(definition, _namespace(definition))
    elif isinstance(definition, types.CodeType):
        yield "__texts__", texts(definition)
    else:
        yield "__doc__", definition.__doc__


def _named_in_annotations(definition: Any, namespace: Mapping[str, Any]) -> Uses:
    written = [each for each in _annotations(definition).values() if isinstance(each, str)]
    return [(name, namespace[name]) for name in words(written) if name in namespace]


def _namespace(cls: type) -> Mapping[str, Any]:
    return getattr(sys.modules.get(module_name(cls)), "__dict__", {})


def _function_uses(function: types.FunctionType, reading: Reading) -> Iterator[tuple[str, Any]]:
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
    # All of them first: one may be a part of what another one names.
    imported = [_imported(function.__globals__, origin) for _, origin, _ in reading.imports]
    for (name, _, chains), value in zip(reading.imports, imported, strict=True):
        yield from _follow(name, value, chains)


def _defaults(function: types.FunctionType, defaults: tuple[Any, ...]) -> Uses:
    code = function.__code__
    return zip(code.co_varnames[code.co_argcount - len(defaults) :], defaults, strict=False)


def _attributes(function: types.FunctionType) -> Uses:
    return [(f".{name}", value) for name, value in vars(function).items()]


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
        # It comes from functools.singledispatch, whose closure has a cache.
        yield "__registry__", function.registry
    else:
        yield "__closure__", tuple(_cells(function).items())
    yield "__wrapped__", getattr(function, "__wrapped__", None)
    yield "__defaults__", (function.__defaults__, function.__kwdefaults__)


def _follow(name: str, value: Any, chains: Chains) -> Iterator[tuple[str, Any]]:
    """Yield what is used of `value`: of a module of the user's, only what is looked up in it."""
    if not is_own_module(value):
        yield name, value
        return
    found = dict(_last(name, value, chain) for chain in chains)
    yield from sorted(found.items(), key=lambda use: use[0])


def _last(name: str, value: Any, chain: tuple[str, ...]) -> tuple[str, Any]:
    """Return the first thing along `chain` that is no module of the user's own, and its name."""
    for attribute in chain:
        if not is_own_module(value):
            break
        name = f"{name}.{attribute}"
        try:
            value = _member(value, attribute)
        except _FailingError as error:
            return name, digest(b"failing", error.text)
        except Exception:  # noqa: BLE001  # a module may have a __getattr__ of its own
            return name, "absent"
    return name, value


_GENERATED: Final = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__",
        "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__dict__",
        "__doc__", "__firstlineno__", "__match_args__", "__module__", "__orig_bases__",
        "__parameters__", "__qualname__", "__slotnames__", "__static_attributes__", "__weakref__",
        "_abc_impl",
    }
)  # fmt: skip
_FUNCTIONS: Final = (types.FunctionType, staticmethod, classmethod, property)


def _class_uses(cls: type) -> Iterator[tuple[str, Any]]:
    yield "__bases__", cls.__bases__
    if type(cls) is not type:
        yield "__class__", type(cls)
    yield "__annotations__", list(_annotations(cls).items())
    yield "__doc__", _docstring(cls)
    yield from _fields(cls)
    prefix = cls.__name__
    for name, member in _members(cls):
        yield f"{prefix}.{name}", member


def _docstring(cls: type) -> Any:
    """Return the docstring, unless dataclasses have made it of what counts by itself."""
    text = vars(cls).get("__doc__")
    head = f"{cls.__name__}("
    if not isinstance(text, str) or not text.startswith(head) or not hasattr(cls, _DATACLASS):
        return text
    if cls not in _generated:
        made = f"{cls.__name__}{importlib.import_module('inspect').signature(cls)}"
        _generated[cls] = made.replace(" -> None", "")
    return None if text == _generated[cls] else text


# What dataclasses make for docstrings of classes; it takes long to find out.
_generated: Final[weakref.WeakKeyDictionary[type, str]] = weakref.WeakKeyDictionary()


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the members that count, in an order of their own; that of an enum's means something."""
    if isinstance(cls, enum.EnumType):
        yield "__members__", list(cls.__members__)
    for name, member in sorted(vars(cls).items(), key=lambda item: item[0]):
        if name not in _GENERATED and _counts(cls, name, member):
            yield name, member


def _counts(cls: type, name: str, member: Any) -> bool:
    """Whether a member of a class is the user's doing, and not that of a base or a decorator."""
    if name in _OF_STATEFUL and DESCRIBED in vars(cls):
        return False
    if issubclass(type(member), _FUNCTIONS):
        return not _is_generated(member)
    if type(member) in (types.MemberDescriptorType, types.GetSetDescriptorType):
        return False
    if name.startswith("__pydantic_") or name == "__signature__":
        return not hasattr(cls, "__pydantic_fields__")
    is_name_of_enum = name[:1] == name[-1:] == "_" and name[:2] != "__"
    return not (is_name_of_enum and isinstance(cls, enum.EnumType))


# What `@stateful` puts into a class.
_OF_STATEFUL: Final = frozenset({DESCRIBED, "__new__", "__reduce_ex__", "__signature__"})


def _is_generated(member: Any) -> bool:
    """Whether a function was made by dataclasses, namedtuple or attrs, out of fields that count."""
    function = getattr(member, "__wrapped__", member)
    code = getattr(function, "__code__", None)
    return code is not None and bool(
        code.co_qualname.startswith("__create_fn__.")
        or code.co_filename.startswith("<attrs generated")
        or function.__globals__.get("__name__", "").startswith("namedtuple_")
    )


def _annotations(definition: Any) -> Mapping[str, Any]:
    """Return the annotations of a class, without those of its bases, or of a function."""
    if sys.version_info >= (3, 14):
        library = importlib.import_module("annotationlib")
        return library.get_annotations(definition, format=library.Format.FORWARDREF)  # type: ignore[no-any-return]
    is_class = isinstance(definition, type)
    found = vars(definition).get("__annotations__") if is_class else definition.__annotations__
    return found if isinstance(found, dict) else {}


_DATACLASS: Final = "__dataclass_params__"
_FIELD_FLAGS: Final = ("init", "repr", "hash", "compare", "kw_only")


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what dataclasses and pydantic have put away of a class's body."""
    members = vars(cls)
    for name, field in members.get("__dataclass_fields__", {}).items():
        flags = [getattr(field, flag) for flag in _FIELD_FLAGS]
        facts = field.default, field.default_factory, flags, field.metadata
        yield f"{cls.__name__}.{name}", facts
    if _DATACLASS in members:
        yield _DATACLASS, repr(members[_DATACLASS])
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


def _imported(namespace: Mapping[str, Any], origin: ImportedName) -> Any:
    """Return what an import in a function's body gives; for what is not the user's, its version."""
    module = absolute(namespace, origin)
    if not is_own_name(module):
        return f"{module} {version(module)}"
    try:
        value = _load(module)
        if origin.is_top:
            return sys.modules[package_name(module)]
        return _member(value, origin.member) if origin.member else value
    except _FailingError as error:
        return digest(b"failing", error.text)
    except Exception:  # noqa: BLE001  # a module may have a __getattr__ of its own
        return "absent"


class _FailingError(ImportError):
    """A module that cannot be imported.

    Args:
        text: What its file holds; empty where there is none.
    """

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


_failing: Final[set[tuple[str, bytes]]] = set()


def _load(module: str) -> Any:
    """Return the module of this name; what has failed is not tried again unless it was edited."""
    parent = module.rpartition(".")[0]
    if parent:
        _load(parent)
    if module in sys.modules:
        return importlib.import_module(module)
    text = _text_of(module)
    if (module, text) not in _failing:
        try:
            return importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # the module's own code ran: it may even exit
            _failing.add((module, text))
    raise _FailingError(text)


def _text_of(module: str) -> bytes:
    spec = importlib.import_module("importlib.util").find_spec(module)
    if spec is None or not spec.has_location:
        return b""
    with open(spec.origin, "rb") as file:  # noqa: PTH123  # pathlib is slow to import
        return bytes(file.read())


def absolute(namespace: Mapping[str, Any], origin: ImportedName) -> str:
    """Return the full name of the module that an import in a function's body means."""
    if not origin.level:
        return origin.module
    package = namespace.get("__package__") or namespace.get("__name__", "").rpartition(".")[0]
    parent = package.split(".")[: len(package.split(".")) - origin.level + 1]
    return ".".join([*parent, *filter(None, [origin.module])])


def _member(module: Any, name: str) -> Any:
    """Return what a module has under a name; it may be a part that is imported only later."""
    if not hasattr(module, name):
        _load(f"{module.__name__}.{name}")
    return getattr(module, name)
