"""Clusters: the one that a user has, or one of our own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from inspect import Parameter, signature
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from distributed import Client, Worker, get_worker

from hypernodes._engine.clusters.dask import DaskCluster
from hypernodes._engine.clusters.fitness import Fitness, workers_of
from hypernodes._engine.clusters.knock import CONNECTS_IN, identity_at, knock
from hypernodes._engine.clusters.lifeline import Lifeline, no_workers, waiting_for_workers
from hypernodes._engine.clusters.loops import LoopThread
from hypernodes._engine.clusters.nursery import Nursery, Wish
from hypernodes._engine.clusters.options import check_timeout
from hypernodes._engine.clusters.security import missing_files
from hypernodes._engine.workers import OCCUPIED
from hypernodes.abc import Backend
from hypernodes.exceptions import HyperNodesError, InputError, hint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from distributed.security import Security

PATIENCE: Final = 60.0
BIT: Final = 0.5
BY_ADDRESS: Final = "the address of a scheduler is the executor's scheduler_address"
OPTIONS: Final = ("client", "cluster", "cluster_kwargs", "init_kwargs", "timeout")


def open_dask(
    address: str | None,
    security: Security | None,
    count: int,
    *,
    processes: bool,
    options: Mapping[str, Any],
) -> DaskCluster:
    """Return the Dask cluster at an address, the one that is present here, or one of our own.

    Args:
        address: Of the scheduler; None for none.
        security: For that address.
        count: How many workers our own has.
        processes: Whether these are processes.
        options: What hooks have filled in; see `DaskExecutor`.

    Raises:
        InputError: An option is unknown or wrong.
        HyperNodesError: There is no scheduler, there are no workers, or they do not fit.
    """
    _check(options)
    patience = float(options.get("timeout", PATIENCE))
    arguments = dict(options.get("init_kwargs", {}))
    given, found = _given(options), _present()
    if given is not None:
        address, security = _place(given)
    if address is not None:
        return _joined(address, security, arguments, patience, is_stale=lambda: False)
    if found is not None:
        is_stale = lambda: _present() is not found  # noqa: E731 - too short for a name of its own
        return _joined(*_place(found), arguments, patience, is_stale=is_stale)
    wish = Wish.of(count, options.get("cluster_kwargs", {}))
    return _opened(wish, arguments, patience, processes=processes)


def ground_of_dask(address: str | None, security: Security | None) -> Hashable | None:
    """Return what the cluster is called that is there already; see `open_dask`.

    Args:
        address: Of the scheduler; None for that of who is present.
        security: For that address.
    """
    present = None if address is not None else _present()
    if present is not None:
        address, security = _place(present)
    identity = None if address is None else identity_at(address, security)
    return None if identity is None else ("dask", identity)


def _check(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            message = f"Dask has no option {name!r} to start with; {hint(name, OPTIONS)}"
            raise InputError(message, name=str(name))
        if name.endswith("_kwargs") and not isinstance(value, Mapping):
            raise InputError(f"option {name!r} has to be a dict, not {value!r}", name=name)
    _check_arguments(options.get("init_kwargs", {}))
    check_timeout(options.get("timeout", PATIENCE))


def _check_arguments(given: Mapping[str, Any]) -> None:
    taken = signature(Client).parameters.values()
    known = [p.name for p in taken if p.kind is not Parameter.VAR_KEYWORD and p.name != "address"]
    for name in given:
        if name not in known:
            message = f"init_kwargs: distributed.Client takes no {name!r} here; {hint(name, known)}"
            raise InputError(message, name=str(name))


def _given(options: Mapping[str, Any]) -> Any:
    """Return the client or the cluster that a hook has put in the place of ours."""
    client, cluster = options.get("client"), options.get("cluster")
    if client is not None and cluster is not None:
        message = "the options have both a 'client' and a 'cluster'; one of them says it all"
        raise InputError(message, name="cluster")
    for name, what in {"client": "a distributed.Client", "cluster": "a cluster of Dask's"}.items():
        given = options.get(name)
        if isinstance(given, str) or (name == "client" and not isinstance(given, Client | None)):
            message = f"option {name!r} has to be {what}, not {given!r}; {BY_ADDRESS}"
            raise InputError(message, name=name)
    return cluster if client is None else client


def _present() -> Client | Worker | None:
    """Return the client that this program has opened, or the worker that a backend has chosen."""
    with suppress(ValueError):
        client = Client.current()
        if client.status in ("running", "connecting"):
            return client
    return _worker_of_backend()


def _worker_of_backend() -> Worker | None:
    """Return the worker that this is, if a backend has sent it what runs now: that lends its place.

    Tasks of others do not: what waits in them for tasks of the same cluster could wait for ever.
    """
    if any(isinstance(each, Backend) for each in OCCUPIED.get()):
        with suppress(ValueError):
            return get_worker()
    return None


def _place(host: Any) -> tuple[str, Any]:
    """Return the address where a client, or a cluster, leads to, and its security."""
    found = getattr(host, "scheduler_address", None)
    if not isinstance(found, str):
        found = getattr(getattr(host, "scheduler", None), "address", None)
    if not isinstance(found, str):
        raise HyperNodesError(f"{host!r} leads to no scheduler; it is closed, or was not started")
    return found, getattr(host, "security", None)


# ---------------------------------------------------------------- one that is there


def _joined(
    address: str,
    security: Any,
    arguments: dict[str, Any],
    patience: float,
    *,
    is_stale: Callable[[], bool],
) -> DaskCluster:
    """Return the cluster at an address; the connection is ours, all else is not."""
    with ExitStack() as undo:
        loop = _loop(undo)
        client = _connected(address, {"security": security, "loop": loop.loop, **arguments})
        undo.callback(_close, client)
        wake = _Call(client)
        _await_workers(client, address, patience, wake)
        fitness = Fitness(client)
        fit = fitness.checked(workers_of(client))
        lifeline = Lifeline(
            client,
            patience=patience,
            is_stale=is_stale,
            trouble=lambda: None,
            wake=wake,
            is_far=True,
        )
        undo.pop_all()
    return DaskCluster(client, lifeline, fitness, fit=fit, closing=[client.close, loop.stop])


def _loop(undo: ExitStack) -> LoopThread:
    loop = LoopThread()
    undo.callback(loop.stop)
    return loop


def _connected(address: str, arguments: dict[str, Any]) -> Client:
    given = {"timeout": CONNECTS_IN, "name": "hypernodes", "set_as_default": False, **arguments}
    try:
        knock(address, arguments)
        return Connection(address, **given)
    except HyperNodesError:
        raise
    except Exception as error:  # also what TLS and addresses raise, of many kinds
        raise HyperNodesError(_unreachable(address, error, given["security"])) from error


def _unreachable(address: str, error: Exception, security: Any) -> str:
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError) and (missing := missing_files(security)):
        return f"security for {address!r} names files that are not there: {', '.join(missing)}"
    if isinstance(error, TypeError) and "ssl_context" in str(error):
        return (
            f"a scheduler at {address!r} asks for TLS: give security= with tls_ca_file, "
            f"tls_client_cert and tls_client_key"
        )
    if isinstance(error, TypeError) and str(error).startswith("Worker."):
        return f"what answers at {address!r} is a Dask worker; give the address of its scheduler"
    if isinstance(error, (MemoryError, OverflowError, ValueError)):  # its words are taken for sizes
        return (
            f"what answers at {address!r} is no Dask scheduler ({kind}); see whether this is the "
            f"scheduler's own port, and not that of its dashboard or of a proxy"
        )
    return (
        f"no Dask scheduler can be reached at {address!r} ({kind}: {error}); see whether it is up, "
        f"whether this is its own port, not that of its dashboard, and whether it wants TLS "
        f"(security=...)"
    )


class Connection(Client):  # type: ignore[misc] # extras are Any
    """A client that leaves nothing behind where it cannot connect."""

    def start(self, **kwargs: Any) -> None:
        """Connect."""
        try:
            super().start(**kwargs)
        except BaseException:
            _close(self)
            raise


def _close(client: Client) -> None:
    with suppress(Exception):  # the error that led here says more
        client.close()


class _Call:
    """Calls for a worker: an adaptive cluster starts some when there is something to do.

    Args:
        client: Leads to the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self) -> object:
        """Return the task that waits for a worker; it is given up when nobody holds it."""
        return self._client.submit(int, pure=False)


