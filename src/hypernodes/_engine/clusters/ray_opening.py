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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from hypernodes._engine.clusters.ray import RayCluster
from hypernodes._engine.clusters.ray_floor import Floor, GroupFloor, nodes
from hypernodes._engine.clusters.ray_watch import connection
from hypernodes._engine.shipping.settings import import_path
from hypernodes.exceptions import HyperNodesError, ResourceError, hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDLE: Final = 60.0
"""Seconds after which idle workers end on a cluster that is not ours."""
PATIENCE: Final = 60.0
"""Seconds that a placement group may take."""
ADDRESS: Final = "RAY_ADDRESS"
ELSEWHERE: Final = frozenset({"working_dir", "py_modules", "pip", "uv", "conda", "image_uri"})
"""What workers have in a `runtime_env` that does not go with the driver's import path."""


class Wishes(NamedTuple):
    """What an executor asks for, or a hook that has been told that it opens.

    Attributes:
        address: Where to find a cluster; None for that of the program, or our own.
        num_cpus: How many CPUs our own has, or how many of another are used at the most.
        num_gpus: How many GPUs our own has.
        runtime_env: What workers run in.
        placement_group: A placement group for workers, its bundles, or the arguments that make it.
        init_kwargs: What else `ray.init` is told.
    """

    address: str | None
    num_cpus: int | None
    num_gpus: int | None
    runtime_env: Mapping[str, Any]
    placement_group: Any = None
    init_kwargs: Mapping[str, Any] = {}

    def with_options(self, options: Mapping[str, Any]) -> Wishes:
        """Return these wishes with what hooks have filled in.

        Raises:
            HyperNodesError: There is no such option.
        """
        for name in options:
            if name not in OPTIONS:
                raise HyperNodesError(f"Ray has no option {name!r}; {hint(name, OPTIONS)}")
        env = _joined(self.runtime_env, options.get("runtime_env") or {})
        return self._replace(**{**options, "runtime_env": env})


OPTIONS: Final = tuple(name for name in Wishes._fields if name != "address")


def _joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Return two runtime environments as one; environment variables of both count."""
    joined = {**first, **then}
    if "env_vars" in first and "env_vars" in then:
        joined["env_vars"] = {**first["env_vars"], **then["env_vars"]}
    return joined


def open_ray(wishes: Wishes) -> RayCluster:
    """Return the Ray of this program, or of an address, or one of our own.

    Raises:
        HyperNodesError: There is no Ray at the address, or it has no room for the placement group.
        ResourceError: No node has what a bundle of the placement group asks for.
    """
    env = {"runtime_env": dict(wishes.runtime_env)} if wishes.runtime_env else {}
    with _lock:
        home = _home()
        if home is None and not ray.is_initialized():
            home = _Home(wishes.address or os.environ.get(ADDRESS), _init_options(wishes))
            globals()["_current"] = home
            env = {}
        if home is not None:
            home.guests += 1
    closing: list[Callable[[], None]] = [] if home is None else [partial(_leave, home)]
    try:
        return _cluster(wishes, env, closing, is_own=home is not None and home.is_own)
    except BaseException:
        for close in closing:
            close()
        raise


def _cluster(
    wishes: Wishes, env: dict[str, Any], closing: list[Callable[[], None]], *, is_own: bool
) -> RayCluster:
    settles = is_own and not ELSEWHERE.intersection(wishes.runtime_env)
    facts = (import_path(), dict(os.environ)) if settles else (None, None)
    floor: Floor
    if wishes.placement_group is None:
        floor = Floor(facts, env, most=wishes.num_cpus)
    else:
        group = _group(wishes.placement_group, closing)
        floor = GroupFloor(group, facts, env, most=wishes.num_cpus)
    patience = math.inf if is_own else IDLE
    return RayCluster(floor, settles=settles, patience=patience, closing=closing)


def _init_options(wishes: Wishes) -> dict[str, Any]:
    """Return what `ray.init` is told of a Ray of our own, or at an address."""
    own = {"include_dashboard": False, "num_cpus": wishes.num_cpus, "num_gpus": wishes.num_gpus}
    env = {"runtime_env": dict(wishes.runtime_env)} if wishes.runtime_env else {}
    is_own = (wishes.address or os.environ.get(ADDRESS)) is None
    return {**ALWAYS, **(own if is_own else {}), **env, **wishes.init_kwargs}


ALWAYS: Final = {"log_to_driver": False, "logging_level": logging.CRITICAL}


# ---------------------------------------------------------------- placement groups


def _group(given: Any, closing: list[Callable[[], None]]) -> PlacementGroup:
    """Return a placement group that is ready; one that is made here is removed in the end."""
    group = given
    if not isinstance(given, PlacementGroup):
        arguments = dict(given) if hasattr(given, "keys") else {"bundles": given}
        _check_bundles(arguments["bundles"])
        group = placement_group(**arguments)
        closing.insert(0, partial(remove_placement_group, group))
    if not group.wait(PATIENCE):
        raise HyperNodesError(
            f"the placement group {group.bundle_specs} was not ready after {PATIENCE:g} seconds; "
            f"others may hold what it needs, or no nodes have it together"
        )
    return group


def _check_bundles(bundles: Any) -> None:
    there = nodes().values()
    for bundle in bundles:
        for name, amount in bundle.items():
            if not any(amounts.get(name, 0) >= amount for amounts in there):
                raise ResourceError(
                    f"a bundle of the placement group asks for {amount:g} of {name!r}, which no "
                    f"node has; ask for less, or add nodes that have it",
                    node=None,
                    resource=name,
                )


# ---------------------------------------------------------------- the Ray that we have brought up

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
        try:
            ray.init(self._address or "local", **self._options)
        except ConnectionError as error:
            message = f"there is no Ray at {self._address!r} ({error}); see whether it is up"
            raise HyperNodesError(message) from error
