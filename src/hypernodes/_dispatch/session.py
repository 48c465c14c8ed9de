"""One outermost run as its callbacks see it: who is told what, and what their failures do."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import suppress
from contextvars import Context, copy_context
from copy import copy
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from hypernodes._dispatch.place import current_worker
from hypernodes.exceptions import CallbackError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from hypernodes._dispatch.forms import Observer
    from hypernodes._dispatch.table import Call

_logger: Final = logging.getLogger("hypernodes.callbacks")
HASTE: Final = 1.0
"""Seconds that background callbacks have after Ctrl-C."""
MOST_BEHIND: Final = 4096
"""Events that may wait for a thread that makes calls, before who takes results has to wait."""


class Halted(BaseException):
    """A callback has failed whose failures end the run; never seen outside."""


class Session:
    """Calls the callbacks of one run, one after another, whichever thread an event comes from.

    Attributes:
        state: What the callbacks of the run share.
        error: The first failure of a callback that ends the run.
        fatal: What a callback has raised that is no `Exception`, if that has to wait for the end.
        lock: Held while something is noted and told.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.error: CallbackError | None = None
        self.fatal: BaseException | None = None
        self.lock: AbstractContextManager[object] = threading.RLock()
        self._told: set[tuple[int, str]] = set()
        self._background: dict[Observer, _Background] = {}
        self._teller: _Background | None = None
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
            BaseException: One of them has raised what is no `Exception`.
        """
        if self._is_over or not calls:
            return
        if self._teller is None:
            self._make(calls, ctx, values, during)
            return
        self._teller.put(partial(self._tell, calls, _moment(ctx), values, during))
        if during is None:
            self._check()

    def fire_and_wait(self, calls: tuple[Call, ...], ctx: Any, *values: Any) -> None:
        """Do as `fire`, and return when the calls have been made, which give an answer."""
        with self.lock:
            self.fire(calls, ctx, *values)
        if self._teller is not None:
            self._teller.wait()
            self._check()

    def _make(
        self,
        calls: tuple[Call, ...],
        ctx: Any,
        values: tuple[Any, ...],
        during: BaseException | None,
    ) -> None:
        failures: list[CallbackError] = []
        fatal = None
        for call in calls:
            try:
                if call.later:
                    self._behind(call, _moment(ctx), values)
                else:
                    call.invoke(ctx, *values)
            except Exception as error:  # noqa: BLE001 - an observer may fail as it likes
                failures += self._failed(call, error)
            except BaseException as error:  # noqa: BLE001 - raised when the others were called
                fatal = fatal or error
        if fatal is not None:
            self._stop(fatal, during)
        if failures:
            self._end_by(failures, during)

    def fire_late(self, calls: tuple[Call, ...], ctx: Any, *values: Any) -> None:
        """Make the calls for an event that may come after the run's end; failures end nothing."""
        for call in calls:
            try:
                call.invoke(ctx, *values)
            except Exception as error:  # noqa: BLE001 - an observer may fail as it likes
                for failure in self._failed(call, error):
                    log_error(_logger, str(failure), failure)

    # ------------------------------------------------------------ failures

    def _failed(self, call: Call, error: Exception) -> tuple[CallbackError, ...]:
        """Do with a failure what its policy says; return it if it is to end the run."""
        what = f"{call.hook} of callback {call.observer.label} failed: {_described(error)}"
        failure = CallbackError(what, callback=call.observer.label, hook=call.hook)
        failure.__cause__ = error
        if call.policy == "raise":
            return (failure,)
        place = id(call.observer), call.hook
        if place in self._told:
            return ()
        self._told.add(place)
        if call.policy == "log":
            log_error(_logger, what, error)
            return ()
        try:
            warnings.warn(what, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # the user has made errors of warnings
            return (failure,)
        except Exception as refused:  # noqa: BLE001 - there is nowhere to show it
            log_error(_logger, what, refused)
        return ()

    def _end_by(self, failures: list[CallbackError], during: BaseException | None) -> None:
        if during is None:
            self.error = self.error or failures[0]
            raise Halted
        for failure in failures:
            add_note(during, failure)

    def _stop(self, fatal: BaseException, during: BaseException | None) -> None:
        """Raise what ends the run; not before its end where that is what is told."""
        if during is None:
            raise fatal
        self.fatal = self.fatal or fatal

    # ------------------------------------------------------------ a thread that tells

    def tell_aside(self) -> None:
        """Have a thread make the calls from now on, in the current context.

        Where nodes run on a loop, nobody who tells of them may wait for a callback.
        """
        with self.lock:
            if self._teller is None:
                self._teller = _Background("hypernodes-callbacks", copy_context())

    def _tell(
        self,
        calls: tuple[Call, ...],
        ctx: Any,
        values: tuple[Any, ...],
        during: BaseException | None,
    ) -> None:
        try:
            self._make(calls, ctx, values, during)
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - raised where the run can end
            self.fatal = self.fatal or error

    def _check(self) -> None:
        """End the run if a callback has failed so."""
        if self.fatal is not None:
            raise self.fatal
        if self.error is not None:
            raise Halted

    def keep_pace(self) -> None:
        """Wait for threads that make calls where these are far behind; without the `lock`."""
        for background in tuple(self._background.values()):
            background.catch_up()
        if self._teller is not None:
            self._teller.catch_up()

    # ------------------------------------------------------------ the background

    def _behind(self, call: Call, ctx: Any, values: tuple[Any, ...]) -> None:
        background = self._background.get(call.observer)
        if background is None:
            name = f"hypernodes-callback {call.observer.label}"
            background = self._background[call.observer] = _Background(name)
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
        seconds = HASTE if hastily else None
        if self._teller is not None:  # first: it has something to say to the others
            self._teller.end(seconds)
        for background in tuple(self._background.values()):
            background.end(seconds)


class _Background:
    """A thread that makes calls, in order.

    Args:
        name: What it is called.
        context: What it runs in; by default a new one.
    """

    def __init__(self, name: str, context: Context | None = None) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_over = False
        run = (context or Context()).run
        self._thread = threading.Thread(target=run, args=(self._serve,), name=name, daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        self._queue.put(call)

    def catch_up(self) -> None:
        """Wait until what was put is done, if that is much."""
        if self._queue.qsize() > MOST_BEHIND:
            self.wait()

    def wait(self) -> None:
        """Wait until what was put is done."""
        done = threading.Event()
        self._queue.put(done.set)
        done.wait()

    def end(self, seconds: float | None) -> None:
        """Wait until what was put is done; what is not, after some seconds, is dropped."""
        self._queue.put(None)
        self._thread.join(seconds)
        self._is_over = True

    def _serve(self) -> None:
        while (call := self._queue.get()) is not None and not self._is_over:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the next calls are to be made
                log_error(_logger, "a background callback ended its thread", error)


def log_error(logger: logging.Logger, message: str, error: BaseException) -> None:
    """Log the failure of an observer; handlers that fail, too, as on a closed stream, end nothing.

    Args:
        logger: The logger.
        message: What has failed.
        error: Its error.
    """
    with suppress(Exception):
        logger.error("%s", message, exc_info=error)


def _moment(ctx: Any) -> Any:
    """Return a copy of a context, which later events do not change."""
    kept = copy(ctx)
    kept._worker = ctx._worker or current_worker()  # noqa: SLF001 - who tells is another thread
    return kept


def _described(error: Exception) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:  # noqa: BLE001 - its class is the user's
        return f"{kind}, whose text cannot be had"


def add_note(error: BaseException, failure: CallbackError) -> None:
    """Tell of a callback's failure on the error that surfaces."""
    note = f"hypernodes: besides, {failure}"
    with suppress(Exception):  # an exception class may refuse to be changed
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
