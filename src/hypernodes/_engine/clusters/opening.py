"""Clusters: the one that a user has, or one of our own."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from distributed import Client, LocalCluster, default_client

from hypernodes._engine.clusters.dask import DaskCluster
from hypernodes._engine.clusters.nursery import kill_worker, open_cluster
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 60
SILENT: Final = logging.CRITICAL + 1


def open_dask(
    address: str | None, count: int, *, processes: bool, options: dict[str, Any]
) -> DaskCluster:
    """Return the Dask cluster at an address, that of the program's client, or one of our own.

    Args:
        address: Of the scheduler; None for none.
        count: How many workers our own has.
        processes: Whether these are processes.
        options: What hooks have filled in: `init_kwargs` for the client.

    Raises:
        HyperNodesError: There is no scheduler at the address.
    """
    given = options.get("init_kwargs", {})
    if address is not None:
        client = _connected(address, given)
        return DaskCluster(client, settles=False, kill=None, closing=[client.close])
    client = _present()
    if client is not None:
        return DaskCluster(client, settles=False, kill=None, closing=[])
    if processes:
        cluster = open_cluster(count)
        kill: Callable[[str], None] | None = partial(kill_worker, cluster)
    else:
        cluster, kill = _threads(count), None
    client = Client(cluster, set_as_default=False, **given)
    client.wait_for_workers(count, timeout=PATIENCE)
    closing = [client.close, cluster.close]
    return DaskCluster(client, settles=processes, kill=kill, closing=closing)


def _connected(address: str, given: dict[str, Any]) -> Client:
    try:
        return Client(address, set_as_default=False, **given)
    except OSError as error:
        message = f"there is no Dask scheduler at {address!r} ({error}); see whether it is up"
        raise HyperNodesError(message) from error


def _present() -> Client | None:
    """Return the client that this program has opened, if any."""
    try:
        client = default_client()
    except ValueError:
        return None
    return client if client.status == "running" else None


def _threads(count: int) -> LocalCluster:
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        silence_logs=SILENT,
    )
