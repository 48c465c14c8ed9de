"""What is described rather than opened: frozen models, and mappings that cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, model_validator

from hypernodes.exceptions import hint

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SECRET: Final = frozenset({"key", "env_vars"})
"""Options whose values are not shown."""


class Described(BaseModel):
    """A description: it can be compared, pickled and printed.

    Attributes:
        IN_ORDER: How many fields may be given in order.
    """

    IN_ORDER: ClassVar[int] = 100
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    if not TYPE_CHECKING:  # type checkers go by the fields

        def __init__(self, *values: Any, **fields: Any) -> None:
            super().__init__(**_named(type(self), values, fields) if values else fields)

        @classmethod
        def __pydantic_init_subclass__(cls, **facts: Any) -> None:
            super().__pydantic_init_subclass__(**facts)
            if cls.__init__.__module__ == __name__:  # and not one of its own
                cls.__init__ = _constructor(cls)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                raise ValueError(f"{cls.__name__} has no {name!r}; {hint(name, cls.model_fields)}")
        return given

    def __str__(self) -> str:
        return repr(self)


def _constructor(cls: type[Described]) -> Any:
    """Return the inherited `__init__` once more: `help` and notebooks show what this one takes."""

    def __init__(self: Described, *values: Any, **fields: Any) -> None:  # noqa: N807
        Described.__init__(self, *values, **fields)

    __init__.__signature__ = _signature(cls)  # type: ignore[attr-defined]
    return __init__


def _signature(cls: type[Described]) -> Signature:
    fields = cls.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    in_order = list(fields)[: cls.IN_ORDER]
    if in_order[: len(required)] != required:  # what is required after a default can only be named
        in_order = []
    parameters = [Parameter("self", Parameter.POSITIONAL_ONLY)]
    for name, field in fields.items():
        kind = Parameter.POSITIONAL_OR_KEYWORD if name in in_order else Parameter.KEYWORD_ONLY
        default = Parameter.empty if field.is_required() else _default(field)
        parameters.append(Parameter(name, kind, default=default))
    return Signature(parameters)


def _default(field: FieldInfo) -> Any:
    """Return the default; dots where it is made anew for each."""
    return field.default if field.default_factory is None else ...


def _named(cls: type[Described], values: tuple[Any, ...], fields: dict[str, Any]) -> dict[str, Any]:
    """Return all fields by name."""
    names = list(cls.model_fields)[: cls.IN_ORDER]
    if len(values) > len(names):
        known = ", ".join(cls.model_fields) or "none"
        raise TypeError(
            f"{cls.__name__} takes at most {len(names)} values in order, not {len(values)}; give "
            f"its fields by name ({known})"
        )
    in_order = dict(zip(names, values, strict=False))
    for name in in_order.keys() & fields.keys():
        raise TypeError(f"{cls.__name__} got {name!r} twice: in order and by name")
    return in_order | fields


class Options(Mapping[str, Any]):
    """Options that cannot be changed: a mapping, equal to a dict with the same content."""

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = {name: _frozen(value) for name, value in content.items()}

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __hash__(self) -> int:
        return hash(frozenset(self._content.items()))

    def __repr__(self) -> str:
        return repr({name: "..." if name in SECRET else self[name] for name in self})

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (dict(self._content),)

    def plain(self) -> dict[str, Any]:
        """Return the options as dicts and lists."""
        return {name: _plain(value) for name, value in self._content.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Options(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.plain()
    return list(map(_plain, value)) if isinstance(value, tuple) else value
