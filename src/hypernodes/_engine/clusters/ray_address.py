"""Addresses of Ray clusters, as far as can be told without going there."""

from __future__ import annotations

import re
from typing import Final

_place: Final = re.compile(r"auto|([^\s/:]+|\[[0-9a-fA-F:]+\]):\d{1,5}").fullmatch


def check_ray_address(address: str) -> None:
    """Refuse what can be no address of a Ray cluster.

    Raises:
        ValueError: It has no host or no port, or is one of Ray Client.
    """
    if address.startswith("ray://"):
        raise ValueError(
            f"{address!r} is no address of a cluster: Ray Client is not supported, as values would "
            f"come to its proxy; give 'auto' or 'host:port' inside of the cluster's network"
        )
    if not _place(address):
        raise ValueError(
            f"{address!r} is no address of a cluster: give 'auto' or 'host:port', as in "
            f"'10.0.0.1:6379'"
        )
