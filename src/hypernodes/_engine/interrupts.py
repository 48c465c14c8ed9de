"""Ctrl-C while the engine itself is at work: put off until it can leave nothing half done.

Python raises `KeyboardInterrupt` between any two steps of the main thread. Inside of a lock's own
methods, or of a callback of a weak reference, that leaves the lock taken, or is lost. In code of
users, and where the engine waits, it is raised at once.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # nowhere described
import _thread
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

PAUSE: Final = 0.005
"""Seconds until it is tried again."""

MOST: Final = 50
"""How often it is put off: what takes longer is a function of users that is no Python."""

# As they are in C: what is around them looks every handler up in an enumeration.
_handler_of: Final = _signal.getsignal
_set_handler: Final = _signal.signal
_SIGNAL: Final = int(signal.SIGINT)

_OURS: Final = "hypernodes"
_HELPERS: Final = frozenset(
    ("_weakrefset", "concurrent.futures._base", "contextlib", "queue", "threading", "weakref")
)
_WAITS: Final = frozenset((("hypernodes._engine.inbox", "_await"),))


class _Deferring:
    """What puts interrupts off while anything needs it: one for the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._needed = 0
        self._times = 0

    def begin(self) -> bool:
        """Put them off from now on; say whether: not where the program deals with them itself."""
        with self._lock:
            if not self._needed:
                handler = _handler_of(_SIGNAL)
                if handler is signal.default_int_handler:
                    _set_handler(_SIGNAL, self._on_interrupt)
                elif handler != self._on_interrupt:
                    return False
                self._times = 0
            self._needed += 1
            return True

    def end(self) -> None:
        """Let them come as before, when nothing needs it any more; from any thread.

        A map may be ended by another thread than that which began it: then the handler, which does
        nothing of its own any more, stays until the next run of the main thread.
        """
        with self._lock:
            self._needed -= 1
            is_last = not self._needed and _is_main()
            if is_last and _handler_of(_SIGNAL) == self._on_interrupt:
                _set_handler(_SIGNAL, signal.default_int_handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._needed and self._times < MOST and _is_engine(frame):
            self._times += 1
            _thread.start_new_thread(_try_again, ())
            return
        self._times = 0
        signal.default_int_handler(number, frame)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_engine(frame: FrameType | None) -> bool:
    """Whether the engine is at work, and does not just wait."""
    while frame is not None and frame.f_globals.get("__name__") in _HELPERS:
        frame = frame.f_back
    if frame is None:
        return False
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] == _OURS and (name, frame.f_code.co_name) not in _WAITS


def _try_again() -> None:
    time.sleep(PAUSE)
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


_DEFERRING: Final = _Deferring()


class Deferral:
    """Puts interrupts off while the engine is at work, inside the `with` block, in this thread.

    Only the main thread is ever interrupted; elsewhere nothing is done.
    """

    __slots__ = ("_begun",)

    def __enter__(self) -> None:
        self._begun = _is_main() and _DEFERRING.begin()

    def __exit__(self, *_: object) -> None:
        if self._begun:
            _DEFERRING.end()
