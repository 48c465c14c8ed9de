"""`RuntimeConfig`: where and how a pipeline runs, in one bundle, and which one is in force."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    model_validator,
)

from hypernodes import _kinds
from hypernodes._described import Described
from hypernodes._dispatch.needs import SHIPPING, Needs, identities
from hypernodes._dispatch.plugins import REGISTRY as PLUGINS
from hypernodes.exceptions import HyperNodesError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypernodes._dispatch.table import Cast, Table

__all__ = ["RetryPolicy", "RuntimeConfig", "get_default_config", "set_default_config"]

CONFIG_VARIABLE: Final = "HYPERNODES_CONFIG"

Attempts = Annotated[int, Field(ge=0, strict=True)]
Seconds = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]


def _exception_type(value: object) -> object:
    found = value
    if isinstance(value, str):
        place = value if ":" in value else f"builtins:{value}"
        try:
            found = _kinds.import_place(place)
        except (ModuleNotFoundError, AttributeError) as error:
            raise ValueError(f"no exception {value!r} is to be found: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise ValueError(f"{value!r} is no subclass of Exception; others are never retried")
    return found


def _exception_name(kind: type[Exception]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | type) else value


ExceptionType = Annotated[
    Any,
    BeforeValidator(_exception_type),
    PlainSerializer(_exception_name, return_type=str, when_used="json"),
]


class RetryPolicy(Described):
    """How often and when a failed attempt at a node is made again.

    The pause before extra attempt n (from 1) is `initial_delay * multiplier ** (n - 1)` seconds, at
    most `max_delay`, and up to `jitter` seconds more at random.

    Attributes:
        max_retries: Extra attempts after the first.
        initial_delay: Seconds before the first extra attempt.
        multiplier: How much longer each further pause is.
        max_delay: The longest pause, in seconds, jitter aside.
        jitter: The most that is added to each pause, in seconds.
        retry_on: Exception types that are retried; what is no `Exception` never is.

    Example:
        >>> RetryPolicy(max_retries=2, retry_on=(ConnectionError,)).max_retries
        2
    """

    max_retries: Attempts = 3
    initial_delay: Seconds = 0.1
    multiplier: Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)] = 2.0
    max_delay: Seconds = 60.0
    jitter: Seconds = 0.0
    retry_on: Annotated[tuple[ExceptionType, ...], BeforeValidator(_one_or_more)] = (Exception,)


def _is_policy(value: object) -> bool:
    return isinstance(value, dict | RetryPolicy)


def _as_callbacks(value: object) -> tuple[object, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    if value is None:
        raise ValueError("None is no list of callbacks; for no callbacks, leave it out")
    raise ValueError(f"{value!r} is no list of callbacks; put it into one: [{value!r}]")


def _callback_names(callbacks: tuple[object, ...]) -> list[str]:
    return [_callback_name(given) for given in callbacks]


def _callback_name(given: Any) -> str:
    """Return where a callback can be imported from."""
    if isinstance(given, str):
        return given
    name = getattr(given, "__qualname__", "<locals>")
    if "<" in name:
        raise ValueError(f"callback {given!r} cannot be described; name it: 'package.module:name'")
    return f"{given.__module__}:{name}"


def _nothing_but(empty: object, what: str, value: object) -> object:
    if value != empty:
        raise ValueError(f"this version has no {what} yet: leave it at {empty!r}")
    return value


class RuntimeConfig(Described):
    """Where (backend) and how (executor) pipelines run, and what befalls each node.

    Frozen, equal by value and hashable. The config in force is the first there is of: the call's,
    the node's, the pipeline's (its own, its parent's, ..., that of the pipeline around it), that of
    `RuntimeConfig.use`, the global default. Each level replaces the whole config.

    Attributes:
        backend: A `Backend`, its short name (`"local"`) or a table with a `kind` (`"dask"` or
            `"ray"` with an `address`, for `RemoteBackend`).
        executor: An `Executor`, its short name (`"sequential"`, `"thread"`, `"async"`, `"process"`)
            or a table with a `kind` (`"composite"` with two of these).
        cache: Where results are kept: a `Cache`, a `CacheSpec`, a function without arguments that
            makes a cache, `"memory"`, a table with a `kind`, or None. Nothing is opened before it
            is used; equal specs share one cache in a process.
        callbacks: Who observes: instances with hooks, classes or factories that make them,
            functions `(phase, config, data)`, and where to import one of these from
            (`"package.module:name"`).
        retries: Extra attempts for a node that fails, or a `RetryPolicy`.
        timeout: Seconds for each attempt at a node.
        callback_errors: What a failing callback does: it is logged, warned of, or raised.

    Raises:
        pydantic.ValidationError: A field is unknown or its value is wrong (a `ValueError`).
        CallbackError: A callback is none, or has a hook that is misspelt or asks for what there is
            not.
        MissingDependencyError: The executor, or a callback, needs an extra that is not installed.

    Example:
        >>> config = RuntimeConfig(executor="sequential", retries=2)
        >>> config.replace(retries=0).executor
        SequentialExecutor()
    """

    IN_ORDER: ClassVar[int] = 0
    __slots__ = ("_cast", "_hash")
    _cast: Any
    _hash: int

    backend: _kinds.AnyBackend = Field(default_factory=partial(_kinds.build_backend, "local"))
    executor: _kinds.AnyExecutor = Field(default_factory=partial(_kinds.build_executor, "thread"))
    cache: Annotated[
        Any,
        BeforeValidator(_kinds.build_cache),
        PlainSerializer(_kinds.describe_cache, when_used="json"),
    ] = None
    callbacks: Annotated[
        tuple[Any, ...],
        BeforeValidator(_as_callbacks),
        PlainSerializer(_callback_names, return_type=list[str], when_used="json"),
    ] = ()
    retries: Annotated[
        Annotated[Attempts, Tag("number")] | Annotated[RetryPolicy, Tag("policy")],
        Discriminator(lambda value: "policy" if _is_policy(value) else "number"),
    ] = 0
    timeout: Timeout | None = None
    callback_errors: Literal["log", "warn", "raise"] = "log"

    @model_validator(mode="after")
    def _read_callbacks(self) -> Self:
        if self.callbacks and self._needs_of_driver is None:
            self._cast_of_callbacks()
        return self

    def replace(self, **changes: Any) -> Self:
        """Return a new, validated config with `changes` made to this one's fields.

        Raises:
            pydantic.ValidationError: A name is no field, or a value is wrong.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a config from a TOML file with the fields at its top level.

        Args:
            path: Where the file lies.

        Raises:
            FileNotFoundError: There is no such file.
            InputError: It is no TOML, or describes no config.

        Example:
            A file may say::

                retries = 2

                [executor]
                kind = "thread"
                max_workers = 8
        """
        import tomllib  # noqa: PLC0415 - only files need it

        try:
            fields = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**fields)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
            raise InputError(f"the config file {os.fspath(path)!r} is wrong: {error}") from error
        except HyperNodesError as error:
            error.add_note(f"in the config file {os.fspath(path)!r}")
            raise

    @staticmethod
    @contextmanager
    def use(config: RuntimeConfig) -> Iterator[RuntimeConfig]:
        """Put `config` in force inside a `with` block, for this thread or task and its workers.

        Args:
            config: What holds where a call, a node or a pipeline does not say otherwise.

        Raises:
            InputError: `config` is no `RuntimeConfig`.
        """
        token = _used.set(checked(config))
        try:
            yield config
        finally:
            _used.reset(token)

    def __hash__(self) -> int:
        # Asked for at every run: worked out once, in a slot that is neither copied nor pickled.
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self._facts()))
            return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        """Return what makes configs equal; live caches and callbacks count by their identity."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        cache, callbacks = self.cache, self.callbacks
        if not (cache is None or isinstance(cache, BaseModel)):
            facts["cache"] = id(cache)
        if isinstance(callbacks, tuple):
            facts["callbacks"] = identities(callbacks)
        return tuple(facts.values())

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if SHIPPING.get():  # callbacks stay here: what they ask for goes in their place
            callbacks = tuple(filter(None, [self.needs]))
            state = state | {"__dict__": state["__dict__"] | {"callbacks": callbacks}}
        return state

    # ------------------------------------------------------------ who observes

    @property
    def table(self) -> Table | None:
        """The calls for events under this config; None where nobody observes."""
        if self._needs_of_driver is not None or (not self.callbacks and PLUGINS.is_empty):
            return None
        return self._cast_of_callbacks().table(self.callback_errors)

    @property
    def needs(self) -> Needs | None:
        """What those who observe under this config ask for; None where nobody does."""
        if self._needs_of_driver is not None:
            return self._needs_of_driver
        table = self.table
        return None if table is None else table.needs

    @property
    def _needs_of_driver(self) -> Needs | None:
        """What stands for the callbacks in a worker process."""
        first = self.callbacks[0] if self.callbacks else None
        return first if isinstance(first, Needs) else None

    def _cast_of_callbacks(self) -> Cast:
        with suppress(AttributeError):
            cast: Cast = self._cast
            return cast
        from hypernodes._dispatch.table import cast_of  # noqa: PLC0415 - pluggy

        cast = cast_of(self.callbacks)
        object.__setattr__(self, "_cast", cast)
        return cast


def checked(config: object) -> RuntimeConfig:
    """Return `config` if it is a `RuntimeConfig`; raise `InputError` otherwise."""
    if isinstance(config, RuntimeConfig):
        return config
    message = f"a config has to be a RuntimeConfig, not {config!r}; build one: RuntimeConfig(...)"
    raise InputError(message, name="config")


def checked_or_none(config: object) -> RuntimeConfig | None:
    """Return `config` if it is None or a `RuntimeConfig`; raise `InputError` otherwise."""
    return None if config is None else checked(config)


def current_config() -> RuntimeConfig:
    """Return the config for pipelines that say nothing: that of `use`, else the global default."""
    return _used.get() or get_default_config()


def set_default_config(config: RuntimeConfig | None) -> None:
    """Make `config` the global default of this process; None forgets it.

    Raises:
        InputError: `config` is no `RuntimeConfig`.
    """
    _default.set(checked_or_none(config))


def get_default_config() -> RuntimeConfig:
    """Return the global default: what was set, else the file of `HYPERNODES_CONFIG`, else ours.

    Raises:
        FileNotFoundError: `HYPERNODES_CONFIG` names no file.
        InputError: That file describes no config.
    """
    return _default.get()


class _Default:
    """The global default, and what was read for it, behind one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: RuntimeConfig | None = None
        self._read: tuple[str | None, RuntimeConfig] | None = None

    def set(self, config: RuntimeConfig | None) -> None:
        with self._lock:
            self._given = config
            self._read = None

    def get(self) -> RuntimeConfig:
        if self._given is not None:
            return self._given
        path = os.environ.get(CONFIG_VARIABLE) or None
        read = self._read
        if read is not None and read[0] == path:
            return read[1]
        return self._load(path)

    def _load(self, path: str | None) -> RuntimeConfig:
        with self._lock:
            if self._read is None or self._read[0] != path:
                self._read = path, RuntimeConfig() if path is None else _from_variable(path)
            return self._read[1]


def _from_variable(path: str) -> RuntimeConfig:
    try:
        return RuntimeConfig.from_file(path)
    except (OSError, HyperNodesError) as error:
        error.add_note(f"the environment variable {CONFIG_VARIABLE} names {path!r}")
        raise


_used: ContextVar[RuntimeConfig | None] = ContextVar("hypernodes_used_config", default=None)
_default: Final = _Default()
