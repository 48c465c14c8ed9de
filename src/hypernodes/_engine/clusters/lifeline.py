"""What watches over a Dask cluster while it is in use: whether it is still there, and the same.

Dask itself is patient: a client reconnects for half a minute, takes a new scheduler for the old
one, and waits for ever for one that is silent, or for workers.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.clusters.waiting import Waiting
from hypernodes._engine.threads import DaemonThreads
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent import futures

    from hypernodes._engine.clusters.cluster import Listener

GLANCE: Final = 0.2
PULSE: Final = 2.0
"""Seconds between two questions to the scheduler."""
SILENCE: Final = 15.0
"""Seconds after which a scheduler that does not answer counts as gone."""
LATE: Final = 5.0
"""Seconds without any worker after which that is told."""
MERCY: Final = 2.0
"""Seconds for those who use the client to leave it, before it is closed under them."""
CUT: Final = "the connection to the Dask scheduler was lost"


class Lifeline:
    """Watches over the connection to a cluster, in a thread of its own.

    Args:
        client: The connection; ours.
        patience: For how many seconds work may wait where there are no workers.
        is_stale: Whether another cluster is to be used by now.
        trouble: Returns why there will be no more workers, or None.
        wake: Has workers start, where somebody can.
        is_far: Whether the scheduler is in another process.

    Attributes:
        scheduler: What the scheduler calls itself.
        lost: Why the cluster cannot be used any more; None as long as it can.
    """

    def __init__(
        self,
        client: Any,
        *,
        patience: float,
        is_stale: Callable[[], bool],
        trouble: Callable[[], HyperNodesError | None],
        wake: Callable[[], object],
        is_far: bool,
    ) -> None:
        self.lost: HyperNodesError | None = None
        self._client = client
        self._patience = patience
        self._is_stale = is_stale
        self._trouble = trouble
        self._wake = wake
        self._is_far = is_far
        told = client.scheduler_info(n_workers=0)
        self.scheduler: str = told.get("id")
        self._address: str = told.get("address")
        self._asking = DaemonThreads(1, "hypernodes-dask-pulse")
        self._question: futures.Future[Any] | None = None
        self._asked_at = monotonic()
        self._quiet = 0
        self._deserted_at: float | None = None
        self._woken: object = None
        self._waiting = waiting_for_workers(self._address, patience)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Whether the next run needs another connection, or another cluster."""
        return self.lost is not None or self._client.status != "running" or self._is_stale()

    def watch(self, listener: Listener, places: Callable[[], int]) -> None:
        """Begin to watch.

        Args:
            listener: Told of the loss.
            places: How many workers there are.
        """
        target = self._watch
        self._thread = threading.Thread(
            target=target, args=(listener, places), name="hypernodes-dask-lifeline", daemon=True
        )
        self._thread.start()

    def cut_off(self, what: str = CUT) -> HyperNodesError:
        """Return the error for work that is lost with the connection.

        Args:
            what: What has happened.
        """
        return HyperNodesError(
            f"{what} ({self._address}), and with it what ran there; see whether it is up, and run "
            f"again: with a cache that is shared, what was finished is not run again"
        )

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._asking.shutdown(wait=False)
        self._woken = None

    def _watch(self, listener: Listener, places: Callable[[], int]) -> None:
        while not self._over.wait(GLANCE):
            error = self._found_lost() or self._found_deserted(listener, places())
            if error is None:
                continue
            self.lost = error
            listener.broken(error)
            if not self._over.wait(MERCY):  # whoever should hear it waits for an answer
                with suppress(Exception):
                    self._client.close()
            return

    # ------------------------------------------------------------ the scheduler

    def _found_lost(self) -> HyperNodesError | None:
        if self._client.status != "running":
            return self.cut_off()
        return self._feel_pulse() if self._is_far else None

    def _feel_pulse(self) -> HyperNodesError | None:
        if self._question is None:
            if monotonic() - self._asked_at > PULSE:
                self._asked_at, self._quiet = monotonic(), 0
                self._question = self._asking.submit(self._client.scheduler_info, n_workers=0)
            return None
        if not self._question.done():
            # Glances are counted: where this process itself stands still, nobody is silent.
            self._quiet += 1
            if self._quiet * GLANCE < SILENCE:
                return None
            return self.cut_off(f"the Dask scheduler has not answered for {SILENCE:g} s")
        question, self._question = self._question, None
        if question.exception() is not None:
            return None  # the next glance sees that the connection is lost
        if question.result().get("id", self.scheduler) != self.scheduler:
            return self.cut_off("the Dask scheduler was restarted")
        return None

    # ------------------------------------------------------------ its workers

    def _found_deserted(self, listener: Listener, places: int) -> HyperNodesError | None:
        trouble = self._trouble()
        if trouble is not None and not places:
            return trouble
        if places or not listener.is_busy:
            self._deserted_at = self._woken = None
            self._waiting.is_over()
        elif self._deserted_at is None:
            self._deserted_at = monotonic()
            self._woken = self._wake()
        elif monotonic() - self._deserted_at > self._patience:
            return no_workers(self._patience)
        elif self._is_far:
            self._waiting.goes_on()
        return None


def waiting_for_workers(address: str, patience: float) -> Waiting:
    """Return what tells of the wait for workers to join.

    Args:
        address: Where they are to join.
        patience: For how many seconds they are waited for.
    """
    return Waiting(
        LATE,
        f"a run waits for workers of the Dask cluster at {address}, which has none, {patience:g} s "
        f"at the most; start some (`dask worker {address}`), or see in their logs why they do not "
        f"join",
    )


def no_workers(seconds: float) -> HyperNodesError:
    """Return the error for a cluster where nobody works.

    Args:
        seconds: For how long.
    """
    return HyperNodesError(
        f"the Dask cluster has had no worker for {seconds:g} s; start some (`dask worker "
        f"ADDRESS`), see in their logs why they do not join, or wait longer: an on_executor_start "
        f"hook may set options['timeout']"
    )
