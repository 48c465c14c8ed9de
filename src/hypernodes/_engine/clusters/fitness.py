"""Which workers of a Dask cluster can run what is sent from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypernodes._engine.clusters.versions import differing, inquiry, mismatch

if TYPE_CHECKING:
    from collections.abc import Iterable


class Fitness:
    """Compares the versions of workers with those of this process.

    Args:
        client: Leads to them.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._question = inquiry("distributed")
        self._here: dict[str, Any] = eval(self._question)  # noqa: S307 - it is our own
        self._fit: set[str] = set()

    def __contains__(self, worker: str) -> bool:
        return worker in self._fit

    def check(self, workers: Iterable[str]) -> None:
        """Refuse workers that have other versions.

        Those that cannot be reached are neither refused nor fit, as long as others are there.

        Args:
            workers: Their addresses.

        Raises:
            HyperNodesError: Some differ, or none can be reached; it names them and says in what.
        """
        asked = [worker for worker in workers if worker not in self._fit]
        there = self._client.run(eval, self._question, workers=asked, on_error="return")
        words = {worker: differing(self._here, found) for worker, found in there.items()}
        self._fit.update(worker for worker, found in words.items() if not found)
        away = {worker for worker, found in there.items() if isinstance(found, OSError)}
        refused = [worker for worker in asked if words.get(worker) and worker not in away]
        if refused or (away and not self._fit):
            found = refused or away
            raise mismatch([(f"the Dask worker {worker}", words[worker]) for worker in found])

    def forget(self, worker: str) -> None:
        """Take note that a worker is gone: another one may come to its address."""
        self._fit.discard(worker)
