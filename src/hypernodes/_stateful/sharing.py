"""Which instances came to this process or left it, and which stay built here."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hypernodes._stateful.descriptions import Description, Key

_MOST_KEPT: Final = 4
"""Instances from elsewhere that stay built in this process though nothing uses them any more."""
HOME: Final = uuid.uuid4().hex
"""What tells this process from others."""
LOCK: Final = threading.RLock()
SHARED: Final[weakref.WeakValueDictionary[Key, Any]] = weakref.WeakValueDictionary()
"""What has arrived here or was sent from here, as long as somebody has it."""
_kept: Final[OrderedDict[Key, Any]] = OrderedDict()
"""What has arrived and was built, so that the next who needs it finds it; the latest last."""


def keep(instance: Any, description: Description) -> None:
    """Keep what has come from elsewhere and was built; let go of what was needed longest ago."""
    if description.is_native:
        return
    with LOCK:
        _kept[description.key] = instance
        _kept.move_to_end(description.key)
        gone = _kept.popitem(last=False) if len(_kept) > _MOST_KEPT else None
    del gone  # not under the lock: it may have a `__del__`
