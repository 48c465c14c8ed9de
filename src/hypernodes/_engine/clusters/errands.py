"""What is asked of a Dask cluster without waiting for it: coroutines on the loop of a client."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


class Errands:
    """Runs coroutines on a loop, and calls them off when what they are about is gone.

    Args:
        loop: The client's.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._tasks: dict[str, set[asyncio.Task[None]]] = defaultdict(set)

    def run(self, about: str, errand: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Begin a coroutine; it has to deal with its errors.

        Args:
            about: The worker that it is about.
            errand: Makes the coroutine.
            args: What to call that with.
        """
        self._post(self._begin, about, errand, args)

    def call_off(self, about: str) -> None:
        """Cancel all coroutines about a worker."""
        self._post(self._cancel, about)

    def close(self) -> None:
        """Cancel all coroutines."""
        self._post(self._cancel_all)

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has been closed, and all on it has ended
            self._loop.add_callback(call, *args)

    def _begin(self, about: str, errand: Callable[..., Any], args: tuple[Any, ...]) -> None:
        task = asyncio.create_task(errand(*args))
        self._tasks[about].add(task)
        task.add_done_callback(self._tasks[about].discard)

    def _cancel(self, about: str) -> None:
        for task in self._tasks.pop(about, ()):
            task.cancel()

    def _cancel_all(self) -> None:
        for about in list(self._tasks):
            self._cancel(about)


async def insist(call: Callable[[], Awaitable[Any]], pauses: tuple[float, ...]) -> Any:
    """Return what is awaited, though it fail now and then.

    Args:
        call: Makes what to await.
        pauses: Seconds to wait after each failure but the last.

    Raises:
        Exception: What the last one raised.
    """
    for pause in pauses:
        try:
            return await call()
        except Exception:  # noqa: BLE001 - of whatever kind: a worker may be about to go
            await asyncio.sleep(pause)
    return await call()
