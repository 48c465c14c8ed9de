"""What is described rather than opened: frozen models, whose fields come by name or in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from hypernodes.exceptions import hint


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
