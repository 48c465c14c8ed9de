"""What is described rather than opened: frozen models, and mappings that cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, model_validator

from hypernodes.exceptions import hint

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

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                raise ValueError(f"{cls.__name__} has no {name!r}; {hint(name, cls.model_fields)}")
        return given

    def __str__(self) -> str:
        return repr(self)


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
