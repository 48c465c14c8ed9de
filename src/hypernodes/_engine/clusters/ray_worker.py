"""What an actor does that works for a driver: run chunks, be looked at, and announce attempts."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from hypernodes._engine.clusters import worker as _worker
from hypernodes._engine.shipping import settings
from hypernodes._engine.shipping.parcels import Hold
from hypernodes._handles import OBJECT_REF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.clusters.briefs import Attempt, Brief, Luggage, Report
    from hypernodes._engine.plan import Slot
    from hypernodes._engine.shipping.parcels import Parcel

    Told = tuple[Report, tuple[Slot, ...]]

PACKER: Final = Hold(OBJECT_REF)
"""What leads to objects of Ray's travels beside pickles: then Ray counts who has it."""


class Desk:
    """The state of an actor.

    Args:
        environment: The environment variables of the driver when Ray was started, if the actor
            takes over where the driver is.
    """

    def __init__(self, environment: Mapping[str, str] | None) -> None:
        if environment is not None:
            settings.keep_variables(_own_variables(environment))
        self._outbox = _Outbox()

    def work(
        self, brief: Brief, luggage: Luggage | None, *taken: Mapping[Slot, Parcel]
    ) -> Told | tuple[Told, Mapping[Slot, Parcel]]:
        """Run a chunk.

        Returns:
            The report with the slots of what is kept; and that besides, where there may be any.
        """
        values = [kept[slot] for slot, kept in zip(brief.places, taken, strict=True)]
        found = _worker.work(brief, luggage, values, self._outbox.announce, packer=PACKER)
        told = found.report, tuple(found.kept)
        return (told, found.kept) if brief.keeps else told

    @staticmethod
    def look(driver: str, numbers: list[int], orders: Mapping[str, bool]) -> dict[int, Report]:
        """Report how far chunks are; see `worker.look`."""
        return _worker.look(driver, numbers, **orders)

    @staticmethod
    def forget(driver: str, tokens: list[int]) -> None:
        """Let go of plans."""
        _worker.forget(driver, tokens)

    def hear(self, heard: int) -> list[Attempt]:
        """Return what is announced next, when there is something.

        Args:
            heard: How many announcements have been heard of before.
        """
        return self._outbox.after(heard)


class _Outbox:
    """Announcements on their way: whoever makes one waits until the driver has heard of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._unheard: deque[Attempt] = deque()
        self._heard = 0

    def announce(self, attempt: Attempt) -> None:
        """Return when the driver has heard of an attempt."""
        with self._changed:
            self._unheard.append(attempt)
            number = self._heard + len(self._unheard)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._heard >= number)

    def after(self, heard: int) -> list[Attempt]:
        """Return what is announced after the first so many, which have been heard of."""
        with self._changed:
            while self._heard < heard:
                self._unheard.popleft()
                self._heard += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unheard)
            return list(self._unheard)


def _own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Ray has set here, or the user by way of a `runtime_env`."""
    return {name: value for name, value in os.environ.items() if environment.get(name) != value}
