"""`PipelineNode`: a pipeline as a vertex of another one, once or mapped over items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from hypernodes._node import (
    BaseNode,
    check_mapping,
    check_not_stateful,
    renamed,
    stateful_in,
)
from hypernodes._options import Options
from hypernodes.exceptions import InputError, NodeDefinitionError, UnknownInputError, hint, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes.pipeline import Pipeline

__all__ = ["PipelineNode"]


class PipelineNode(BaseNode):
    """A pipeline inside another; made by `Pipeline.as_node`, which tells of the arguments.

    Attributes:
        pipeline: The inner pipeline.
        inner_args: Its inputs, in the order of `root_args`, which are their names outside.
        inner_outputs: Its outputs, in the order of `output_names`, which are their names outside.
        map_over: The outer names of the inputs that are mapped over; empty for one run.
        map_mode: `"zip"` or `"product"`.
    """

    __slots__ = ("inner_args", "inner_outputs", "map_mode", "map_over", "pipeline")

    pipeline: Pipeline
    inner_args: tuple[str, ...]
    inner_outputs: tuple[str, ...]
    map_over: tuple[str, ...]
    map_mode: str

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        name: str,
        input_mapping: Mapping[str, str] | None = None,
        output_mapping: Mapping[str, str] | None = None,
        map_over: tuple[str, ...] = (),
        map_mode: str = "zip",
        cache: bool = True,
    ) -> None:
        label = f"nested pipeline {name!r}"
        check_mapping(input_mapping, "input_mapping")
        check_mapping(output_mapping, "output_mapping")
        inner_args = pipeline.root_args
        root_args = renamed(inner_args, _inverted(input_mapping, label), f"input of {label}")
        inner_outputs = tuple(
            name for name in pipeline.output_names if not output_mapping or name in output_mapping
        )
        _refuse_unknown(output_mapping, pipeline.output_names, label)
        put = object.__setattr__
        put(self, "pipeline", pipeline)
        put(self, "name", name)
        put(self, "inner_args", inner_args)
        put(self, "root_args", root_args)
        put(self, "inner_outputs", inner_outputs)
        put(self, "output_names", renamed(inner_outputs, output_mapping, f"output of {label}"))
        put(self, "map_over", _read_map_over(map_over, root_args, label))
        for outer in map_over:
            check_not_stateful(pipeline.nodes, inner_args[root_args.index(outer)], outer)
        put(self, "map_mode", map_mode)
        put(self, "_options", Options().merged(name, {"cache": cache}))

    def __repr__(self) -> str:
        mapped = f", mapped over {', '.join(self.map_over)}" if self.map_over else ""
        outputs = ", ".join(self.output_names)
        return f"PipelineNode({self.name}: {', '.join(self.root_args)} -> {outputs}{mapped})"

    @property
    def required_args(self) -> tuple[str, ...]:
        return tuple(self.root_args[self.inner_args.index(n)] for n in self._inner_required())

    def stateful_at(self, name: str) -> str | None:
        return stateful_in(self.pipeline.nodes, self.inner_args[self.root_args.index(name)])

    def _inner_required(self) -> tuple[str, ...]:
        needed = self.pipeline.required_for(self.inner_outputs)
        mapped = {self.inner_args[self.root_args.index(name)] for name in self.map_over}
        unbound = mapped - self.pipeline.bound.keys()
        return tuple(name for name in self.inner_args if name in needed or name in unbound)

    def rename(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Self:
        root_args = renamed(self.root_args, inputs, f"input of {self._label}")
        return self._with(
            root_args=root_args,
            output_names=renamed(self.output_names, outputs, f"output of {self._label}"),
            map_over=tuple((inputs or {}).get(name, name) for name in self.map_over),
        )

    def with_options(self, **options: Any) -> Self:
        """Return a copy with another `cache` or `config`; other options belong to its nodes."""
        for name in options:
            if name not in {"cache", "config"}:
                message = (
                    f"{self._label} has no option {name!r}: retries, timeout and the like are set "
                    f"on its nodes or in its config"
                )
                raise NodeDefinitionError(message, node=self.name)
        return super().with_options(**options)

    @property
    def _label(self) -> str:
        return f"nested pipeline {self.name!r}"

    def _fitting(self, options: Options) -> Options:
        return Options(cache=options.cache, config=options.config)

    def _with(self, **changes: Any) -> Self:
        return self._restored({name: getattr(self, name) for name in _FACTS} | changes)

    @classmethod
    def _restored(cls, facts: dict[str, Any]) -> Self:
        copy = object.__new__(cls)
        for name, value in facts.items():
            object.__setattr__(copy, name, value)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return self._restored, ({name: getattr(self, name) for name in _FACTS},)


_FACTS = (*PipelineNode.__slots__, *(slot for slot in BaseNode.__slots__ if slot != "__weakref__"))


def _inverted(mapping: Mapping[str, str] | None, label: str) -> dict[str, str]:
    """Turn `{outer: inner}` round."""
    result: dict[str, str] = {}
    for outer, inner in (mapping or {}).items():
        if inner in result:
            message = (
                f"input_mapping of {label} gives {inner!r} two sources, {result[inner]!r} and "
                f"{outer!r}; keep one"
            )
            raise NodeDefinitionError(message)
        result[inner] = outer
    return result


def _refuse_unknown(mapping: Mapping[str, str] | None, names: tuple[str, ...], label: str) -> None:
    for name in mapping or ():
        if name not in names:
            message = f"{name!r} is no output of {label}; {hint(name, names)}"
            raise UnknownInputError(message, name=name, suggestion=nearest(name, names))


def _read_map_over(
    names: tuple[str, ...], root_args: tuple[str, ...], label: str
) -> tuple[str, ...]:
    for name in names:
        if name not in root_args:
            message = (
                f"map_over names {name!r}, which is no input of {label}; {hint(name, root_args)}"
            )
            raise UnknownInputError(message, name=name, suggestion=nearest(name, root_args))
    if len(set(names)) != len(names):
        raise InputError(f"map_over of {label} names an input twice: {names}", name="map_over")
    return names
