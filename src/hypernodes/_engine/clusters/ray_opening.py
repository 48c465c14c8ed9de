"""Ray: the one that this program has initialised, one at an address, or one of our own.

There is one Ray in a program. The one that we have started, or that we have led the program to, is
shared by all executors that are open, and left by the last of them.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import ray

from hypernodes._engine.clusters.ray import RayCluster
from hypernodes._engine.clusters.ray_floor import Floor
from hypernodes._engine.clusters.ray_watch import connection
from hypernodes._engine.shipping.settings import import_path
from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = 60.0
"""Seconds after which idle workers end on a cluster that is not ours."""
ADDRESS: Final = "RAY_ADDRESS"
ELSEWHERE: Final = frozenset({"working_dir", "py_modules", "pip", "uv", "conda", "image_uri"})
"""What workers have in a `runtime_env` that does not go with the driver's import path."""


def open_ray(
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    runtime_env: Mapping[str, Any],
    init_kwargs: Mapping[str, Any],
) -> RayCluster:
    """Return the Ray of this program, or of an address, or one of our own.

    Args:
        address: Where to find one; None for the one of this program, or our own.
        num_cpus: How many CPUs our own has, or how many of another one are used at the most.
        num_gpus: How many GPUs our own has.
        runtime_env: What workers run in.
        init_kwargs: What else `ray.init` is told.

    Raises:
        HyperNodesError: There is no Ray at the address.
    """
    env = {"runtime_env": dict(runtime_env)} if runtime_env else {}
    with _lock:
        home = _home()
        if home is None and ray.is_initialized():
            floor = Floor((None, None), env, most=num_cpus)
            return RayCluster(floor, settles=False, patience=PATIENCE, closing=())
        if home is None:
            address = address or os.environ.get(ADDRESS)
            size = {"num_cpus": num_cpus, "num_gpus": num_gpus}
            home = _Home(address, {**(size if address is None else {}), **env, **init_kwargs})
            globals()["_current"] = home
            env = {}
        home.guests += 1
    settles = home.is_own and not ELSEWHERE.intersection(runtime_env)
    facts = (import_path(), dict(os.environ)) if settles else (None, None)
    floor = Floor(facts, env, most=num_cpus)
    patience = math.inf if home.is_own else PATIENCE
    closing = (partial(_leave, home),)
    return RayCluster(floor, settles=settles, patience=patience, closing=closing)


_lock: Final = threading.Lock()
_current: _Home | None = None


def _home() -> _Home | None:
    """Return the Ray that we have brought up, if it is there still."""
    return _current if _current is not None and _current.is_up else None


def _leave(home: _Home) -> None:
    with _lock:
        home.guests -= 1
        if not home.guests:
            home.close()


class _Home:
    """A Ray that we have brought up.

    Its processes end with the thread that has started them, so there is one that does nothing else.

    Args:
        address: Where it is; None for one of our own.
        options: For `ray.init`.

    Attributes:
        is_own: Whether we have started it.
        guests: How many executors use it.
    """

    def __init__(self, address: str | None, options: dict[str, Any]) -> None:
        self.is_own = address is None
        self.guests = 0
        self._address = address
        self._options = options
        self._error: BaseException | None = None
        self._up, self._leaving = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hypernodes-ray", daemon=True)
        self._thread.start()
        self._up.wait()
        if self._error is not None:
            raise self._error
        self._connection = connection()

    @property
    def is_up(self) -> bool:
        """Whether the program is connected to it still; the user may have ended it."""
        return connection() == self._connection

    def close(self) -> None:
        """End it, or the connection to it."""
        self._leaving.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            self._init()
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            self._error = error
            return
        finally:
            self._up.set()
        self._leaving.wait()
        if self.is_up:
            ray.shutdown()

    def _init(self) -> None:
        ours = {"include_dashboard": False} if self.is_own else {}
        always = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            ray.init(self._address or "local", **{**ours, **always, **self._options})
        except ConnectionError as error:
            message = f"there is no Ray at {self._address!r} ({error}); see whether it is up"
            raise HyperNodesError(message) from error
