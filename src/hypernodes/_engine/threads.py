"""Threads that nobody waits for at the end of the program."""

from __future__ import annotations

import itertools
import threading
from concurrent import futures
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from hypernodes._lending import lend_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Work(NamedTuple):
    future: futures.Future[Any]
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call(*self.args, **self.kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again by who takes the result
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class DaemonThreads(futures.Executor):
    """A pool of `concurrent.futures` whose threads do not hold up the end of the program.

    The pool of the standard library is joined at exit: after Ctrl-C or a failure the program would
    wait for calls whose results nobody wants. A run that is wanted is waited for by its caller.

    Args:
        size: How many threads there are at the most; they start as they are needed.
        name: How their names begin.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = 0  # threads that wait and for which nothing has been put yet
        self._threads: list[threading.Thread] = []
        self._names = itertools.count()
        self._serving = 0
        self._lent = 0
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        work = _Work(futures.Future(), fn, args, kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have been closed")
            self._queue.put(work)
            if not self._wake():
                self._add_thread()
        return work.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as in the standard library
        with self._lock:
            self._closed = True
            while cancel_futures and not self._queue.empty():
                work = self._queue.get()
                if work is not None:
                    work.future.cancel()
            threads = tuple(self._threads)
            for _ in threads:
                self._queue.put(None)
        for thread in threads:
            if wait and thread is not threading.current_thread():
                thread.join()

    @contextmanager
    def _lend(self) -> Iterator[None]:
        """Let another thread work while the current one, one of these, waits for others' work."""
        with self._lock:
            self._lent += 1
            if not self._queue.empty():
                self._add_thread()
        try:
            yield
        finally:
            self._take_back()

    def replace(self, future: futures.Future[Any]) -> None:
        """Let another thread work until `future`, a call that nobody waits for, is over."""
        with self._lock:
            self._lent += 1
            if not self._queue.empty():
                self._add_thread()
        future.add_done_callback(lambda _: self._take_back())

    def _take_back(self) -> None:
        with self._lock:
            self._lent -= 1
            if self._is_one_too_many and self._wake():
                self._serving -= 1
                self._queue.put(None)

    def _wake(self) -> bool:
        """Count on an idle thread for what is put; say whether there is one."""
        if not self._idle:
            return False
        self._idle -= 1
        return True

    def _add_thread(self) -> None:
        """Start a thread, if there is room for one."""
        if self._closed or self._serving >= self._size + self._lent:
            return
        self._serving += 1
        name = f"{self._name}_{next(self._names)}"
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        lend_by(self._lend)
        while (work := self._next()) is not None:
            work.run()
            del work
        with self._lock, suppress(ValueError):
            self._threads.remove(threading.current_thread())

    def _next(self) -> _Work | None:
        with self._lock:  # else what is put just now would be counted on a thread that takes it
            with suppress(Empty):
                return self._queue.get_nowait()
            if self._is_one_too_many:
                self._serving -= 1
                return None
            self._idle += 1
        return self._queue.get()

    @property
    def _is_one_too_many(self) -> bool:
        return self._serving > self._size + self._lent
