"""The names that a code object looks up, and what of each; a code object is read only once."""

from __future__ import annotations

import types
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._bytecode import ImportedName, actions, describe_bytecode, texts, words
from hypernodes.cache._encoding import digest
from hypernodes.cache._source import find_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypernodes.cache._walk import Identify

__all__ = ["Chains", "Reading", "read", "read_bytecode"]

Chains = tuple[tuple[str, ...], ...]


class Reading(NamedTuple):
    """What is to know about a code object: it does not change.

    Attributes:
        own: What its source, or its bytecode, hashes to.
        globals: The global names that are looked up, each with the attributes looked up in it.
        locals: The same for names of enclosing functions.
        imports: The same for what is imported in the body, with its origin; some have several.
        is_curious: Whether docstrings or annotations are looked at.
    """

    own: bytes
    globals: tuple[tuple[str, Chains], ...]
    locals: tuple[tuple[str, Chains], ...]
    imports: tuple[tuple[str, ImportedName, Chains], ...]
    is_curious: bool


_readings: dict[int, tuple[weakref.ref[types.CodeType], Reading]] = {}


def read(code: types.CodeType, identify: Identify) -> Reading:
    """Return what is to know about `code`.

    Args:
        code: A code object of the user's own.
        identify: What definitions hash to that are constants in it.
    """
    # By identity: code objects that are equal may still differ in annotations.
    known = _readings.get(id(code))
    if known is not None and known[0]() is code:
        return known[1]
    key = id(code)
    reading = _read_anew(code, identify)
    _readings[key] = weakref.ref(code, lambda _: _readings.pop(key, None)), reading
    return reading


def read_bytecode(code: types.CodeType, identify: Identify) -> Reading:
    """Return what `read` does, by the bytecode also where there is a source.

    Args:
        code: As for `read`.
        identify: As for `read`.
    """
    own = digest(b"bytecode", describe_bytecode(code, identify))
    return read(code, identify)._replace(own=own)


def _read_anew(code: types.CodeType, identify: Identify) -> Reading:
    source = find_source(code)
    if source is None:
        own = digest(b"bytecode", describe_bytecode(code, identify))
    else:
        own = digest(b"source", source)
    lookups = _Lookups()
    lookups.scan(code)
    lookups.scan_texts(code)
    return Reading(own, *lookups.sorted(code.co_freevars), lookups.is_curious)


_WHOLE: Final = frozenset({()})
_DOCUMENTATION: Final = frozenset(
    {"__annotations__", "__doc__", "get_annotations", "get_type_hints", "getdoc", "signature"}
)
_IMPORTERS: Final = frozenset({"__import__", "import_module", "modules"})
_BY_TEXT: Final = frozenset({"eval", "exec", "globals"})


class _Lookups:
    """The names that a code object, and those inside it, look up."""

    def __init__(self) -> None:
        self._globals: dict[str, set[tuple[str, ...]]] = {}
        self._locals: dict[str, set[tuple[str, ...]]] = {}
        self._imports: set[tuple[str, ImportedName]] = set()
        self.is_curious = False

    def scan(self, code: types.CodeType) -> None:
        if code.co_names:
            self._scan_instructions(code)
        else:
            for name in code.co_freevars:
                self._locals.setdefault(name, set()).add(())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.scan(constant)

    def scan_texts(self, code: types.CodeType) -> None:
        """Take each word of a text for a global name, if texts may name some."""
        if _BY_TEXT.isdisjoint(self._globals):
            return
        for name in words(texts(code)):
            self._globals.setdefault(name, set()).add(())

    def sorted(self, free: tuple[str, ...]) -> tuple[Any, Any, Any]:
        """Return globals, names in `free`, and imports, each in an order of their own."""
        imports = []
        for name, origin in sorted(self._imports):
            chains = self._locals.get(name, set()) | self._globals.get(name, set())
            imports.append((name, origin, tuple(sorted(chains or _WHOLE))))
        names = [(name, tuple(sorted(self._globals[name]))) for name in sorted(self._globals)]
        cells = [(name, tuple(sorted(self._locals.get(name, {()})))) for name in sorted(free)]
        return tuple(names), tuple(cells), tuple(imports)

    def _scan_instructions(self, code: types.CodeType) -> None:
        statement = ImportedName("", 0, "", is_top=False)
        pending: ImportedName | None = None
        called = ""
        for action, argument, chain in _chained(code):
            self._look_for_documentation(action, argument, chain)
            if called in _IMPORTERS and not action and isinstance(argument, str):
                self._import_literally(argument)
            if argument is not None:
                called = chain[-1] if chain else argument
            if action in ("global", "local"):
                found = self._globals if action == "global" else self._locals
                found.setdefault(argument, set()).add(chain)
            elif action == "import":
                statement = pending = argument
            elif action == "member":
                # `import a.b as c` also takes b from a, but names a.b itself.
                member = "" if statement.is_top else argument
                pending = statement._replace(member=member, is_top=False)
            elif action == "store" and pending is not None:
                self._imports.add((argument, pending))
                pending = None

    def _look_for_documentation(self, action: str, argument: Any, chain: tuple[str, ...]) -> None:
        looked_up = {*chain, *([argument] if action != "store" and _is_text(argument) else ())}
        self.is_curious = self.is_curious or not _DOCUMENTATION.isdisjoint(looked_up)

    def _import_literally(self, module: str) -> None:
        """Note the module that `import_module("...")` gives: what is used of it is not known."""
        level = len(module) - len(module.lstrip("."))
        name = f"import {module}"
        self._imports.add((name, ImportedName(module[level:], level, "", is_top=False)))


def _is_text(argument: Any) -> bool:
    return isinstance(argument, str)


def _chained(code: types.CodeType) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yield actions, each with the attributes that are looked up in what it gives."""
    action, argument = "", None
    chain: tuple[str, ...] = ()
    for verb, name in actions(code):
        if verb == "attribute":
            chain = (*chain, name)
        else:
            yield action, argument, chain
            action, argument, chain = verb, name, ()
    yield action, argument, chain