def _await_workers(
    client: Client, address: str, patience: float, wake: Callable[[], object]
) -> None:
    if workers_of(client):
        return
    call = wake()
    try:
        _await(client, 1, patience, waiting_for_workers(address, patience).goes_on)
    finally:
        del call


def _await(client: Client, count: int, patience: float, glance: Callable[[], None]) -> None:
    """Wait for so many workers, with a glance now and then at how that goes."""
    end = monotonic() + patience
    while True:
        try:
            client.wait_for_workers(count, timeout=BIT)
        except TimeoutError as error:
            glance()
            if monotonic() > end:
                raise no_workers(patience) from error
        else:
            return


# ---------------------------------------------------------------- one of our own


def _opened(
    wish: Wish, arguments: dict[str, Any], patience: float, *, processes: bool
) -> DaskCluster:
    with ExitStack() as undo:
        loop = _loop(undo)
        nursery = Nursery(wish, loop.loop, processes=processes)
        undo.callback(nursery.cluster.close)
        client = Connection(nursery.cluster, **{"set_as_default": False, **arguments})
        undo.callback(_close, client)
        _await_births(client, nursery, wish.n_workers, patience)
        lifeline = Lifeline(
            client,
            patience=patience,
            is_stale=lambda: _present() is not None,
            trouble=lambda: nursery.trouble,
            wake=lambda: None,
            is_far=False,
        )
        undo.pop_all()
    kill = nursery.kill if processes else None
    closing = [client.close, nursery.cluster.close, loop.stop]
    return DaskCluster(client, lifeline, None, closing=closing, kill=kill, settles=processes)


def _await_births(client: Client, nursery: Nursery, count: int, patience: float) -> None:
    def glance() -> None:
        if nursery.trouble is not None:
            raise nursery.trouble from None

    _await(client, count, patience, glance)
