"""Ray: chunks of items, and nodes, on workers of a cluster, its own or one that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    field_validator,
    model_validator,
)

from hypernodes._described import Options
from hypernodes._engine.clusters.ray_address import check_ray_address
from hypernodes._extras import import_extra
from hypernodes.exceptions import hint
from hypernodes.executors.clustered import ClusteredExecutor

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hypernodes._engine.clusters.cluster import Cluster

Count = Annotated[int, Field(ge=1, strict=True)]


def _as_options(given: object) -> object:
    if given is None or isinstance(given, Mapping):
        return given if given is None else Options(given)
    raise ValueError(f"a runtime_env is a dict, not {given!r}")


class RayExecutor(ClusteredExecutor):
    """Runs nodes, and the items of a map, on workers of a Ray cluster.

    There is one Ray in a program, which all executors share. The first run that needs it decides
    which one that is, in this order:

    1. the Ray that the program has initialised;
    2. the one at `ray_address`, or that the environment variable `RAY_ADDRESS` names;
    3. one of our own on this machine.

    The first two are used and left running; nodes may join and leave meanwhile. Before anything
    runs there, the versions of Python, hypernodes and cloudpickle are compared with those here. Our
    own is started once, and ended by `close`, by leaving `with`, or with the program, whatever its
    end. Workers are actors, one for each CPU, which take no CPU in the books of Ray: so nodes may
    use Ray themselves. Values stay in its object store between nodes.

    What a node asks for by its `resources`: `num_cpus`, `num_gpus`, `memory` in bytes, and other
    names as nodes of the cluster have them. They are held by workers of their own, and given back
    when these are idle for some seconds.

    Callbacks can have a say in the start, by `on_executor_start(ctx, executor, options)`. In
    `options` they may set:

    - `runtime_env`: more for the `runtime_env`; environment variables of both count.
    - `placement_group`: where workers run and what they may hold: a `PlacementGroup`, which is left
      as it is, or bundles (`[{"CPU": 2}, {"CPU": 1, "GPU": 1}]`), or a dict of arguments for
      `ray.util.placement_group`, of which one is made, and removed in the end.
    - `init_kwargs`: a dict of arguments for `ray.init`.
    - `num_cpus`, `num_gpus`: in the place of those here.
    - `timeout`: seconds to wait for the placement group (60).

    Attributes:
        ray_address: Of a cluster that is there: `"host:port"`, or `"auto"` for the one that runs on
            this machine.
        num_cpus: How many CPUs our own has, None for one for each core; or how many of another are
            used at the most, None for all.
        num_gpus: How many GPUs our own has; None for all that Ray finds.
        runtime_env: What workers run in, as Ray takes it: `{"pip": [...], "env_vars": {...}}`.
        chunksize: How many items travel together; None for what takes long enough to hide the way.

    Raises:
        MissingDependencyError: Ray is not installed.
        pydantic.ValidationError: An address, or something in the `runtime_env`, is wrong (a
            `ValueError`).

    Example:
        >>> RayExecutor(num_cpus=2).num_cpus
        2
    """

    ray_address: str | None = None
    num_cpus: Count | None = None
    num_gpus: Annotated[int, Field(ge=0, strict=True)] | None = None
    runtime_env: Annotated[
        InstanceOf[Options] | None,
        BeforeValidator(_as_options),
        PlainSerializer(lambda given: None if given is None else given.plain()),
    ] = None
    chunksize: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_installed(cls, value: Any) -> Any:
        import_extra("ray", extra="ray", user="RayExecutor")
        return value

    @field_validator("ray_address", mode="after")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is not None:
            check_ray_address(address)
        return address

    @field_validator("runtime_env", mode="after")
    @classmethod
    def _check_env(cls, env: Options | None) -> Options | None:
        if env is not None:
            _check_env(env)
        return env

    def ground(self) -> Hashable | None:
        from hypernodes._engine.clusters.ray_home import ground_of_ray  # noqa: PLC0415 - users pay

        return ground_of_ray(self.ray_address)

    def open_cluster(self, options: dict[str, Any]) -> Cluster:
        from hypernodes._engine.clusters.ray_opening import Wishes, open_ray  # noqa: PLC0415

        env = self.runtime_env.plain() if self.runtime_env else {}
        wishes = Wishes(self.ray_address, self.num_cpus, self.num_gpus, env)
        return open_ray(wishes.with_options(options))


def _check_env(env: Options) -> None:
    """Refuse a runtime environment that Ray would ignore in part, or refuse later."""
    from ray.runtime_env import RuntimeEnv  # noqa: PLC0415 - an extra

    known = sorted(name for name in RuntimeEnv.known_fields if not name.startswith("_"))
    for name in env:
        if name not in RuntimeEnv.known_fields:
            raise ValueError(f"a runtime_env has no {name!r}; {hint(name, known)}")
    try:
        RuntimeEnv(**env.plain())
    except TypeError as error:
        raise ValueError(f"Ray refuses the runtime_env: {error}") from error
