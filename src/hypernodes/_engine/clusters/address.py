"""Addresses of Dask's schedulers, as far as can be told without going there."""

from __future__ import annotations

from typing import Any, Final

from distributed.comm import parse_address, parse_host_port
from distributed.comm.registry import backends

from hypernodes.exceptions import hint

WITH_PORT: Final = ("tcp", "tls", "ws", "wss")
LARGEST_PORT: Final = 65535


def check_address(address: str) -> None:
    """Refuse what can be no address of a scheduler.

    Raises:
        ValueError: It has no host, no port, or a scheme that Dask does not know.
    """
    scheme, place = parse_address(address)
    if scheme not in backends:
        raise ValueError(f"{address!r} begins with an unknown {scheme!r}; {hint(scheme, backends)}")
    if scheme not in WITH_PORT:
        return
    try:
        host, port = parse_host_port(place)
    except ValueError:
        host, port = "", 0
    if not host or " " in place or not 0 < port <= LARGEST_PORT:
        raise ValueError(
            f"{address!r} is no address of a scheduler; that is a host and a port, as in "
            f"'tcp://127.0.0.1:8786'"
        )


def check_security(address: str, security: Any) -> None:
    """Refuse an address that cannot be that of a scheduler with TLS, where TLS is asked for.

    Raises:
        ValueError: It cannot.
    """
    if security is not None and security.require_encryption and address.startswith("tcp://"):
        raise ValueError(
            f"security asks for TLS, and {address!r} is without; the address of such a scheduler "
            f"begins with 'tls://'"
        )
