"""What a worker does: it reads messages, runs items and segments, and answers.

The main thread runs what users wrote. A second one sends outcomes while an item takes long, and
ends the process when the driver is gone.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import threading
import warnings
from collections import deque
from contextvars import copy_context
from functools import partial
from importlib import import_module
from itertools import islice, repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from hypernodes import config as _config
from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes._engine.claims import CURSOR, LIMIT, Claims
from hypernodes._engine.processes.board import READING, map_board
from hypernodes._engine.processes.depot import Depot
from hypernodes._engine.processes.ledger import Ledger
from hypernodes._engine.processes.wire import BLOCK, Reader, frame
from hypernodes._engine.shipping import settings
from hypernodes._engine.shipping.errors import PackedError, pack_error, pack_load_error
from hypernodes._engine.shipping.events import Raised, pack_records
from hypernodes._engine.shipping.parcels import Parcel, unpack
from hypernodes._engine.shipping.work import (
    Job,
    load,
    packed_outcomes,
    run_items,
    run_segment,
    taken_records,
)
from hypernodes._engine.watch import NEW_WATCH
from hypernodes.exceptions import CacheWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PULSE: Final = 0.2
AGED: Final = 0.001
_PR_SET_PDEATHSIG: Final = 1


def prepare() -> None:
    """Import, in a server, what workers that are forked from it will need."""
    for module in ("hypernodes.backends", "hypernodes.executors", "hypernodes.pipeline"):
        import_module(module)
    _config.RuntimeConfig()  # has pydantic load its plugins, which may be slow


def main(facts: dict[str, Any]) -> None:
    """Work until the driver is gone."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # A handler instead of SIG_IGN: what users start from here does not inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    die_with(facts["server"])
    PLUGINS.mute()  # those of the driver observe
    connection = socket.socket(fileno=facts["socket"])
    connection.set_inheritable(False)
    os.set_inheritable(facts["board"], False)  # noqa: FBT003 - the standard library's own
    Worker(connection, map_board(facts["board"]), Depot(*facts["folders"])).serve()
    _flush()


