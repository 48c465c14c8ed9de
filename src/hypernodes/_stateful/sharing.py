"""Which instances came to this process or left it, and which stay built here."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from hypernodes._stateful.descriptions import described

if TYPE_CHECKING:
    from hypernodes._stateful.descriptions import Description, Key

_MOST_KEPT: Final = 8
"""Instances from elsewhere that stay built in this process though nothing uses them any more."""
_MOST_TOLD: Final = 64
"""Instances beyond which others are not told which of them live here."""
HOME: Final = uuid.uuid4().hex
"""What tells this process from others."""
LOCK: Final = threading.RLock()
SHARED: Final[weakref.WeakValueDictionary[Key, Any]] = weakref.WeakValueDictionary()
"""What has arrived here or was sent from here, as long as somebody has it."""
_kept: Final[OrderedDict[Key, Any]] = OrderedDict()
"""What has arrived and was built, so that the next who needs it finds it; the latest last."""


def living(key: Key, instance: Any) -> tuple[int, ...] | None:
    """Note that an instance is sent; return the marks of all that live here, if these are few."""
    with LOCK:
        SHARED.setdefault(key, instance)
        return tuple(map(hash, SHARED)) if len(SHARED) <= _MOST_TOLD else None


def released(home: str, living: tuple[int, ...] | None) -> list[Any]:
    """Let go of what is kept for a process that has it no more."""
    if living is None:
        return []
    origins = {key: described(instance).origin for key, instance in _kept.items()}
    alive = {(home, mark) for mark in living}
    dead = [k for k, known in origins.items() if known and known[0] == home and known not in alive]
    return [_kept.pop(key) for key in dead]


def keep(instance: Any, description: Description) -> None:
    """Keep what has come from elsewhere and was built; let go of what was needed longest ago."""
    if description.origin is None:
        return
    with LOCK:
        _kept[description.key] = instance
        _kept.move_to_end(description.key)
        gone = _kept.popitem(last=False) if len(_kept) > _MOST_KEPT else None
    del gone
