"""What functions hashed to last time, and whether all that went into it is still the same.

Reading code takes some microseconds for each function; a run has less to spare. Most functions use
only constants, other functions of their kind and what is installed. Of these it is remembered where
each value was found, and looking there again tells that nothing was rebound. Whatever can change
without being rebound (a list, a class, a module of the user's) is read anew each time.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._code import CodeHash, CodeSnapshot
from hypernodes.cache._names import read
from hypernodes.cache._origin import foreign_name, is_own_name, is_own_namespace
from hypernodes.cache._uses import absolute

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CodeMemory"]

_MOST: Final = 4096
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_ABSENT: Final = object()


class CodeMemory:
    """Hashes of functions, kept as long as looking shows that they still hold; thread-safe.

    Example:
        >>> memory = CodeMemory()
        >>> memory.describe(len, CodeSnapshot()) == memory.describe(len, CodeSnapshot())
        True
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Any, _Sightings | None, CodeHash]] = OrderedDict()

    def describe(self, function: Callable[..., Any], snapshot: CodeSnapshot) -> CodeHash:
        """Return what `function` hashes to now; see `hash_code`.

        Args:
            function: Any callable.
            snapshot: Reads what has to be read, once for all that share it.
        """
        known = self._known.get(id(function))
        if known is not None and known[1] is not None and known[1].hold():
            return known[2]
        sightings = None if known and known[1] is None else _look_at(function)
        found = snapshot.describe(function)
        self._known[id(function)] = function, sightings, found
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found


class _Sightings:
    """Where values were found.

    Attributes:
        functions: Functions, each with its code and defaults.
        names: Namespaces, each with a name and what it stood for.
        cells: Cells of closures, each with what it held.
    """

    __slots__ = ("cells", "functions", "names")

    def __init__(self) -> None:
        self.functions: list[tuple[types.FunctionType, types.CodeType, Any]] = []
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[types.CellType, Any]] = []

    def hold(self) -> bool:
        """Tell whether everything is still where it was found."""
        for function, code, defaults in self.functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
            if function.__kwdefaults__ or function.__dict__:
                return False
        for namespace, name, value in self.names:
            if namespace.get(name, _ABSENT) is not value:
                return False
        return all(_content(cell) is value for cell, value in self.cells)


def _look_at(root: Any) -> _Sightings | None:
    """Return where all that `root` uses was found, or None where that tells too little."""
    sightings, pending, seen = _Sightings(), [root], set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen or _is_constant(value):
            continue
        seen.add(id(value))
        if not _is_plain_function(value) or not _note(sightings, value, pending):
            return None
    return sightings if sightings.functions else None


def _note(sightings: _Sightings, function: types.FunctionType, pending: list[Any]) -> bool:
    """Note what a function uses; return whether that can be noted."""
    reading = read(function.__code__, CodeSnapshot().identify)
    if reading.is_curious or not _are_foreign(function, reading.imports):
        return False
    sightings.functions.append((function, function.__code__, function.__defaults__))
    pending += function.__defaults__ or ()
    for name, _ in reading.globals:
        value = function.__globals__.get(name, _ABSENT)
        sightings.names.append((function.__globals__, name, value))
        pending.append(value)
    for cell in function.__closure__ or ():
        value = _content(cell)
        sightings.cells.append((cell, value))
        pending.append(value)
    return True


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _are_foreign(function: types.FunctionType, imports: Any) -> bool:
    origins = (absolute(function.__globals__, origin) for _, origin, _ in imports)
    return not any(map(is_own_name, origins))


def _is_plain_function(value: Any) -> bool:
    return (
        type(value) is types.FunctionType
        and not value.__kwdefaults__
        and not value.__dict__
        and is_own_namespace(value.__globals__, value.__code__.co_filename)
    )


def _is_constant(value: Any) -> bool:
    """Return whether `value` counts the same as long as it is the same object."""
    if value is _ABSENT or type(value) in _ATOMS:
        return True
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))
    if type(value) is types.BuiltinFunctionType:
        return isinstance(value.__self__, types.ModuleType)
    kinds = (type, types.FunctionType, types.ModuleType)
    return isinstance(value, kinds) and foreign_name(value) is not None
