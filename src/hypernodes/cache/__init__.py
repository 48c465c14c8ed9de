"""Results by what made them: signatures of code and inputs, and where results are kept.

Names are imported when they are first used: nodes read code without any store.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypernodes.abc import MISS, Cache, CacheStats, EntryRecord
    from hypernodes.cache.disk import DiskCache
    from hypernodes.cache.fsspec import FsspecCache
    from hypernodes.cache.memory import MemoryCache
    from hypernodes.cache.spec import CacheSpec

__all__ = [
    "MISS",
    "Cache",
    "CacheSpec",
    "CacheStats",
    "DiskCache",
    "EntryRecord",
    "FsspecCache",
    "MemoryCache",
]

_PLACES = {
    "hypernodes.abc": ("MISS", "Cache", "CacheStats", "EntryRecord"),
    "hypernodes.cache.disk": ("DiskCache",),
    "hypernodes.cache.fsspec": ("FsspecCache",),
    "hypernodes.cache.memory": ("MemoryCache",),
    "hypernodes.cache.spec": ("CacheSpec",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
