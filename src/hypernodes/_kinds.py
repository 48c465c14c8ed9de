"""Short names: `"thread"` or `{"kind": "thread", "max_workers": 8}` for the object they describe.

A class of somebody else's is named by where it is found: `{"kind": "package.module:Class"}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from inspect import isabstract
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, InstanceOf, PlainSerializer

from hypernodes.abc import Backend, Cache, Executor
from hypernodes.exceptions import MissingDependencyError, hint

Described = TypeVar("Described", bound=BaseModel)

EXECUTORS: Final = {
    "sequential": "hypernodes.executors.sequential:SequentialExecutor",
    "async": "hypernodes.executors.asynchronous:AsyncExecutor",
    "thread": "hypernodes.executors.thread:ThreadPoolExecutor",
    "process": "hypernodes.executors.process:ProcessPoolExecutor",
    "composite": "hypernodes.executors.composite:CompositeExecutor",
    "dask": "hypernodes.executors.dask:DaskExecutor",
    "ray": "hypernodes.executors.ray:RayExecutor",
}
_REMOTE: Final = "hypernodes.backends.remote:RemoteBackend"
BACKENDS: Final = {
    "local": "hypernodes.backends.local:LocalBackend",
    "dask": _REMOTE,
    "ray": _REMOTE,
    "spark": _REMOTE,
}
_ADDRESS: Final = re.compile(r"\s*[\w.+-]+://|.*:\d+/?\s*$")
_AT_ADDRESS: Final = {
    "Executor": "DaskExecutor(scheduler_address=...) or RayExecutor(ray_address=...)",
    "Backend": "RemoteBackend('dask', ...) or RemoteBackend('ray', ...)",
}


def build_executor(value: object) -> Executor:
    """Return the executor that `value` is, or describes; see `_build`."""
    return _build(Executor, EXECUTORS, value)  # type: ignore[type-abstract]


def build_backend(value: object) -> Backend:
    """Return the backend that `value` is, or describes; see `_build`."""
    return _build(Backend, BACKENDS, value)  # type: ignore[type-abstract]


def build_cache(value: object) -> object:
    """Return the cache, or what makes it, that `value` is or describes; None is none.

    Args:
        value: A `Cache`, a `CacheSpec`, a function without arguments that makes a cache, the name
            of a kind that needs nothing more, or a mapping with the fields of a `CacheSpec`.

    Raises:
        ValueError: It describes no cache.
        MissingDependencyError: The kind needs an extra that is not installed.
    """
    if value is None or callable(value) or isinstance(value, Cache):
        return value
    from hypernodes.cache.spec import CacheSpec  # noqa: PLC0415 - only users of caches pay

    if isinstance(value, CacheSpec):
        return value
    fields = {"kind": value} if isinstance(value, str) else value
    if isinstance(fields, Mapping) and isinstance(fields.get("kind"), str):
        return CacheSpec(**fields)
    raise ValueError(
        f"{value!r} is no cache: give a Cache, a CacheSpec, a function without arguments that "
        f"makes a cache, 'memory', or a table with a 'kind'"
    )


def describe_cache(cache: Any) -> dict[str, Any] | None:
    """Return the mapping that makes an equal of `cache` when built, fit for JSON.

    Raises:
        ValueError: It is no data.
    """
    if cache is None or isinstance(cache, BaseModel):
        return None if cache is None else cache.model_dump(mode="json")
    raise ValueError(f"{cache!r} is no data that a file could hold; use a CacheSpec instead")


def describe(instance: Executor | Backend) -> dict[str, Any]:
    """Return the mapping that makes an equal of `instance` when built, fit for JSON."""
    kinds = EXECUTORS if isinstance(instance, Executor) else BACKENDS
    place = f"{type(instance).__module__}:{type(instance).__qualname__}"
    kind = next((name for name, known in kinds.items() if known == place), place)
    return {"kind": kind, **instance.model_dump(mode="json")}


AnyExecutor = Annotated[
    InstanceOf[Executor], BeforeValidator(build_executor), PlainSerializer(describe)
]
"""A field that takes an executor, its short name or its table."""

AnyBackend = Annotated[
    InstanceOf[Backend], BeforeValidator(build_backend), PlainSerializer(describe)
]
"""A field that takes a backend, its short name or its table."""


def _build(contract: type[Described], kinds: Mapping[str, str], value: object) -> Described:
    """Return the object that `value` is, or describes.

    Args:
        contract: The class that it has to be an instance of.
        kinds: Where the classes of the short names are found.
        value: An instance, a short name, or a mapping of `kind` and the fields of its class.

    Raises:
        ValueError: It describes nothing, or a field is wrong.
        MissingDependencyError: The kind needs an extra that is not installed.
    """
    if isinstance(value, contract):
        return value
    kind, fields = _read(contract, kinds, value)
    found = _find(contract, kinds, kind)
    own = {"kind": kind} if "kind" in found.model_fields else {}  # one class for several kinds
    return found(**own, **fields)


def _read(
    contract: type[Described], kinds: Mapping[str, str], value: object
) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
        return value["kind"], {name: given for name, given in value.items() if name != "kind"}
    role = contract.__name__.lower()
    if isinstance(value, type):
        raise ValueError(f"{value.__name__} is a class: give an instance, {value.__name__}(...)")
    raise ValueError(
        f"{value!r} is no {role}: give an instance, a short name "
        f"({', '.join(map(repr, kinds))}) or a table with a 'kind'"
    )


def _find(contract: type[Described], kinds: Mapping[str, str], kind: str) -> type[Described]:
    place, role = kinds.get(kind, kind), contract.__name__
    if _ADDRESS.match(place):
        raise ValueError(
            f"{kind!r} is an address and no {role.lower()}: give what leads there, "
            f"{_AT_ADDRESS[role]}"
        )
    if ":" not in place:
        raise ValueError(f"unknown {role.lower()} {kind!r}; {hint(kind, kinds)}")
    try:
        found = import_place(place)
    except MissingDependencyError:
        raise
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{kind!r} is not to be found: {error}") from error
    if not isinstance(found, type) or not issubclass(found, contract) or isabstract(found):
        raise ValueError(f"{kind!r} is no {role} that can be made")
    return found


def import_place(place: str) -> Any:
    """Return the object at `package.module:qualified.name`."""
    module, _, qualname = place.partition(":")
    found: Any = import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found
