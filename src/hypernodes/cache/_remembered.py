"""What functions hashed to last time, and whether all that went into it is still the same.

Reading code takes some microseconds for each function; a run has less to spare. Most functions use
only constants, other functions of their kind and what is installed. Of these it is remembered where
each value was found, and looking there again tells that nothing was rebound. Whatever can change
without being rebound (a list, a class, a module of the user's) is read anew each time.
"""

from __future__ import annotations

import types
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._code import CodeHash, CodeSnapshot
from hypernodes.cache._names import read
from hypernodes.cache._origin import foreign_name, is_own_name, is_own_namespace
from hypernodes.cache._uses import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CodeMemory"]

_MOST: Final = 4096
_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_ABSENT: Final = object()
_GONE: Final = object()


class CodeMemory:
    """Hashes of functions, kept as long as looking shows that they still hold; thread-safe.

    It keeps no function alive.

    Example:
        >>> memory = CodeMemory()
        >>> memory.describe(len, CodeSnapshot()) == memory.describe(len, CodeSnapshot())
        True
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def describe(self, function: Callable[..., Any], snapshot: CodeSnapshot) -> CodeHash:
        """Return what `function` hashes to now; see `hash_code`.

        Args:
            function: Any callable.
            snapshot: Reads what has to be read, once for all that share it.
        """
        known = self._known.get(id(function))
        if known is not None and known.function() is function:
            if known.sightings is not None and known.sightings.hold():
                return known.found
            is_hopeless = known.sightings is None
        else:
            is_hopeless = False
        sightings = None if is_hopeless else _look_at(function)
        found = snapshot.describe(function)
        self._keep(function, sightings, found)
        return found

    def _keep(self, function: Any, sightings: _Sightings | None, found: CodeHash) -> None:
        key = id(function)
        try:
            alive = weakref.ref(function, lambda _: self._known.pop(key, None))
        except TypeError:  # an object with slots
            return
        self._known[key] = _Known(alive, sightings, found)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


class _Sighting(NamedTuple):
    """What one function uses, and where it was found.

    What could lead back to the function is not kept alive.

    Attributes:
        function: The function.
        code: Its code.
        defaults: Its defaults.
        values: Global names, each with what it stood for.
        helpers: Global names, each with the user's function that it stood for.
        cells: What its closure held.
    """

    function: weakref.ref[types.FunctionType]
    code: types.CodeType
    defaults: tuple[Any, ...] | None
    values: list[tuple[str, Any]]
    helpers: list[tuple[str, weakref.ref[Any]]]
    cells: list[Any]

    def holds(self) -> bool:
        """Tell whether everything is still where it was found."""
        alive, code, defaults, values, helpers, cells = self
        function = alive()
        if function is None or function.__code__ is not code:
            return False
        if function.__defaults__ is not defaults or function.__kwdefaults__ or function.__dict__:
            return False
        space = function.__globals__
        for name, value in values:
            if space.get(name, _ABSENT) is not value:
                return False
        for name, helper in helpers:
            if space.get(name, _ABSENT) is not (helper() or _GONE):
                return False
        return not cells or _are_there(cells, function.__closure__ or ())


def _are_there(held: Sequence[Any], cells: Sequence[types.CellType]) -> bool:
    for value, cell in zip(held, cells, strict=True):
        expected = (value() or _GONE) if type(value) is weakref.ReferenceType else value
        if _content(cell) is not expected:
            return False
    return True


def _sighting(function: types.FunctionType, names: Iterable[str]) -> _Sighting:
    found = [(name, function.__globals__.get(name, _ABSENT)) for name in names]
    return _Sighting(
        weakref.ref(function),
        function.__code__,
        function.__defaults__,
        [(name, value) for name, value in found if type(value) is not types.FunctionType],
        [(name, weakref.ref(value)) for name, value in found if type(value) is types.FunctionType],
        [_held(_content(cell)) for cell in function.__closure__ or ()],
    )


def _held(value: Any) -> Any:
    return weakref.ref(value) if type(value) is types.FunctionType else value


class _Sightings(list[_Sighting]):
    """What all functions use that a function uses, itself among them."""

    def hold(self) -> bool:
        """Tell whether everything is still where it was found."""
        return all(map(_Sighting.holds, self))


class _Known(NamedTuple):
    """What is remembered of a function.

    Attributes:
        function: The function.
        sightings: What it uses; None where that tells too little.
        found: What it hashed to.
    """

    function: weakref.ref[Any]
    sightings: _Sightings | None
    found: CodeHash


def _look_at(root: Any) -> _Sightings | None:
    """Return where all that `root` uses was found, or None where that tells too little."""
    sightings, pending, seen = _Sightings(), [root], set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen or _is_constant(value):
            continue
        seen.add(id(value))
        if not _is_plain_function(value):
            return None
        reading = read(value.__code__, CodeSnapshot().identify)
        if reading.is_curious or not _are_foreign(value, reading.imports):
            return None
        names = [name for name, _ in reading.globals]
        sightings.append(_sighting(value, names))
        pending += value.__defaults__ or ()
        pending += [value.__globals__.get(name, _ABSENT) for name in names]
        pending += [_content(cell) for cell in value.__closure__ or ()]
    return sightings or None


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
    return issubclass(type(value), kinds) and foreign_name(value) is not None
