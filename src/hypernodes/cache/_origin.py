"""Whose a thing is: the user's, or by which name and version of what package it is known."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "foreign_name",
    "function_name",
    "is_own_class",
    "is_own_module",
    "is_own_name",
    "is_own_namespace",
    "is_plain",
    "module_name",
    "package_name",
    "version",
]

_THIS_PACKAGE: Final = __name__.partition(".")[0]
_STDLIB: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120  # pathlib is slow to import
_HEAP_TYPE: Final = 1 << 9
_STATELESS: Final = frozenset(
    {
        "abc.ABC",
        "builtins.object",
        "typing.Generic",
        "typing.Protocol",
        "typing_extensions.Protocol",
    }
)


@functools.lru_cache(maxsize=4096)
def _is_own_file(filename: str) -> bool:
    if filename.startswith(("<frozen ", _STDLIB)):
        return False
    path = filename.replace("\\", "/")
    return "/site-packages/" not in path and "/dist-packages/" not in path


def is_own_namespace(namespace: Mapping[str, Any], filename: str | None = None) -> bool:
    """Whether a module, given by what is in it, is the user's.

    `__main__` always is: in a worker or a notebook its file is the launcher's.

    Args:
        namespace: The module's variables.
        filename: Where the code comes from, for a module without a file.
    """
    top = package_name(str(namespace.get("__name__", "")))
    if top in (_THIS_PACKAGE, "__main__"):
        return top == "__main__"
    file = namespace.get("__file__") or filename
    return _is_own_file(file) if isinstance(file, str) else top not in sys.stdlib_module_names


def is_own_module(value: Any) -> bool:
    """Whether a value is a module of the user's."""
    # By its type: `isinstance` would ask the value, whose answer may be anything.
    return issubclass(type(value), types.ModuleType) and is_own_namespace(vars(value))


def is_own_name(module: str) -> bool:
    """Whether the module of this name is the user's; it is not imported to find out."""
    top = package_name(module)
    known = sys.modules.get(top)
    if known is not None:
        return is_own_module(known)
    try:
        spec = importlib.import_module("importlib.util").find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None or top == _THIS_PACKAGE:
        return False
    # Where it would be loaded from decides: a user's module may be named like one of Python's. Of
    # a package that lies in several places, parts may be the user's.
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
    return any(_is_own_file(f"{place}/") for place in places)


def is_plain(cls: type) -> bool:
    """Whether `cls` and all its bases are written in Python, by the user."""
    return all(
        f"{module_name(base)}.{base.__qualname__}" in _STATELESS or is_own_class(base)
        for base in cls.__mro__
    )


def is_own_class(cls: type) -> bool:
    """Whether `cls` is written in Python, by the user."""
    module = sys.modules.get(module_name(cls))
    if module is not None and not is_own_namespace(vars(module)):
        return False
    file = getattr(module, "__file__", None) or ""
    return (not file or file.endswith((".py", ".pyc"))) and bool(cls.__flags__ & _HEAP_TYPE)


def module_name(cls: type) -> str:
    """Return the module of a class; some compiled ones have a descriptor in that place."""
    module: object = cls.__module__
    return module if isinstance(module, str) else ""


def package_name(module: str) -> str:
    """Return the top of the dotted name of a module."""
    return module.partition(".")[0]


def foreign_name(definition: Any) -> tuple[str, ...] | None:
    """Return kind, module, qualified name and version of what is not the user's, else None."""
    if isinstance(definition, types.FunctionType):
        return _foreign_function(definition)
    if isinstance(definition, type):
        return _foreign_class(definition)
    if isinstance(definition, types.ModuleType):
        own = is_own_module(definition)
        return None if own else ("module", definition.__name__, "", version(definition.__name__))
    if isinstance(definition, types.CodeType):
        return None
    owner = definition.__self__
    module = owner.__name__ if owner is not None else definition.__module__ or "builtins"
    return "builtin", module, definition.__qualname__, version(module)


def _foreign_function(function: types.FunctionType) -> tuple[str, ...] | None:
    if is_own_namespace(function.__globals__, function.__code__.co_filename):
        return None
    if function.__closure__ or hasattr(function, "__wrapped__"):
        return None
    return function_name(function)


def function_name(function: types.FunctionType) -> tuple[str, ...]:
    """Return kind, module, qualified name, version and, where that is needed, line."""
    module = str(function.__globals__.get("__name__", ""))
    code = function.__code__
    # Of several lambdas in one module the line tells which; the version pins the file.
    line = str(code.co_firstlineno) if "<" in code.co_qualname else ""
    return "function", module, code.co_qualname, version(module), line


def _foreign_class(cls: type) -> tuple[str, ...] | None:
    """Return the name of a class of somebody else's, if that leads to it.

    It does not for what the user has made with somebody else's factory, such as `make_dataclass`.
    """
    name = module_name(cls)
    module = sys.modules.get(name)
    if is_own_namespace(vars(module)) if module is not None else is_own_name(name):
        return None
    if cls.__flags__ & _HEAP_TYPE and _find(module, cls.__qualname__) is not cls:
        return None
    return "class", name, cls.__qualname__, version(name)


def _find(module: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        module = getattr(module, name, None)
    return module


def version(module: str) -> str:
    """Return the version of what the module of this name came with; empty for Python's own."""
    return _package_version(package_name(module))


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
