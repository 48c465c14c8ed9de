"""Which workers a Dask cluster has, and which of them can run what is sent from here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.clusters.versions import differing, inquiry, mismatch

if TYPE_CHECKING:
    from collections.abc import Collection

    from hypernodes.exceptions import HyperNodesError

PAUSES: Final = (0.2, 1.0, 5.0)
"""Seconds between attempts to ask a worker that cannot be reached, or not yet."""


class Fitness:
    """Compares the versions of workers with those of this process.

    Args:
        client: Leads to them.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._question = inquiry("distributed")
        self._here: dict[str, Any] = eval(self._question)  # noqa: S307 - it is our own

    def checked(self, workers: Collection[str]) -> set[str]:
        """Return which workers fit.

        Those that cannot be reached do not, and are no error as long as others are there; nor are
        those that have gone meanwhile, as workers of a cluster that adapts may have.

        Args:
            workers: Their addresses.

        Raises:
            HyperNodesError: Some differ, or none can be reached; it names them and says in what.
        """
        there = self._answers(workers)
        words = {worker: differing(self._here, found) for worker, found in there.items()}
        fit = {worker for worker, found in words.items() if not found}
        refused = [w for w in words.keys() - fit if not isinstance(there[w], OSError)]
        if refused or (words and not fit):
            raise misfit({worker: words[worker] for worker in refused or words})
        return fit

    def judged(self, worker: str) -> str:
        """Return in words why a worker cannot be used; nothing where it can.

        Args:
            worker: Its address.

        Raises:
            KeyError: It has gone.
        """
        return differing(self._here, self._answers([worker])[worker])

    def _answers(self, workers: Collection[str]) -> dict[str, Any]:
        """Return what workers say; while none can be reached, those that stay are asked again."""
        for pause in PAUSES:
            found = self._asked(workers)
            if not all(isinstance(there, OSError) for there in found.values()):
                return found
            workers = workers_of(self._client).keys() & workers
            if not workers:
                return {}
            time.sleep(pause)
        return self._asked(workers)

    def _asked(self, workers: Collection[str]) -> dict[str, Any]:
        """Return what workers have, or what was raised when they were asked."""
        options = {"workers": list(workers), "on_error": "return"}
        found: dict[str, Any] = self._client.run(eval, self._question, **options)
        return found


def workers_of(client: Any) -> dict[str, Any]:
    """Return what the scheduler knows of its workers, by their addresses.

    It is asked itself: `Client.scheduler_info` may return what it has answered to somebody else
    meanwhile, as to Dask's own questions now and then, which are not about workers.

    Args:
        client: Leads to it.
    """
    told = client.sync(client.scheduler.identity, n_workers=-1)
    return dict(told["workers"])


def misfit(found: dict[str, str]) -> HyperNodesError:
    """Return the error that names workers which cannot be used.

    Args:
        found: Why, by their addresses.
    """
    return mismatch([(f"the Dask worker {worker}", words) for worker, words in found.items()])
