"""What a `__cache_key__` can know of an instance that is not built."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import textwrap
import weakref
from pathlib import PurePath
from types import FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._stateful.making import with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNCHANGING: Final = (str, bytes, int, float, complex, type(None), enum.Enum, PurePath)
_IN_AN_ASSIGNMENT: Final = 2
"""How often `self.name = name` says the name."""
_REACHING_SELF: Final = frozenset({"super", "__class__", "locals", "vars", "eval", "exec"})


def sure_attributes(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that an instance is sure to have as attributes, once built.

    Args:
        cls: Its class.
        arguments: By the names of the parameters, without those that are left out.
    """
    given = with_defaults(cls, arguments)
    names = _kept_by(cls, {name for name in given if not isinstance(given[name], _UNCHANGING)})
    return {
        name: given[name]
        for name in names & given.keys()
        if not hasattr(type(inspect.getattr_static(cls, name, None)), "__set__")
    }


def _kept_by(cls: type, changeable: set[str]) -> set[str]:
    """Return the parameters that become attributes as they are, and nothing else."""
    init = inspect.getattr_static(cls, "__init__")
    if not isinstance(init, FunctionType) or vars(init) or not _is_plain(cls):
        return set()
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    if init.__code__.co_filename == "<string>" and "__dataclass_fields__" in vars(owner):
        return _fields(cls, owner)
    if _own(cls, "__setattr__"):
        return set()
    found = _assigned(init)
    if any(inspect.getattr_static(cls, name, cls) is not cls for name in found.asked):
        return set()
    return set(found.names - (changeable - found.untouched))


def _is_plain(cls: type) -> bool:
    return not (_own(type(cls), "__call__") or _own(cls, "__getattribute__"))


def _own(cls: type, name: str) -> bool:
    """Whether a class has a special method that is not Python's."""
    return isinstance(inspect.getattr_static(cls, name), FunctionType)


def _fields(cls: type, owner: Any) -> set[str]:
    is_set_plainly = owner.__dataclass_params__.frozen or not _own(cls, "__setattr__")
    if hasattr(cls, "__post_init__") or not is_set_plainly:
        return set()
    return {field.name for field in dataclasses.fields(owner) if field.init}


class _Assigned(NamedTuple):
    """What an `__init__` does with its parameters.

    Attributes:
        names: Those that it assigns to attributes of the same name, and no more.
        untouched: Those of them that nothing else in it can reach.
        asked: Attributes that it reads: a method or property of the class may change others.
    """

    names: frozenset[str] = frozenset()
    untouched: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()


_known: Final[weakref.WeakKeyDictionary[FunctionType, _Assigned]] = weakref.WeakKeyDictionary()


def _assigned(init: FunctionType) -> _Assigned:
    found = _known.get(init)
    if found is None:
        found = _known[init] = _read(init)
    return found


def _read(init: FunctionType) -> _Assigned:
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(init))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError):
        return _Assigned()
    if not isinstance(definition, ast.FunctionDef) or definition.name != init.__name__:
        return _Assigned()
    if definition.decorator_list or not init.__code__.co_argcount:
        return _Assigned()
    return _Reading(definition, init.__code__.co_varnames[0]).found()


class _Reading:
    """Reads an `__init__`.

    Args:
        definition: It.
        me: What it calls the instance.
    """

    def __init__(self, definition: ast.FunctionDef, me: str) -> None:
        self._plain = [node for node in definition.body if _is_plain_assignment(node, me)]
        self._nodes = [node for line in definition.body for node in ast.walk(line)]
        self._of_me = [
            node
            for node in self._nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == me
        ]
        self._me = me

    def found(self) -> _Assigned:
        if self._has_tricks():
            return _Assigned()
        plain = {node.value.id for node in self._plain}  # type: ignore[attr-defined]
        set_once = {name for name in plain if self._count_set(name) == 1}
        names = frozenset(set_once - self._bound())
        return _Assigned(
            names,
            frozenset(name for name in names if self._count(name) == _IN_AN_ASSIGNMENT),
            frozenset(node.attr for node in self._of_me if isinstance(node.ctx, ast.Load)),
        )

    def _has_tricks(self) -> bool:
        """Whether something else gets hold of the instance, or `__init__` ends early."""
        names = [node.id for node in self._nodes if isinstance(node, ast.Name)]
        reached = names.count(self._me) != len(self._of_me)
        return (
            reached
            or not _REACHING_SELF.isdisjoint(names)
            or any(isinstance(node, ast.Return) for node in self._nodes)
        )

    def _count_set(self, name: str) -> int:
        return sum(node.attr == name and not isinstance(node.ctx, ast.Load) for node in self._of_me)

    def _count(self, name: str) -> int:
        named = sum(isinstance(node, ast.Name) and node.id == name for node in self._nodes)
        return named + sum(node.attr == name for node in self._of_me)

    def _bound(self) -> set[str]:
        """Return the names to which it gives other values, by whichever statement."""
        stored = {
            node.id
            for node in self._nodes
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }
        others = (getattr(n, key, None) for n in self._nodes for key in ("name", "asname", "rest"))
        return stored | {name.partition(".")[0] for name in others if isinstance(name, str)}


def _is_plain_assignment(node: ast.stmt, me: str) -> bool:
    """Whether it says `self.name = name`."""
    match node:
        case (
            ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id=of), attr=name)],
                value=ast.Name(id=value),
            )
            | ast.AnnAssign(
                target=ast.Attribute(value=ast.Name(id=of), attr=name), value=ast.Name(id=value)
            )
        ):
            return of == me and name == value
    return False


class Seen:
    """An instance as its `__cache_key__` sees it: not built, with the sure ones of its attributes.

    What else it asks for is found in the class, or else has the instance built.
    """

    __slots__ = ("__instance", "__sure")

    def __init__(self, instance: Any, sure: Mapping[str, Any]) -> None:
        self.__instance = instance
        self.__sure = sure

    def __cache_key__(self) -> Any:
        """Return what the class says, who knows nothing of this."""
        try:
            return self.__class__.__cache_key__(self)
        except Exception:  # noqa: BLE001 - where it minds, the instance itself has the last word
            return self.__built().__cache_key__()

    def __built(self) -> Any:
        _ = self.__instance.__dict__
        return self.__instance

    @property  # type: ignore[misc] # `super()` goes by it
    def __class__(self) -> Any:
        return self.__instance.__class__

    @property
    def __dict__(self) -> Any:  # type: ignore[override] # `vars()` goes by it
        return self.__instance.__dict__

    def __getattr__(self, name: str) -> Any:
        if name in self.__sure:
            return self.__sure[name]
        cls = self.__instance.__class__
        member = inspect.getattr_static(cls, name, self)
        if isinstance(member, functools.cached_property):
            return member.func(self)
        if member is self or type(member) is MemberDescriptorType:
            return getattr(self.__built(), name)
        bind = getattr(type(member), "__get__", None)
        return member if bind is None else bind(member, self, cls)

    def __repr__(self) -> str:
        return repr(self.__built())

    def __str__(self) -> str:
        return str(self.__built())

    def __hash__(self) -> int:
        return hash(self.__built())

    def __eq__(self, other: object) -> bool:
        return bool(self.__built() == other)

    def __bool__(self) -> bool:
        return bool(self.__built())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__built().__reduce_ex__(protocol)
