"""Short names: `"thread"` or `{"kind": "thread", "max_workers": 8}` for the object they describe.

A class of somebody else's is named by where it is found: `{"kind": "package.module:Class"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import isabstract
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from hypernodes.abc import Backend, Executor
from hypernodes.exceptions import MissingDependencyError, hint

Described = TypeVar("Described", bound=BaseModel)

EXECUTORS: Final = {
    "sequential": "hypernodes.executors.sequential:SequentialExecutor",
    "async": "hypernodes.executors.asynchronous:AsyncExecutor",
    "thread": "hypernodes.executors.thread:ThreadPoolExecutor",
    "process": "hypernodes.executors.process:ProcessPoolExecutor",
}
BACKENDS: Final = {"local": "hypernodes.backends.local:LocalBackend"}


def build_executor(value: object) -> Executor:
    """Return the executor that `value` is, or describes; see `_build`."""
    return _build(Executor, EXECUTORS, value)  # type: ignore[type-abstract]


def build_backend(value: object) -> Backend:
    """Return the backend that `value` is, or describes; see `_build`."""
    return _build(Backend, BACKENDS, value)  # type: ignore[type-abstract]


def describe(instance: Executor | Backend) -> dict[str, Any]:
    """Return the mapping that makes an equal of `instance` when built, fit for JSON."""
    kinds = EXECUTORS if isinstance(instance, Executor) else BACKENDS
    place = f"{type(instance).__module__}:{type(instance).__qualname__}"
    kind = next((name for name, known in kinds.items() if known == place), place)
    return {"kind": kind, **instance.model_dump(mode="json")}


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
    return _find(contract, kinds, kind)(**fields)


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
    place = kinds.get(kind, kind)
    if ":" not in place:
        raise ValueError(f"unknown {contract.__name__.lower()} {kind!r}; {hint(kind, kinds)}")
    try:
        found = import_place(place)
    except MissingDependencyError:
        raise
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{kind!r} is not to be found: {error}") from error
    if not isinstance(found, type) or not issubclass(found, contract) or isabstract(found):
        raise ValueError(f"{kind!r} is no {contract.__name__} that can be made")
    return found


def import_place(place: str) -> Any:
    """Return the object at `package.module:qualified.name`."""
    module, _, qualname = place.partition(":")
    found: Any = import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found
