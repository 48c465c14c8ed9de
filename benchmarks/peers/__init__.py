"""The contenders: one adapter each, all with the small interface of `Peer`."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Peer, Store

ADAPTERS = {
    "plain": ("plain", "Plain"),
    "plain-dict": ("plain", "PlainDict"),
    "plain-shared": ("shared", "SharedList"),
    "hypernodes": ("ours", "Default"),
    "hypernodes-sequential": ("ours", "Sequential"),
    "hypernodes-threads": ("ours", "Threads"),
    "hypernodes-processes": ("ours", "Processes"),
    "hypernodes-async": ("ours", "Coroutines"),
    "ancestor": ("ancestor", "Ancestor"),
    "pipefunc": ("pipefunc", "PipeFunc"),
    "hamilton": ("hamilton", "Hamilton"),
    "joblib": ("joblib", "Joblib"),
    "diskcache": ("diskcache", "DiskCachePeer"),
    "daglite": ("daglite", "Daglite"),
}
TITLES = {
    "plain": "plain Python",
    "plain-dict": "plain, outputs in a dict",
    "plain-shared": "plain, a shared list",
    "hypernodes": "hypernodes, no config",
    "hypernodes-sequential": "hypernodes, sequential",
    "hypernodes-threads": "hypernodes, threads",
    "hypernodes-processes": "hypernodes, processes",
    "hypernodes-async": "hypernodes, async",
    "ancestor": "ancestor",
    "pipefunc": "pipefunc",
    "hamilton": "Hamilton",
    "joblib": "joblib",
    "diskcache": "diskcache",
    "daglite": "daglite",
}
OURS = (
    "hypernodes",
    "hypernodes-sequential",
    "hypernodes-threads",
    "hypernodes-processes",
    "hypernodes-async",
)

__all__ = ["ADAPTERS", "OURS", "TITLES", "Peer", "Store", "load"]


def load(key: str) -> Peer:
    """Import the adapter for `key`, and with it the library; `ImportError` if that is missing."""
    module, name = ADAPTERS[key]
    peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)()
    return peer
