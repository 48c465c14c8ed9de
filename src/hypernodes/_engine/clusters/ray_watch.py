"""Watches over a Ray cluster, which by itself is slow to tell that it is gone.

Where its control store is down, calls hang, and after a minute Ray ends the program; where the
local node is down, nothing is told for half a minute. Both can be seen by whether they listen.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import ray
from ray.runtime_context import get_runtime_context

from hypernodes._engine.clusters import ray_floor
from hypernodes._engine.clusters.reach import listens
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GLANCE: Final = 1.0
HEARS: Final = 1.0
"""Seconds in which a part of the cluster takes a connection."""
MOST_DEAF: Final = 3
"""How often in a row a part of the cluster does not listen until it counts as gone."""


class Watch:
    """Looks around now and then, in a thread of its own.

    Args:
        tell: Takes the nodes that are there.
        broken: Takes what is wrong with the cluster, after which there are no more looks.
    """

    def __init__(
        self,
        tell: Callable[[Mapping[str, Mapping[str, float]]], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._tell = tell
        self._broken = broken
        self._connection = connection()
        self._parts = _parts()
        self._deaf = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hypernodes-ray-watch", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Look no more; return whether the cluster was there at the last look."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(MOST_DEAF * GLANCE)  # Ray is not to be asked while it is shut down
        return not self._deaf

    def _run(self) -> None:
        while not self._over.wait(GLANCE):
            error = self._glance()
            if error is not None and not self._over.is_set():
                self._broken(error)
                return

    def _glance(self) -> BaseException | None:
        parts = self._parts.items()
        deaf = next((what for what, where in parts if not listens(where, HEARS)), None)
        if connection() != self._connection:
            return left_by_user()
        if deaf is None:
            self._deaf = 0
            with suppress(Exception):  # asked again at the next look
                self._tell(ray_floor.nodes())
            return None
        self._deaf += 1
        return _gone(deaf) if self._deaf >= MOST_DEAF else None


def connection() -> str:
    """Return what this program is to the Ray that it is connected to; empty where there is none."""
    if not ray.is_initialized():
        return ""
    context = get_runtime_context()  # that of `ray` itself would start another Ray
    try:
        return f"{context.get_node_id()} {context.get_job_id()}"
    except (AttributeError, RuntimeError):  # another thread leaves it just now
        return ""


def left_by_user() -> HyperNodesError:
    """Return the error for a run during which the program has left Ray."""
    return HyperNodesError("the program has called ray.shutdown() in the middle of a run")


def _parts() -> dict[str, tuple[str, int]]:
    """Return where the parts of the cluster listen that this process cannot do without."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = context.get_node_id()
    parts = {"the control store (GCS)": (host.strip("[]"), int(port))}
    for node in ray.nodes():
        if node["NodeID"] == here:
            parts["the local node (raylet)"] = node["NodeManagerAddress"], node["NodeManagerPort"]
    return parts


def _gone(part: str) -> HyperNodesError:
    return HyperNodesError(
        f"the connection to Ray was lost, and with it what ran there: {part} does not answer; see "
        f"whether it is up, and run again: with a cache, what was finished is not run again"
    )
