"""Where a caller waits: what happens elsewhere reaches its thread as messages."""

from __future__ import annotations

from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NoReturn

from hypernodes._cancel import GLANCE, Abandoned, waking
from hypernodes._lending import place_lent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypernodes._engine.jobs import Message


MOMENT: Final = 0.01
"""Seconds that what is left for a waiting thread to find may take to be found."""


class Inbox:
    """The messages for one thread: calls that it has to make."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self._places: dict[Message, None] = {}
        self.put: Callable[[Message], None] = self._queue.put

    @contextmanager
    def looking(self, into: Message | None) -> Iterator[None]:
        """Look somewhere now and then while no message comes.

        Waking a thread for each message is dear: what can wait a moment is left to be found.

        Args:
            into: Does what there is to do there; None for nowhere.
        """
        if into is not None:
            self._places[into] = None
        try:
            yield
        finally:
            if into is not None:
                del self._places[into]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let a cancelled run reach whoever waits here."""
        with waking(lambda: self.put(_abandon)):
            yield

    def handle(self) -> None:
        """Wait for a message and do what it says."""
        if self._queue.empty():
            with place_lent():
                message = self._await()
        else:
            message = self._queue.get()
        message()

    def _await(self) -> Message:
        while True:
            try:
                return self._queue.get(timeout=MOMENT if self._places else GLANCE)
            except Empty:
                if self._places:
                    return self._look

    def _look(self) -> None:
        for look in tuple(self._places):
            look()

    def messages(self, *, wait: bool) -> Iterator[None]:
        """Do what the messages say that are there; `wait` for one if there is none.

        Yields:
            None, after each of them.
        """
        if wait and self._queue.empty():
            self.handle()
            yield
        while not self._queue.empty():
            self.handle()
            yield


def _abandon() -> NoReturn:
    raise Abandoned
