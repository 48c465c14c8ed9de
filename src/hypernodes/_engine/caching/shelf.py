"""The caches of a run: what fails in them is a warning, and never fails the run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypernodes.abc import MISS
from hypernodes.cache._trouble import TOLD_IN_RUN
from hypernodes.cache.spec import CacheSpec, shared_cache
from hypernodes.exceptions import CacheWarning, SerializationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hypernodes._engine.caching.prepared import Once
    from hypernodes._engine.plan import Step
    from hypernodes.abc import Cache, EntryRecord


class Shelf:
    """One cache, as runs use it.

    Args:
        source: The cache, or what makes it.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.cache: Cache = shared_cache(source)
        self.salt: str = source.salt if isinstance(source, CacheSpec) else ""

    @property
    def is_tied(self) -> bool:
        """Whether what another process puts into it is not found here."""
        return not self.cache.SHARED

    def get_many(self, signatures: Collection[str], once: Once) -> dict[str, Any]:
        """Return the values that are there; each time other ones."""
        token = TOLD_IN_RUN.set(once.told)
        try:
            if len(signatures) > 1:
                return dict(self.cache.get_many(signatures))
            (made,) = signatures
            value = self.cache.get(made)
        except CacheWarning:  # the user wants an error of it
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store may raise
            self._warn(once, "read", error)
            return {}
        finally:
            TOLD_IN_RUN.reset(token)
        return {} if value is MISS else {made: value}

    def sound_many(self, signatures: Iterable[str], once: Once) -> set[str]:
        """Return those that are there, and whole as far as can be told without loading them."""
        try:
            return self.cache.sound_many(signatures)
        except CacheWarning:  # the user wants an error of it
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store may raise
            self._warn(once, "read", error)
            return set()

    def put(self, made: str, value: Any, step: Step, once: Once) -> bool:
        """Store a value; return whether that was possible."""
        token = TOLD_IN_RUN.set(once.told)
        try:
            self.cache.put(made, value)
        except SerializationError as error:
            reason = str(error)
            once.warn(("pickle", step.path), lambda: _unpicklable(step, reason))
        except CacheWarning:  # the user wants an error of it
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store may raise
            self._warn(once, "written", error)
        else:
            return True
        finally:
            TOLD_IN_RUN.reset(token)
        return False

    def remove(self, made: str) -> None:
        """Remove what was kept, as far as that is possible."""
        with suppress(Exception):
            self.cache.delete(made)

    def note(self, records: Iterable[EntryRecord], once: Once) -> None:
        """Remember what entries were made from."""
        token = TOLD_IN_RUN.set(once.told)
        try:
            self.cache.note(records)
        except CacheWarning:  # the user wants an error of it
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store may raise
            self._warn(once, "written", error)
        finally:
            TOLD_IN_RUN.reset(token)

    def _warn(self, once: Once, what: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        message = f"the cache {self.cache!r} cannot be {what} ({reason}); the run goes on without"
        once.warn(("cache", repr(self.cache)), lambda: message)


def _unpicklable(step: Step, reason: str) -> str:
    return (
        f"what node {step.node.name!r} of pipeline {' > '.join(step.path[:-1])!r} returned is not "
        f"kept: {reason}; return what can be pickled, or set cache=False on the node"
    )
