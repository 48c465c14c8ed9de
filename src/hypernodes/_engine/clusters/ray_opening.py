"""What an executor, or a hook, asks of Ray when it opens; and what it gets."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from hypernodes._engine.clusters.needs import lack_of
from hypernodes._engine.clusters.options import check_timeout
from hypernodes._engine.clusters.ray import RayCluster
from hypernodes._engine.clusters.ray_floor import NAMES, Floor, GroupFloor, nodes
from hypernodes._engine.clusters.ray_home import Home, enter
from hypernodes._engine.cores import usable_cores
from hypernodes._engine.shipping.settings import import_path
from hypernodes.exceptions import HyperNodesError, InputError, hint

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE: Final = 60.0
"""Seconds after which idle workers end on a cluster that is not ours."""
ADDRESS: Final = "RAY_ADDRESS"
ALWAYS: Final = {"log_to_driver": False, "logging_level": logging.CRITICAL}
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
        timeout: How many seconds a placement group may take.
    """

    address: str | None
    num_cpus: int | None
    num_gpus: int | None
    runtime_env: Mapping[str, Any]
    placement_group: Any = None
    init_kwargs: Mapping[str, Any] = {}
    timeout: float = 60.0

    def with_options(self, options: Mapping[str, Any]) -> Wishes:
        """Return these wishes with what hooks have filled in.

        Raises:
            InputError: An option is unknown or wrong.
        """
        for name, value in options.items():
            if name not in OPTIONS:
                message = f"Ray has no option {name!r} to start with; {hint(name, OPTIONS)}"
                raise InputError(message, name=name)
            if name in {"runtime_env", "init_kwargs"} and not isinstance(value, dict):
                raise InputError(f"option {name!r} has to be a dict, not {value!r}", name=name)
        check_timeout(options.get("timeout", self.timeout))
        _check_group(options.get("placement_group"))
        env = _joined(self.runtime_env, options.get("runtime_env", {}))
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
    address = wishes.address or os.environ.get(ADDRESS)
    home = enter(wishes.address, partial(Home, address, _init_options(wishes, is_own=not address)))
    closing: list[Callable[[], None]] = [] if home is None else [home.leave]
    try:
        return _cluster(wishes, home, closing)
    except BaseException:
        for close in closing:
            close()
        raise


def _cluster(wishes: Wishes, home: Home | None, closing: list[Callable[[], None]]) -> RayCluster:
    is_own, is_new = home is not None and home.is_own, home is not None and home.guests == 1
    env = {} if is_new else _env(wishes)  # a new one has been told of it
    facts: tuple[Any, ...] = (None, None)
    if home is not None and home.is_own and not ELSEWHERE.intersection(wishes.runtime_env):
        facts = import_path(), home.environment
    floor: Floor
    if wishes.placement_group is None:
        floor = Floor(facts, env, most=wishes.num_cpus)
    else:
        group = _group(wishes.placement_group, closing, wishes.timeout)
        floor = GroupFloor(group, facts, env, most=wishes.num_cpus)
    patience = math.inf if is_own else IDLE
    return RayCluster(floor, settles=facts[0] is not None, patience=patience, closing=closing)


def _init_options(wishes: Wishes, *, is_own: bool) -> dict[str, Any]:
    """Return what `ray.init` is told of a Ray of our own, or at an address."""
    count = wishes.num_cpus or usable_cores()
    own = {"include_dashboard": False, "num_cpus": count, "num_gpus": wishes.num_gpus}
    return {**ALWAYS, **(own if is_own else {}), **_env(wishes), **wishes.init_kwargs}


def _env(wishes: Wishes) -> dict[str, Any]:
    return {"runtime_env": dict(wishes.runtime_env)} if wishes.runtime_env else {}


def _group(given: Any, closing: list[Callable[[], None]], timeout: float) -> PlacementGroup:
    """Return a placement group that is ready; one that is made here is removed in the end."""
    group = given
    if not isinstance(given, PlacementGroup):
        arguments = _arguments(given)
        _check_bundles(arguments["bundles"])
        group = _made(arguments)
        closing.insert(0, partial(remove_placement_group, group))
    if not group.wait(timeout):
        raise HyperNodesError(
            f"the placement group {group.bundle_specs} was not ready after {timeout:g} seconds; "
            f"others may hold what it needs, or no nodes have it together"
        )
    return group


def _arguments(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else {"bundles": given}


def _made(arguments: dict[str, Any]) -> PlacementGroup:
    try:
        return placement_group(**arguments)
    except (TypeError, ValueError) as error:
        message = f"Ray refuses the option 'placement_group': {error}"
        raise InputError(message, name="placement_group") from error


def _check_group(given: Any) -> None:
    """Refuse what neither is a placement group nor tells of one."""
    if given is None or isinstance(given, PlacementGroup):
        return
    bundles = _arguments(given).get("bundles")
    if not isinstance(bundles, list) or not all(map(_is_bundle, bundles)):
        message = (
            f"option 'placement_group' has to be a PlacementGroup, its bundles, as in "
            f'[{{"CPU": 1}}, {{"CPU": 1, "GPU": 1}}], or a dict of arguments for '
            f"ray.util.placement_group that has 'bundles', not {given!r}"
        )
        raise InputError(message, name="placement_group")


def _is_bundle(given: Any) -> bool:
    is_dict = isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
    return is_dict and all(isinstance(amount, int | float) for amount in given.values())


def _check_bundles(bundles: Any) -> None:
    there = nodes().values()
    for bundle in bundles:
        lack = lack_of(tuple(bundle.items()), there, usual=(*NAMES.values(), "memory"))
        if lack is not None:
            raise lack.error("a bundle of the placement group", "node")
