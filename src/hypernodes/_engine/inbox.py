"""Where a caller waits: what happens elsewhere reaches its thread as messages."""

from __future__ import annotations

from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from hypernodes._cancel import GLANCE, Abandoned, waking
from hypernodes._lending import place_lent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypernodes._engine.jobs import Message


class Inbox:
    """The messages for one thread: calls that it has to make."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self.put: Callable[[Message], None] = self._queue.put

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
                return self._queue.get(timeout=GLANCE)
            except Empty:
                continue

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
