"""Whether anybody is at the address of a Dask scheduler, and who: Dask itself has much patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from dask.utils import parse_timedelta
from distributed import rpc
from distributed.comm import connect, get_address_host_port, parse_address
from distributed.security import Security

from hypernodes._engine.clusters.loops import LoopThread
from hypernodes._engine.clusters.reach import problem_at
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOMENT: Final = 2.0
"""Seconds for a scheduler that is about to listen, or a name that is about to be known."""
CONNECTS_IN: Final = 10.0
"""Seconds within which whoever is there has to answer."""


def knock(address: str, arguments: Mapping[str, Any]) -> None:
    """See that a scheduler answers at an address; if not, say at once what can be known.

    Args:
        address: Of the scheduler.
        arguments: Those of the client that is to lead there, with its loop. A `timeout` among them
            is how long a scheduler may take, whatever is there by now.

    Raises:
        HyperNodesError: Nobody is there.
        Exception: Whatever else is wrong with who is there.
    """
    if parse_address(address)[0] not in {"tcp", "tls"}:
        return
    given = arguments.get("timeout")
    waits = (MOMENT, CONNECTS_IN) if given is None else (parse_timedelta(given, "seconds"),)
    for seconds in waits:
        try:
            _ask(address, arguments, seconds)
        except Exception as error:  # also what TLS, and servers of other kinds, lead to
            problem = problem_at(*get_address_host_port(address))
            if problem is not None:
                message = f"no Dask scheduler can be reached at {address!r}: {problem}"
                raise HyperNodesError(message) from error
            if seconds == waits[-1] or not isinstance(error, OSError):  # so are those of time
                raise
        else:
            return


def _ask(address: str, arguments: Mapping[str, Any], seconds: float) -> None:
    """Connect as Dask does, so that a scheduler sees nothing unusual; it has to answer in time."""
    security = arguments["security"]
    if isinstance(security, dict):
        security = Security(**security)
    given = (security or Security()).get_connection_args("client")
    asked = asyncio.wait_for(_asked(address, seconds, given), seconds)
    try:
        asyncio.run_coroutine_threadsafe(asked, arguments["loop"].asyncio_loop).result()
    except TimeoutError as error:
        raise TimeoutError(f"it has not answered for {seconds:g} s") from error


async def _asked(address: str, seconds: float, arguments: dict[str, Any]) -> None:
    comm = await connect(address, timeout=seconds, **arguments)
    await comm.close()


def identity_at(address: str, security: Security | None) -> str | None:
    """Return what the scheduler at an address calls itself; nothing is left of the connection.

    Args:
        address: Of the scheduler.
        security: For that address.

    Returns:
        The name, or None where nobody answers.
    """
    loop = LoopThread()
    try:
        asked = _identity(address, security or Security())
        return loop.wait_for(asyncio.wait_for(asked, CONNECTS_IN))
    except Exception:  # noqa: BLE001 - whoever opens a connection there is told what is wrong
        return None
    finally:
        loop.stop()


async def _identity(address: str, security: Security) -> str | None:
    arguments = security.get_connection_args("client")
    async with rpc(address, timeout=CONNECTS_IN, connection_args=arguments) as there:
        found: dict[str, Any] = await there.identity(n_workers=0)
        return found.get("id")
