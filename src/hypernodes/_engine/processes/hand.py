"""One worker, as its driver sees it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes._engine.claims import CURSOR, LIMIT, NO_LIMIT, VOID
from hypernodes._engine.processes.board import (
    READING,
    SETTLED,
    read_watch,
    unmap_board,
)
from hypernodes._engine.processes.depot import number_of
from hypernodes._engine.processes.wire import BLOCK, Reader, frame
from hypernodes._engine.shipping.deaths import Death
from hypernodes._engine.shipping.parcels import Parcel, unlink, unpack

if TYPE_CHECKING:
    from hypernodes._engine.shipping.chunk import Chunk
    from hypernodes.config import RetryPolicy

KNOWN: Final = 64
BLOCKS_IN_A_ROW: Final = 16


class Watched(NamedTuple):
    """A node that announces its attempts."""

    token: int
    path: tuple[str, ...]
    timeout: float | None
    policy: RetryPolicy | None


class Hand:
    """A worker: its socket, its board, and the chunks that it has.

    Args:
        connection: The socket that leads to it.
        cells: Its board.
    """

    def __init__(self, connection: socket.socket, cells: memoryview) -> None:
        self.socket = connection
        self.chunks: deque[Chunk] = deque()
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.done = 0
        self.doomed_at: float | None = None
        self.retired = False
        self.stale: set[tuple[str, str]] = set()
        self.death: Death | None = None
        self.killed = False
        self.born = self.last_news = time.monotonic()
        self.last_file = -1
        self._cells = cells
        self._sent = 0
        self._reader = Reader()
        self._out = bytearray()
        self._known: OrderedDict[int, None] = OrderedDict()
        self._settings: Parcel | None = None
        self._watches: dict[int, Watched] = {}
        self._recalled_at: float | None = None
        self._settled = False
        self._late_at = -1
        cells[LIMIT] = NO_LIMIT

    # ------------------------------------------------------------ what it has

    @property
    def is_free(self) -> bool:
        """Whether it may be given a chunk."""
        return not self.retired and self._recalled_at is None

    @property
    def is_recalled(self) -> bool:
        """Whether it is to give back what it has not started."""
        return self._recalled_at is not None

    @property
    def is_settling(self) -> bool:
        """Whether it is not known yet what it gives back."""
        return self._recalled_at is not None and not self._settled

    @property
    def unstarted(self) -> int:
        """How many of its pieces are neither being read nor started."""
        if not self.chunks:
            return 0
        reading = self.reading
        read = len(reading.entries) if reading is not None else 0
        return max(0, self._sent - max(self._cells[CURSOR], self.chunks[0].base) - read)

    @property
    def running(self) -> Chunk | None:
        """The chunk whose piece was claimed last and has not come back, if any."""
        at = self._cells[CURSOR] - 1
        for chunk in self.chunks:
            if chunk.base + chunk.received <= at < chunk.base + len(chunk.entries):
                return chunk
        return None

    @property
    def reading(self) -> Chunk | None:
        """The chunk that is being read, or whose plan and inputs are, if any."""
        mark = self._cells[READING]
        return next((c for c in self.chunks if mark in {c.base + 1, -c.token}), None)

    @property
    def busy_with(self) -> Chunk | None:
        """The chunk that it reads or runs, if any."""
        return self.reading or self.running

    @property
    def is_timed(self) -> bool:
        """Whether it may be running a node with a timeout."""
        return bool(self.chunks) and any(w.timeout is not None for w in self._watches.values())

    # ------------------------------------------------------------ out

    def give(self, chunk: Chunk, number: int) -> None:
        """Send a chunk, and first what it needs."""
        source = chunk.source
        token = chunk.token
        self._acquaint(token, source.shipment, careful=chunk.trouble is not None)
        chunk.number, chunk.base = number, self._sent
        self._sent += len(chunk.entries)
        if not self.chunks:
            self.last_news = time.monotonic()
        self.chunks.append(chunk)
        source.flying += 1
        spent = chunk.trouble.spent if chunk.trouble else {}
        count = len(chunk.entries)
        self._write(("chunk", number, token, chunk.base, count, tuple(chunk.parcel), spent))

    def _acquaint(self, token: int, shipment: Any, *, careful: bool) -> None:
        if token in self._known:
            self._known.move_to_end(token)
            return
        if len(self._known) >= KNOWN:
            # What an unfinished chunk needs is recent: a worker never has as many of them.
            self._drop(self._known.popitem(last=False)[0])
        self._known[token] = None
        if shipment.settings != self._settings:
            self._settings = shipment.settings
            self._write(("settings", tuple(shipment.settings)))
        self._write(("job", token, careful, *map(tuple, shipment.parcels)))

    def forget(self, *tokens: int) -> None:
        """Let the worker forget what no chunk will need again."""
        for token in tokens:
            if token in self._known:
                del self._known[token]
                self._drop(token)

    def _drop(self, token: int) -> None:
        self._write(("forget", token))
        gone = [number for number, watched in self._watches.items() if watched.token == token]
        for number in gone:
            del self._watches[number]

    def _write(self, message: Any) -> None:
        self._out += frame(message)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._out)

    def flush(self) -> None:
        """Send as much as the socket takes."""
        try:
            while self._out:
                sent = self.socket.send(memoryview(self._out)[:BLOCK])
                del self._out[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    # ------------------------------------------------------------ in

    def read(self, blocks: int = BLOCKS_IN_A_ROW) -> tuple[list[Any], bool]:
        """Return the messages that have come, and whether these were the last."""
        messages: list[Any] = []
        for _ in range(blocks):
            try:
                block = self.socket.recv(BLOCK)
            except BlockingIOError:
                return messages, False
            except OSError:
                return messages, True
            if not block:
                return messages, True
            messages.extend(self._reader.feed(block))
        return messages, False

    def on_hello(self, pid: int) -> None:
        """Learn which process it is."""
        self.pid = pid
        if hasattr(os, "pidfd_open"):
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError:
                self.pidfd = None

    def on_watch(self, number: int, token: int, parcel: Any) -> None:
        """Learn of a node that announces its attempts."""
        if token in self._known:
            self._watches[number] = Watched(token, *unpack(Parcel(*parcel)))

    def on_out(self, number: int, count: int, parcel: Any, told: Any = None) -> None:
        """Pass on outcomes, and what there is to be told of them."""
        self.last_news = time.monotonic()
        chunk = self._chunk(number)
        self.done += count
        records = None if told is None else Parcel(*told)
        files = Parcel(*parcel).files + (() if records is None else records.files)
        self.last_file = max(self.last_file, *map(number_of, files), -1)
        if chunk.source.closed:
            unlink(files)
            chunk.received += count
        else:
            chunk.source.receive(chunk, count, Parcel(*parcel), records)

    def on_end(self, number: int, seconds: float) -> None:
        """Take note of the end of a chunk; what it left undone goes back."""
        chunk = self._finished(number)
        chunk.source.learn(chunk, seconds)
        chunk.source.put_back(chunk, chunk.entries[chunk.received :])

    def on_unreadable(self, number: int, error: Any) -> None:
        """Take back a chunk that could not be read."""
        chunk = self._finished(number)
        if not chunk.source.closed:
            chunk.source.unreadable(chunk, error)

    def on_unloadable(self, number: int, error: Any) -> None:
        """End the run of a chunk whose plan or shared inputs could not be read."""
        chunk = self._finished(number)
        chunk.source.unloadable(error)

    def on_stale(self, number: int, strangers: Any) -> None:
        """Take back a chunk from a worker that has other code than a new one would have."""
        chunk = self._finished(number)
        self.retired = True
        self.stale.update(strangers)
        chunk.source.put_back(chunk, chunk.entries)

    def on_distrust(self, token: int, doubt: Any) -> None:
        """Pass on why what comes from now on is not to be kept."""
        self._notify(token, "distrust", doubt)

    def on_warning(self, token: int, about: Any, message: str) -> None:
        """Pass on a warning of a cache."""
        self._notify(token, "warn", about, message)

    def _notify(self, token: int, *facts: Any) -> None:
        for source in {chunk.source for chunk in self.chunks if chunk.token == token}:
            source.notify(*facts)

    def _chunk(self, number: int) -> Chunk:
        return next(chunk for chunk in self.chunks if chunk.number == number)

    def _finished(self, number: int) -> Chunk:
        self.last_news = time.monotonic()
        chunk = self._chunk(number)
        self.chunks.remove(chunk)
        self._let_go(chunk)
        if not self.chunks:
            self._recalled_at = None
            self.doomed_at = None
            self._cells[LIMIT] = NO_LIMIT
        return chunk

    @staticmethod
    def _let_go(chunk: Chunk) -> None:
        chunk.source.flying -= 1
        unlink(chunk.parcel.files)

    # ------------------------------------------------------------ taking back

    def void(self, chunk: Chunk) -> None:
        """Tell the worker that nobody wants what it runs of a chunk."""
        if self.running is chunk:
            self._cells[VOID] = self._cells[CURSOR]

    def recall(self) -> None:
        """Take back what it has not started; see `board`.

        A chunk that is being read keeps its first piece: or it might be read again and again.
        """
        if self._recalled_at is None and self.chunks:
            reading = self.reading
            is_kept = reading is not None and not reading.source.closed
            self._cells[LIMIT] = reading.base + 1 if reading and is_kept else 0
            self._recalled_at = time.monotonic()
            self._settled = False

    def settle(self) -> None:
        """Return what will not be started to its sources, when that is known.

        What is being read comes back at its end: its reader may yet die of it.
        """
        if not self.is_settling:
            return
        if self._recalled_at is None or time.monotonic() - self._recalled_at < SETTLED:
            return
        self._settled = True
        reading, cursor = self.reading, max(self._cells[CURSOR], self._cells[LIMIT])
        for chunk in self.chunks:
            if chunk is reading:
                continue
            started = max(0, min(cursor - chunk.base, len(chunk.entries)))
            back = chunk.entries[started:]
            chunk.entries = chunk.entries[:started]
            chunk.source.put_back(chunk, back)

    # ------------------------------------------------------------ its end

    def overdue(self) -> Death | None:
        """Return the facts if the attempt that it announced is late."""
        at = self._cells[CURSOR] - 1
        watch, ordinal, attempt, deadline = read_watch(self._cells)
        if watch not in self._watches or not deadline or time.monotonic_ns() < deadline:
            return None
        self._late_at = at
        return self._death(watch, ordinal, attempt, late=True)

    def _death(self, watch: int, ordinal: int, attempt: int, *, late: bool = False) -> Death:
        found = self._watches.get(watch)
        if found is None:
            return Death()
        return Death(late, found.path, ordinal, attempt, found.timeout, found.policy)

    def kill(self) -> None:
        """End the process at once; its socket will tell."""
        self.killed = True
        try:
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            elif self.pid is not None:
                os.kill(self.pid, signal.SIGKILL)
            else:
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def bury(self) -> None:
        """Return its pieces to their sources, and tell of what it read or ran."""
        death, at, reading = self.death, self._late_at, self.reading
        if death is None:
            death, at = self._death(*read_watch(self._cells)[:3]), self._cells[CURSOR] - 1
        if self.chunks and self._is_fruitless:
            self.chunks[0].source.bury_fruitless(self.born)
        for chunk in list(self.chunks):
            self._let_go(chunk)
            if chunk is reading and self._cells[READING] > 0:
                chunk.source.bury_read(chunk)
            else:
                self._bury(chunk, death, at - chunk.base)
        self.chunks.clear()

    @property
    def _is_fruitless(self) -> bool:
        """Whether it died of a plan or of shared inputs, or of something unknown at its start."""
        mark = self._cells[READING]
        return mark < 0 or not (mark or self.done or self.killed or self.running)

    @staticmethod
    def _bury(chunk: Chunk, death: Death, ran: int) -> None:
        rest = range(chunk.received, len(chunk.entries))
        chunk.source.put_back(chunk, [chunk.entries[i] for i in rest if i != ran])
        if ran in rest:
            chunk.source.bury(chunk, chunk.entries[ran], death)

    def close(self) -> None:
        """Let go of what leads to it; an idle worker ends by that."""
        self.socket.close()
        unmap_board(self._cells)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