def die_with(server: int) -> None:
    """Let the system kill this process when its server dies, whatever runs here then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


class Worker:
    """The state of a worker process."""

    def __init__(self, connection: socket.socket, cells: memoryview, depot: Depot) -> None:
        self._socket = connection
        self._cells = cells
        self._depot = depot
        self._jobs: dict[int, Job | PackedError] = {}
        self._ledger = Ledger(cells, self._tell_watch)
        self._sending = threading.Lock()
        self._chunk: _Running | None = None
        self._settings: settings.Settings
        self._token = 0
        self._is_seasoned = False

    def serve(self) -> None:
        """Do what messages ask for, until there will be none."""
        warnings.showwarning = partial(self._show_warning, warnings.showwarning)
        self._send(("hello", os.getpid()))
        threading.Thread(target=self._pulse, name="hypernodes-pulse", daemon=True).start()
        reader = Reader()
        while block := self._receive():
            for message in reader.feed(block):
                getattr(self, f"_on_{message[0]}")(*message[1:])

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(BLOCK)
        except OSError:
            return b""

    def _send(self, *messages: Any) -> None:
        data = b"".join(map(frame, messages))
        with self._sending:
            try:
                self._socket.sendall(data)
            except OSError:
                os._exit(0)

    def _show_warning(
        self, show: Callable[..., None], message: Warning | str, *args: Any, **kwargs: Any
    ) -> None:
        """Leave it to the driver to warn of caches: it knows what other workers have told."""
        if isinstance(message, CacheWarning):
            self._send(("warning", self._token, message.about, str(message)))
        else:
            show(message, *args, **kwargs)

    def _tell_watch(self, number: int, token: int, *facts: Any) -> None:
        self._send(("watch", number, token, self._depot.pack_code(facts)))

    def _pulse(self) -> None:
        """Send what is done while an item takes long; end when the driver is gone."""
        poll = select.poll()
        poll.register(self._socket, 0)
        while not poll.poll(PULSE * 1000):
            chunk = self._chunk
            if chunk is not None:
                self._report(chunk)
        _flush()
        os._exit(0)

    # ------------------------------------------------------------ jobs

    def _on_settings(self, parcel: Parcel) -> None:
        self._settings = unpack(Parcel(*parcel))

    def _on_job(self, token: int, careful: bool, *parcels: Any) -> None:  # noqa: FBT001 - a message
        settings.apply(self._settings)
        watching = copy_context()
        watching.run(NEW_WATCH.set, self._ledger.watches(token, careful=careful))
        watches, timed = self._ledger.count, self._ledger.timed
        self._cells[READING] = -token
        self._token = token
        try:
            job = watching.run(load, *(Parcel(*parcel) for parcel in parcels))
            self._jobs[token] = job._replace(
                is_watched=self._ledger.count > watches,
                is_timed=self._ledger.timed > timed,
                is_stale=job.is_stale and self._is_seasoned,
            )
            self._check_code(token)
        except BaseException as error:  # noqa: BLE001 - whatever the user's classes raise
            self._jobs[token] = pack_load_error(error)
        finally:
            self._cells[READING] = 0
            self._is_seasoned = True

    def _check_code(self, token: int) -> None:
        """Tell of code that is not the same in the driver, if a new worker would have it too."""
        job: Any = self._jobs[token]
        if job.strangers and not job.is_stale:
            names = [name for name, _ in job.strangers]
            self._distrust(token, job, job.engine.doubt(job.inputs, names))

    def _distrust(self, token: int, job: Job, doubt: Any) -> None:
        if doubt is not None:
            self._send(("distrust", token, doubt))
            job.engine.distrust(job.inputs, doubt)

    def _on_forget(self, token: int) -> None:
        self._jobs.pop(token, None)

    # ------------------------------------------------------------ chunks

    def _on_chunk(  # noqa: PLR0917 - a message
        self, number: int, token: int, base: int, count: int, parcel: Any, spent: Any
    ) -> None:
        """Run the pieces of a chunk, from the first; stop where the driver took them back."""
        job = self._jobs[token]
        self._token = token
        if isinstance(job, PackedError):
            self._refuse(base + count, "unloadable", number, job)
        elif job.is_stale:
            self._refuse(base + count, "stale", number, job.strangers)
        else:
            self._run(number, job, base, count, parcel, spent)

    def _run(  # noqa: PLR0917 - of a message
        self, number: int, job: Job, base: int, count: int, parcel: Any, spent: Any
    ) -> None:
        """Read a chunk and run it."""
        try:
            found = self._read(base, parcel)
        except BaseException as error:  # noqa: BLE001 - whatever the user's classes raise
            self._refuse(base + count, "unreadable", number, pack_error(error))
            return
        if found is None:
            self._send(("end", number, 0.0))
            return
        kind, body = found
        del found
        run, indices = (run_items, body[1]) if kind == "items" else (run_segment, (body[2],))
        self._chunk = chunk = _Running(number, job, indices)
        begin = partial(self._begin, chunk, spent) if job.is_watched else None
        claims = Claims(self._cells, base, begin)
        started = perf_counter()
        try:
            if run is run_segment:
                self._distrust(self._token, job, job.engine.doubt(job.inputs))
            job.context.copy().run(run, job, body, claims, chunk.done.append)
            if run is run_segment:
                self._distrust(self._token, job, job.engine.doubt(job.inputs))
        except BaseException as error:  # noqa: BLE001 - ends the run, in the driver
            chunk.done.append(Raised(pack_error(error)))
        chunk.seconds = perf_counter() - started
        self._chunk = None
        del body
        self._finish(chunk, base)

    def _finish(self, chunk: _Running, base: int) -> None:
        """Send what is left of a chunk, and its end."""
        _flush()
        self._cells[READING] = base + 1  # what ends the process now does so with the whole chunk
        try:
            self._report(chunk, last=True)
        finally:
            self._cells[READING] = 0

    def _begin(self, chunk: _Running, spent: Any) -> None:
        """Begin a piece that may be ended from outside: send first what that must not undo."""
        self._ledger.open(spent)
        if chunk.done and (chunk.job.is_timed or perf_counter() - chunk.reported > AGED):
            self._report(chunk)

    def _read(self, base: int, parcel: Any) -> tuple[str, Any] | None:
        """Return what a chunk holds, or None if the driver has taken it back."""
        self._cells[READING] = base + 1
        try:
            return unpack(Parcel(*parcel)) if base < self._cells[LIMIT] else None
        finally:
            self._cells[READING] = 0

    def _refuse(self, end: int, *message: Any) -> None:
        """Leave a chunk undone, up to its `end`, and say why."""
        self._cells[CURSOR] = end
        self._send(message)

    def _report(self, chunk: _Running, *, last: bool = False) -> None:
        """Send what is done of a chunk and has not been sent."""
        with chunk.lock:
            chunk.reported = perf_counter()
            count = len(chunk.done)
            if not count and not last:
                return
            outcomes = list(map(deque.popleft, repeat(chunk.done, count)))
            told = taken_records(outcomes)
            packed = packed_outcomes(
                chunk.job, list(islice(chunk.indices, count)), outcomes, self._depot
            )
            messages: list[Any] = [("out", chunk.number, *found) for found in packed]
            if told is not None:
                messages = [
                    (*m, pack_records(list(islice(told, m[2])), self._depot)) for m in messages
                ]
            if last:  # together: who has all outcomes finds this worker idle again
                messages.append(("end", chunk.number, chunk.seconds))
            self._send(*messages)


class _Running:
    """A chunk while it runs."""

    def __init__(self, number: int, job: Job, indices: Sequence[int | None]) -> None:
        self.number = number
        self.job = job
        self.indices = iter(indices)
        self.done: deque[Any] = deque()
        self.lock = threading.Lock()
        self.seconds = 0.0
        self.reported = perf_counter()
