"""The pool: one thread that hands chunks to workers and deals with whatever happens to them.

All state belongs to that thread; others leave letters in its mailbox. A worker is a `Hand`; what
waits is drawn from `Source`s, one after another.
"""

from __future__ import annotations

import atexit
import itertools
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.processes.depot import Depot
from hypernodes._engine.processes.hand import Hand
from hypernodes._engine.processes.launch import Server
from hypernodes._engine.processes.streams import kept_clear
from hypernodes._engine.shipping.crew import Dispatcher
from hypernodes._engine.shipping.pace import Pace
from hypernodes._engine.workers import closed_error
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypernodes._engine.shipping.chunk import Chunk
    from hypernodes._engine.shipping.sources import Source

DEPTH: Final = 3
PATIENCE: Final = 2.0
IDLE_TICK: Final = 0.005
TIMED_TICK: Final = 0.02
SETTLE_TICK: Final = 0.002
SLOW: Final = 0.01
MOST_FAILED_STARTS: Final = 3
MANY: Final = 2**31


class Pool(Dispatcher):
    """Worker processes, started as they are needed.

    Args:
        size: How many there are at the most.
        method: How they start, see `launch`.
        chunksize: How many items a chunk has; None for what fits.
        max_tasks: After how many items and segments a worker is replaced; None for never.

    Attributes:
        renewed: Names and hashes of code for which workers were replaced: new ones have imported
            it anew.
    """

    def __init__(
        self, size: int, method: str, *, chunksize: int | None, max_tasks: int | None
    ) -> None:
        self._depot = Depot.opened()
        super().__init__(self._depot, Pace(chunksize))
        self._size = size
        self._method = method
        self._max_tasks = max_tasks
        self._hands: list[Hand] = []
        self._sources: deque[Source] = deque()
        # At once: it is up by the time that work is packed, and tidies up whatever happens.
        self._server: Server | None = Server(method, self._depot)
        self._numbers = itertools.count()
        self._failed_starts = 0
        self._failed_at = 0.0
        self.renewed: frozenset[tuple[str, str]] = frozenset()
        self._mail: deque[Callable[[], None]] = deque()
        with kept_clear():
            self._wake, self._bell = socket.socketpair()
        self._wake.setblocking(False)  # noqa: FBT003 - the standard library's own
        self._bell.setblocking(False)  # noqa: FBT003
        self._rung = False
        self._closing_at: float | None = None
        self._closed = False
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_bell)
        self._thread = threading.Thread(
            target=self._serve, name="hypernodes-processes", daemon=True
        )
        self._thread.start()
        atexit.register(self._leave)
        _pools.add(self)

    # ------------------------------------------------------------ for other threads

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_over(self) -> bool:
        return self._closed

    def offer(self, source: Source) -> None:
        self._tell(partial(self._add, source))
        if self._closed:  # perhaps after the last letter was read
            source.stop(closed_error())

    def drop(self, source: Source) -> None:
        self._tell(partial(self._remove, source))

    def close(self) -> None:
        self._end(PATIENCE)

    def _leave(self) -> None:
        """End with the interpreter."""
        self._end(0.0)

    def _end(self, grace: float) -> None:
        if os.getpid() != self._pid or self._closed:
            return
        self._tell(partial(self._begin_close, grace))
        self._thread.join(grace + PATIENCE)
        atexit.unregister(self._leave)

    def _tell(self, letter: Callable[[], None]) -> None:
        self._mail.append(letter)
        if not self._rung:
            self._rung = True
            try:
                self._bell.send(b"!")
            except OSError:
                return

    def abandon(self) -> None:
        """Close what a forked child of this process has inherited."""
        for hand in self._hands:
            hand.close()
        self._hands.clear()
        if self._server is not None:
            self._server.abandon()
        self._wake.close()
        self._bell.close()
        self._closed = True

    # ------------------------------------------------------------ the dispatcher's loop

    def _serve(self) -> None:
        try:
            while not self._is_over:
                for key, _ in self._selector.select(self._timeout()):
                    key.data()
                self._read_mail()
                self._tick()
                self._hand_out()
                self._flush()
        except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
            self._closed = True  # first: who hears of the error may run again at once
            self._stop_all(error)
        finally:
            self._clear_up()

    def _on_bell(self) -> None:
        try:
            self._wake.recv(4096)
        except OSError:
            return

    def _read_mail(self) -> None:
        self._rung = False
        while self._mail:
            self._mail.popleft()()

    def _timeout(self) -> float | None:
        """Return the seconds after which there is something to look at without being told."""
        now = time.monotonic()
        waits: list[float] = []
        if any(hand.is_settling for hand in self._hands):
            waits.append(SETTLE_TICK)
        if self._has_room:
            waits += [source.due - now for source in self._sources if source.due is not None]
            if any(hand.unstarted and not hand.is_recalled for hand in self._hands):
                waits.append(IDLE_TICK)
        if any(hand.is_timed for hand in self._hands):
            waits.append(TIMED_TICK)
        waits += [hand.doomed_at - now for hand in self._hands if hand.doomed_at is not None]
        if self._closing_at is not None:
            waits.append(self._closing_at - now)
        return max(0.0, min(waits)) if waits else None

    def _tick(self) -> None:
        now = time.monotonic()
        for hand in self._hands:
            hand.settle()
            self._check_time(hand)
            self._check_doom(hand, now)
        self._steal(now)

    @staticmethod
    def _check_time(hand: Hand) -> None:
        if hand.is_timed and not hand.killed:
            hand.death = hand.overdue()
            if hand.death is not None:
                hand.kill()

    @staticmethod
    def _check_doom(hand: Hand, now: float) -> None:
        """Kill a worker that has been busy with cancelled work for too long."""
        if hand.doomed_at is None or now < hand.doomed_at:
            return
        hand.doomed_at = None
        chunk = hand.busy_with
        if chunk is not None and chunk.source.closed:
            hand.kill()

    # ------------------------------------------------------------ letters

    def _add(self, source: Source) -> None:
        if self._closing_at is not None:
            source.stop(closed_error())
        elif not source.closed and source not in self._sources:
            self._sources.append(source)

    def _remove(self, source: Source) -> None:
        if source in self._sources:
            self._sources.remove(source)
        doomed_at = time.monotonic() + PATIENCE
        for hand in self._hands:
            mine = [chunk for chunk in hand.chunks if chunk.source is source]
            for chunk in mine:
                hand.void(chunk)
            if mine:
                hand.recall()
                hand.doomed_at = hand.doomed_at or doomed_at
            hand.forget(source.token, source.careful_token)

    def _begin_close(self, grace: float) -> None:
        self._closing_at = time.monotonic() + grace
        self._stop_all(closed_error())
        for hand in self._hands:
            hand.recall()

    @property
    def _is_over(self) -> bool:
        if self._closing_at is None:
            return False
        return time.monotonic() >= self._closing_at or not any(h.chunks for h in self._hands)

    def _stop_all(self, error: BaseException) -> None:
        flying = [chunk.source for hand in self._hands for chunk in hand.chunks]
        for source in dict.fromkeys((*self._sources, *flying)):
            if not source.closed:
                source.closed = True
                source.stop(error)
        self._sources.clear()

    def _clear_up(self) -> None:
        self._closing_at = time.monotonic()
        self._closed = True
        while self._mail:
            with suppress(Exception):  # nobody may wait for ever because another's letter is bad
                self._read_mail()
        for hand in self._hands:
            if hand.chunks:
                hand.kill()
            hand.close()
        self._hands.clear()
        self._close_server()
        self._selector.close()
        self._wake.close()
        self._bell.close()
        self._depot.close()

    # ------------------------------------------------------------ handing out

    @property
    def _has_room(self) -> bool:
        """Whether a worker is idle, or could be started."""
        return self._has_idle or len(self._hands) < self._size

    @property
    def _has_idle(self) -> bool:
        return any(hand.is_free and not hand.chunks for hand in self._hands)

    def _hand_out(self) -> None:
        """Give chunks to workers: to idle ones first, then behind what is soon done."""
        while self._sources and self._closing_at is None:
            hand = self._candidate()
            if hand is not None and hand.chunks and not self._may_queue(hand):
                return
            if hand is None and len(self._hands) >= self._size:
                return
            chunk = self._draw(hand)
            if chunk is None:
                return
            hand = hand or self._hire()
            if hand is None:
                chunk.source.put_back(chunk, chunk.entries)
                return
            hand.give(chunk, next(self._numbers))
            hand.flush()

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _candidate(self) -> Hand | None:
        """Return an idle worker; None to start one; else the one with the fewest chunks."""
        free = [hand for hand in self._hands if hand.is_free]
        idle = next((hand for hand in free if not hand.chunks), None)
        if idle is not None or len(self._hands) < self._size:
            return idle
        return min(free, key=lambda hand: len(hand.chunks), default=None)

    def _may_queue(self, hand: Hand) -> bool:
        """Whether a chunk may wait behind others: not while something waits for an idle worker."""
        if self._max_tasks is not None or len(hand.chunks) >= DEPTH:
            return False
        now = time.monotonic()
        return not any(source.needs_idle(now) for source in self._sources)

    def _draw(self, hand: Hand | None) -> Chunk | None:
        """Return the next chunk of the source whose turn it is."""
        behind = hand is not None and bool(hand.chunks)
        most = MANY
        if self._max_tasks is not None:
            most = self._max_tasks - (hand.done if hand is not None else 0)
        for _ in range(len(self._sources)):
            source = self._sources[0]
            self._sources.rotate(-1)
            chunk = source.take(self._size, behind=behind, most=most)
            if chunk is not None:
                return chunk
        return None

    def _hire(self) -> Hand | None:
        """Start a worker."""
        for _ in range(2):
            try:
                if self._server is None:
                    self._server = Server(self._method, self._depot)
                hand = Hand(*self._server.start_worker())
            except OSError as error:
                reason = error
                if self._hands and not (self._server is None or self._server.is_gone):
                    return None  # nothing is left to open, but those who are there can go on
                self._close_server()
                continue
            self._hands.append(hand)
            self._selector.register(hand.socket, selectors.EVENT_READ, partial(self._on_news, hand))
            return hand
        self._stop_all(_start_error(repr(reason)))
        return None

    def _steal(self, now: float) -> None:
        """Where workers are idle, take back what waits behind something slow."""
        if not self._has_room or any(source.waiting for source in self._sources):
            return
        for hand in self._hands:
            # One that is only slow to wake up is let be: the next one might be no faster.
            is_slow = hand.busy_with is not None or (hand.pid is None and self._has_idle)
            if is_slow and hand.unstarted and now - hand.last_news > SLOW:
                hand.recall()

    # ------------------------------------------------------------ news

    def _flush(self) -> None:
        for hand in self._hands:
            if hand.has_unsent:
                hand.flush()
            self._mind(hand)

    def _mind(self, hand: Hand) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if hand.has_unsent else 0)
        key = self._selector.get_key(hand.socket)
        if key.events != events:
            self._selector.modify(hand.socket, events, key.data)

    def _on_news(self, hand: Hand) -> None:
        if hand not in self._hands:
            return
        messages, over = hand.read()
        for message in messages:
            self._handle(hand, message)
        if over:
            self._on_death(hand)
        elif not hand.chunks and (hand.retired or self._has_done_enough(hand)):
            self.renewed |= hand.stale
            self._dismiss(hand)

    def _has_done_enough(self, hand: Hand) -> bool:
        return self._max_tasks is not None and hand.done >= self._max_tasks

    def _handle(self, hand: Hand, message: Any) -> None:
        kind, *facts = message
        getattr(hand, f"on_{kind}")(*facts)
        if kind == "hello":
            self._failed_starts = 0
            if hand.pidfd is not None:
                self._selector.register(
                    hand.pidfd, selectors.EVENT_READ, partial(self._on_exit, hand)
                )

    def _on_exit(self, hand: Hand) -> None:
        """A process has ended; read what it left, even where a child of its keeps its socket."""
        if hand not in self._hands:
            return
        messages, _ = hand.read(MANY)
        for message in messages:
            self._handle(hand, message)
        self._on_death(hand)

    def _on_death(self, hand: Hand) -> None:
        self._leave_out(hand)
        # What ends several at once counts once.
        if hand.pid is None and not hand.killed and hand.born > self._failed_at:
            self._failed_starts += 1
            self._failed_at = time.monotonic()
        if self._failed_starts >= MOST_FAILED_STARTS:
            self._failed_starts = 0
            self._stop_all(_start_error("see what they wrote to stderr"))
        hand.bury()
        self._depot.discard(hand.pid, hand.last_file)
        hand.close()

    def _dismiss(self, hand: Hand) -> None:
        self._leave_out(hand)
        hand.close()

    def _leave_out(self, hand: Hand) -> None:
        self._hands.remove(hand)
        self._selector.unregister(hand.socket)
        if hand.pidfd is not None:
            self._selector.unregister(hand.pidfd)


def _start_error(reason: str) -> HyperNodesError:
    return HyperNodesError(
        f"worker processes end before they begin: {reason}; hypernodes and what it needs have to "
        f"be importable in a new interpreter"
    )


_pools: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()


def _abandon_all() -> None:
    for pool in list(_pools):
        pool.abandon()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
