"""Whether anybody listens at a host and port."""

from __future__ import annotations

import socket
from typing import Final

PATIENCE: Final = 2.0
"""Seconds within which a connection is taken."""


def listens(where: tuple[str, int], patience: float = PATIENCE) -> bool:
    """Return whether somebody listens at a host and port, within some seconds."""
    try:
        socket.create_connection(where, patience).close()
    except OSError:
        return False
    return True


def problem_at(host: str, port: int) -> str | None:
    """Return why there can be nobody, and what to do; None where there may be somebody."""
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except ConnectionRefusedError:
        return "nothing listens there; see whether it is up, and whether the port is right"
    except OverflowError:
        return f"{port} is no port; it has to be one of 1 to 65535"
    except (socket.gaierror, UnicodeError):
        return f"the host {host!r} is not known here; see whether its name is right"
    except OSError:
        return None
    return None
