"""Tables of calls: for each event who is called with what, in order, compiled once per set."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakValueDictionary

from hypernodes._dispatch.forms import read_callback
from hypernodes._dispatch.needs import (
    ITEM_EVENTS,
    MAP_EVENTS,
    SETTING,
    Needs,
    identities,
)
from hypernodes._dispatch.plugins import REGISTRY
from hypernodes._dispatch.reads import VALUES, values_read
from hypernodes._dispatch.specs import WRAPPER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypernodes._dispatch.forms import Observer
    from hypernodes._dispatch.needs import Events
    from hypernodes._dispatch.specs import Hook


class Call(NamedTuple):
    """One call for one event.

    Attributes:
        invoke: Takes all that the event has, by position.
        observer: Whose hook it is.
        hook: The hook's name.
        policy: What happens when it fails.
        later: Whether a background thread makes the call.
    """

    invoke: Callable[..., Any]
    observer: Observer
    hook: str
    policy: str
    later: bool


class Table:
    """The calls for all events, for one set of callbacks.

    Args:
        observers: Who observes.
        policy: What a failing one does that does not say itself.

    Attributes:
        needs: What is listened to and read.
        travellers: The calls that are made where nodes run.
    """

    def __init__(self, observers: tuple[Observer, ...], policy: str) -> None:
        ordered = sorted(observers, key=lambda observer: (observer.order, not observer.is_plugin))
        calls: dict[str, list[Call]] = defaultdict(list)
        for observer in ordered:
            for name, hook in observer.hooks.items():
                own = observer.errors or policy
                later = observer.async_mode and name not in {WRAPPER, SETTING}
                calls[name].append(Call(hook.call, observer, name, own, later))
        around, before = calls.pop(WRAPPER, []), calls.pop(SETTING, [])
        self.travellers: tuple[Call, ...] = (*around, *before)
        self._calls: Mapping[str, tuple[Call, ...]] = {n: tuple(c) for n, c in calls.items()}
        events, inside = _asked(ordered), _asked(ordered, inside=True)
        wrappers, settings = (tuple(call.invoke for call in calls) for calls in (around, before))
        self.needs: Needs = Needs(events, wrappers, settings, inside)

    def calls(self, hook: str) -> tuple[Call, ...]:
        """Return the calls for an event, in order."""
        return self._calls.get(hook, ())


def _asked(observers: list[Observer], *, inside: bool = False) -> Events:
    """Return the hooks that there are, or that matter inside of items, with what they read."""
    asked: dict[str, frozenset[str]] = {}
    for observer in observers:
        for name, hook in observer.hooks.items():
            if not (inside and observer.is_overview and name not in MAP_EVENTS | ITEM_EVENTS):
                asked[name] = asked.get(name, frozenset()) | _values_of(hook, observer.reads)
    return frozenset(asked.items())


def _values_of(hook: Hook, reads: frozenset[str] | None) -> frozenset[str]:
    values = VALUES & {"outputs" if name == "output" else name for name in hook.takes}
    if "ctx" not in hook.takes:
        return values
    return values | (values_read(hook.function, "ctx") if reads is None else reads)


class Cast:
    """The callbacks of equal configs, read and made once; their tables, with the plugins in force.

    Args:
        callbacks: In any of their forms.

    Raises:
        CallbackError: One of them is none, or has a wrong hook.
    """

    def __init__(self, callbacks: tuple[object, ...]) -> None:
        self._observers = tuple(map(read_callback, callbacks))
        self._tables: dict[tuple[str, int], Table] = {}

    def table(self, policy: str) -> Table:
        """Return the table.

        Args:
            policy: What a failing callback does that does not say itself.
        """
        number, plugins = REGISTRY.in_force()
        key = policy, number
        table = self._tables.get(key)
        if table is None:
            self._tables = {k: known for k, known in self._tables.items() if k[1] == key[1]}
            table = self._tables.setdefault(key, Table((*plugins, *self._observers), policy))
        return table


_casts: Final[WeakValueDictionary[tuple[object, ...], Cast]] = WeakValueDictionary()
_lock: Final = threading.RLock()


def cast_of(callbacks: tuple[object, ...]) -> Cast:
    """Return the cast of `callbacks`, the same as long as somebody keeps it.

    Raises:
        CallbackError: One of them is none, or has a wrong hook.
        MissingDependencyError: One of them needs an extra that is not installed.
    """
    key = identities(callbacks)
    with _lock:
        cast = _casts.get(key)
        if cast is None:
            cast = _casts[key] = Cast(callbacks)
        return cast
