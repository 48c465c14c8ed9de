"""The event loop of a connection to Dask, in a thread of its own: it ends when it is told to.

What Dask starts for itself stays where a connection fails, and logs to the user's terminal.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ENDS_IN: Final = 10
"""Seconds within which what is left on the loop has to be over."""


class LoopThread:
    """A loop that runs until it is stopped, in silence.

    Attributes:
        loop: The loop, for what Dask is to run there.
    """

    loop: IOLoop

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hypernodes-dask-loop", daemon=True)
        self._thread.start()
        self._begun.wait()
        self._silence = _Silence(self._thread)

    def wait_for(self, asked: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return what it gives."""
        return asyncio.run_coroutine_threadsafe(asked, self._aio_loop).result()

    def stop(self) -> None:
        """End the loop, and what is left on it."""
        self.loop.add_callback(self._over.set)
        self._thread.join(ENDS_IN)
        self._silence.end()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop, self._aio_loop = IOLoop.current(), asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._begun.set()
        await self._over.wait()


class _Silence(logging.Filter):
    """Keeps what is logged in one thread from the user's terminal, whoever else logs there.

    Args:
        thread: Which thread.
    """

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self._thread = thread.ident
        names = ("distributed", "tornado", None)
        handlers = (handler for name in names for handler in logging.getLogger(name).handlers)
        self._handlers = tuple(dict.fromkeys(handlers))
        for handler in self._handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread

    def end(self) -> None:
        """Leave the handlers as they were."""
        for handler in self._handlers:
            handler.removeFilter(self)
