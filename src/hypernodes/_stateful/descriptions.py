"""What instances are made of, kept beside them."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

import cloudpickle

from hypernodes._apart import check
from hypernodes._handles import may_be_in
from hypernodes._home import loads_at_home
from hypernodes._stateful.making import by_name, plainly

Key = tuple[type, bytes]


class Description:
    """What an instance is made of.

    Args:
        cls: Its class.
        arguments: Positional and keyword arguments, or their pickle.
        is_native: Whether it comes from this process.

    Attributes:
        lock: Held while it is built.
        is_built: Whether it is.
        error: Why it could not be built, for `__getattr__`, which is asked right after that.
    """

    def __init__(
        self, cls: type, arguments: tuple[Any, Any] | bytes, *, is_native: bool = True
    ) -> None:
        self.cls = cls
        self.lock = threading.RLock()
        self.is_built = False
        self.error: AttributeError | None = None
        self.is_native = is_native
        self._live = None if isinstance(arguments, bytes) else arguments
        self._taken = arguments if isinstance(arguments, bytes) else None

    @property
    def arguments(self) -> Any:
        """Positional and keyword arguments, as they were when they were taken down."""
        live, taken = self._live, self._taken  # in this order: another thread may take them down
        return live if taken is None else loads_at_home(taken)

    @property
    def key(self) -> Key:
        """What equal descriptions have in common in this process; takes the arguments down.

        Raises:
            TypeError: An argument cannot be pickled.
        """
        live, taken = self._live, self._taken
        if taken is None:
            taken = self._taken = _taken_down(self.cls, live)
            self._live = None
        return self.cls, taken

    def is_sent_as(self, key: Key) -> bool:
        """Whether it was taken down with this key."""
        return (self.cls, self._taken) == key

    def made(self) -> Any:
        """Return a new instance, built."""
        args, kwargs = self.arguments
        with suppress(Exception):  # what cannot be pickled may still be used here
            _ = self.key  # before `__init__` can change the arguments
        made = plainly(self.cls, args, kwargs)
        if type(made) is not self.cls:
            message = (
                f"__new__ of {self.cls.__qualname__} gave {made!r}, which is no instance of it"
            )
            raise TypeError(message)
        return made

    def __str__(self) -> str:
        args, kwargs = self.arguments
        named = (f"{name}={value!r}" for name, value in kwargs.items())
        return f"{self.cls.__qualname__}({', '.join([*map(repr, args), *named])})"


def _taken_down(cls: type, arguments: Any) -> bytes:
    try:
        return _pickled(arguments)
    except Exception as error:
        for name, value in by_name(cls, *arguments).items():
            _check_travels(cls, name, value, error)
        raise


def _pickled(value: Any) -> bytes:
    taken = cloudpickle.dumps(value)
    if may_be_in(taken):
        check(value)
    return cast("bytes", taken)


def _check_travels(cls: type, name: str, value: Any, error: Exception) -> None:
    try:
        _pickled(value)
    except Exception:  # noqa: BLE001 - the value's own code ran, it may raise anything
        message = f"argument {name!r} of {cls.__qualname__}(...) cannot be pickled: {error}"
        raise TypeError(message) from error


class _Entry(NamedTuple):
    """An instance, referred to weakly, and its description."""

    instance: weakref.ref[Any]
    description: Description


_entries: Final[dict[int, _Entry]] = {}
"""By the identity of instances: these may be neither hashed nor given an attribute."""


def describe(instance: Any, description: Description) -> None:
    """Say what an instance is made of."""
    key = id(instance)
    reference = weakref.ref(instance, lambda _: _entries.pop(key, None))
    _entries[key] = _Entry(reference, description)


def described(instance: Any) -> Description:
    """Return what an instance is made of."""
    return _entries[id(instance)].description


def description_of(instance: Any) -> Description | None:
    """Return what an instance is made of, or None where nobody has said it."""
    entry = _entries.get(id(instance))
    return None if entry is None else entry.description


def known(identity: int, key: Key) -> Any:
    """Return the instance of this identity and description, or None if it is gone."""
    entry = _entries.get(identity)
    if entry is None or not entry.description.is_sent_as(key):
        return None
    return entry.instance()
