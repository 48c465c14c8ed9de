"""Plugins: callbacks for all runs of this process, registered by hand or by entry points."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from hypernodes._dispatch.needs import identity
from hypernodes.exceptions import CallbackError, hint

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from hypernodes._dispatch.forms import Observer

GROUP: Final = "hypernodes.plugins"
DISABLE_VARIABLE: Final = "HYPERNODES_DISABLE_PLUGINS"
_logger: Final = logging.getLogger(GROUP)


class _Registry:
    """The plugins of this process, behind one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state: tuple[int, tuple[Observer, ...]] = 0, ()
        self._loaded = False
        self._loading = False
        self._muted = False

    def register(self, *plugins: object) -> None:
        """Add plugins, all or none; those that are there stay as they are."""
        from hypernodes._dispatch.forms import read_callback  # noqa: PLC0415 - pluggy

        with self._lock:
            observers = self._state[1]
            known = {identity(observer.given) for observer in observers}
            named = {identity(plugin): plugin for plugin in plugins}
            new = [plugin for name, plugin in named.items() if name not in known]
            self._set(*observers, *(read_callback(p, is_plugin=True) for p in new))

    def unregister(self, *plugins: object) -> None:
        """Remove plugins; all of them if none is named."""
        with self._lock:
            if not self._loaded:
                self._load()  # what entry points name, too
            observers = self._state[1]
            for plugin in plugins:
                if not any(_is(observer, plugin) for observer in observers):
                    labels = [observer.label for observer in observers]
                    message = f"{plugin!r} is not registered; {hint(repr(plugin), labels)}"
                    raise CallbackError(message, callback=repr(plugin))
            gone = plugins or tuple(observer.given for observer in observers)
            self._set(*(o for o in observers if not any(_is(o, plugin) for plugin in gone)))

    def in_force(self) -> tuple[int, tuple[Observer, ...]]:
        """Return the plugins that are in force, and a number that no others ever have."""
        if not self._loaded:
            self._load()
        number, observers = self._state
        if not observers or self._muted:
            return number, ()
        return (number + 1, ()) if _is_disabled() else (number, observers)

    def number(self) -> int:
        """Return a number that is another one whenever the plugins in force are."""
        return self.in_force()[0]

    @property
    def is_empty(self) -> bool:
        """Whether no plugin is in force."""
        return not self.in_force()[1]

    def mute(self) -> None:
        """Have no plugins in this process, which works for another one that has them."""
        self._muted = self._loaded = True

    def _set(self, *observers: Observer) -> None:
        self._state = self._state[0] + 2, observers  # the odd ones stand for disabled ones

    def _load(self) -> None:
        """Register what entry points name; a broken one is reported and left out."""
        with self._lock:
            if self._loaded or self._loading:  # a plugin may run pipelines when it is imported
                return
            from importlib.metadata import entry_points  # noqa: PLC0415 - only the first run pays

            self._loading = True
            try:
                if not _is_disabled():
                    for entry_point in entry_points(group=GROUP):
                        self._load_one(entry_point)
            finally:
                self._loading, self._loaded = False, True

    def _load_one(self, entry_point: EntryPoint) -> None:
        try:
            self.register(entry_point.load())
        except (Exception, SystemExit):
            message = "plugin %r (%s) cannot be used and is left out; mend or uninstall it"
            _logger.exception(message, entry_point.name, entry_point.value)


def _is(observer: Observer, plugin: object) -> bool:
    return identity(plugin) in {identity(observer.given), identity(observer.callback)}


def _is_disabled() -> bool:
    return os.environ.get(DISABLE_VARIABLE, "").strip().lower() not in {"", "0", "false", "no"}


REGISTRY: Final = _Registry()
