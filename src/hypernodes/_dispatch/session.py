"""One outermost run as its callbacks see it: who is told what, and what their failures do."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import suppress
from copy import copy
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from hypernodes.exceptions import CallbackError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from hypernodes._dispatch.forms import Observer
    from hypernodes._dispatch.table import Call

_logger: Final = logging.getLogger("hypernodes.callbacks")
HASTE: Final = 1.0
"""Seconds that background callbacks have after Ctrl-C."""


class Halted(BaseException):
    """A callback has failed whose failures end the run; never seen outside."""


class Session:
    """Calls the callbacks of one run, one after another, whichever thread an event comes from.

    Attributes:
        state: What the callbacks of the run share.
        error: The first failure of a callback that ends the run.
        lock: Held while something is noted and told.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.error: CallbackError | None = None
        self.lock: AbstractContextManager[object] = threading.RLock()
        self._told: set[tuple[int, str]] = set()
        self._background: dict[Observer, _Background] = {}
        self._is_over = False

    @property
    def halted_by(self) -> CallbackError:
        """The failure of a callback because of which `Halted` was raised."""
        assert self.error is not None  # noqa: S101 - noted first
        return self.error

    def fire(
        self, calls: tuple[Call, ...], ctx: Any, *values: Any, during: BaseException | None = None
    ) -> None:
        """Make the calls for an event; a failing one keeps none of the others from being called.

        Who calls this holds the `lock`.

        Args:
            calls: Those of the event, in order.
            ctx: The context.
            values: The event's arguments.
            during: An error that is under way: it stays what surfaces, and notes on it tell of
                callbacks that fail.

        Raises:
            Halted: One of them has failed whose failures end the run.
        """
        if self._is_over:
            return
        failures = None
        for call in calls:
            try:
                if call.later:
                    self._behind(call, copy(ctx), values)
                else:
                    call.invoke(ctx, *values)
            except Exception as error:  # noqa: BLE001 - an observer may fail as it likes
                failures = [*(failures or ()), *self._failed(call, error)]
        if failures:
            self._end_by(failures, during)

    def fire_late(self, calls: tuple[Call, ...], ctx: Any, *values: Any) -> None:
        """Make the calls for an event that may come after the run's end; failures end nothing."""
        for call in calls:
            try:
                call.invoke(ctx, *values)
            except Exception as error:
                for failure in self._failed(call, error):
                    _logger.exception("%s", failure)

    # ------------------------------------------------------------ failures

    def _failed(self, call: Call, error: Exception) -> tuple[CallbackError, ...]:
        """Do with a failure what its policy says; return it if it is to end the run."""
        what = (
            f"{call.hook} of callback {call.observer.label} failed: {type(error).__name__}: {error}"
        )
        failure = CallbackError(what, callback=call.observer.label, hook=call.hook)
        failure.__cause__ = error
        if call.policy == "raise":
            return (failure,)
        place = id(call.observer), call.hook
        if place in self._told:
            return ()
        self._told.add(place)
        if call.policy == "log":
            _logger.error("%s", what, exc_info=error)
            return ()
        try:
            warnings.warn(what, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # the user has made errors of warnings
            return (failure,)
        return ()

    def _end_by(self, failures: list[CallbackError], during: BaseException | None) -> None:
        if during is None:
            self.error = self.error or failures[0]
            raise Halted
        for failure in failures:
            add_note(during, failure)

    # ------------------------------------------------------------ the background

    def _behind(self, call: Call, ctx: Any, values: tuple[Any, ...]) -> None:
        background = self._background.get(call.observer)
        if background is None:
            background = self._background[call.observer] = _Background(call.observer.label)
        background.put(partial(self._make_later, call, ctx, values))

    def _make_later(self, call: Call, ctx: Any, values: tuple[Any, ...]) -> None:
        try:
            call.invoke(ctx, *values)
        except Exception as error:  # noqa: BLE001 - an observer may fail as it likes
            with self.lock:
                for failure in self._failed(call, error):
                    self.error = self.error or failure

    def finish(self, *, hastily: bool) -> None:
        """Let background callbacks come to their end; nobody is told anything any more.

        Args:
            hastily: Whether to wait for a moment only.
        """
        with self.lock:
            self._is_over = True
        for background in self._background.values():
            background.end(HASTE if hastily else None)


class _Background:
    """A thread that makes the calls of one callback, in order."""

    def __init__(self, label: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, name=f"hypernodes-callback {label}", daemon=True
        )
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        self._queue.put(call)

    def end(self, seconds: float | None) -> None:
        self._queue.put(None)
        self._thread.join(seconds)

    def _serve(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except BaseException:
                _logger.exception("a background callback ended its thread")


def add_note(error: BaseException, failure: CallbackError) -> None:
    """Tell of a callback's failure on the error that surfaces."""
    note = f"hypernodes: besides, {failure}"
    with suppress(Exception):  # an exception class may refuse to be changed
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
