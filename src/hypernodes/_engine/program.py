"""A plan as one straight function: a line for each step, nothing between the calls.

Python's own names and calls are the fastest scheduler there is for steps that run one by one. An
error is traced to its step by the line it came from, so that success pays nothing for it.
"""

from __future__ import annotations

import itertools
import linecache
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Sequence
    from types import CodeType, TracebackType

    from hypernodes._engine.plan import Argument, Plan, Slot, Step

_numbers: Final = itertools.count()
_FIRST_LINE: Final = 2


class Program:
    """The compiled form of a plan.

    Args:
        plan: The plan.
        calls: What each step calls.
        before_each: Called before each step; may raise what is no `Exception`.
        observed: The indexes of the steps whose calls take a witness first.

    Attributes:
        run: Takes the shared inputs and the item's own, by name, and a witness if there are steps
            that are observed; returns the outputs by name.
    """

    run: Callable[..., dict[str, Any]]

    def __init__(
        self,
        plan: Plan,
        calls: Sequence[Callable[..., Any]],
        before_each: Callable[[], None] | None = None,
        observed: Collection[int] = (),
    ) -> None:
        self._plan = plan
        self._observed = observed
        self._prefix = "" if before_each is None else "before_each(); "
        self._loads = [f"v{slot} = inputs[{_literal(name)}]" for name, slot in plan.shared.items()]
        self._loads += [f"v{slot} = item[{_literal(name)}]" for name, slot in plan.mapped.items()]
        self._filename = f"<hypernodes plan {next(_numbers)}>"
        space: dict[str, Any] = {f"c{index}": call for index, call in enumerate(calls)}
        space["before_each"] = before_each
        space |= {f"v{slot}": value for slot, value in plan.constants.items()}
        exec(compile(self._source(), self._filename, "exec"), space)  # noqa: S102 - our own source
        self.run = space["program"]
        finalize(self, linecache.cache.pop, self._filename, None)
        self._code: CodeType = space["program"].__code__

    def step_of(self, trace: TracebackType | None) -> Step | None:
        """Return the step whose line stands in a traceback, or None."""
        while trace is not None:
            if trace.tb_frame.f_code is self._code:
                return self._step_at(trace.tb_lineno)
            trace = trace.tb_next
        return None

    def _step_at(self, line: int) -> Step | None:
        self._show_source()
        number = line - _FIRST_LINE - len(self._loads)
        steps = self._plan.steps
        return steps[number] if 0 <= number < len(steps) else None

    def _source(self) -> str:
        plan = self._plan
        uses = plan.uses()
        lines = [
            self._prefix + _step_line(step, uses, is_observed=step.index in self._observed)
            for step in plan.steps
        ]
        results = ", ".join(f"{_literal(name)}: v{slot}" for name, slot in plan.results.items())
        body = [*self._loads, *lines, f"return {{{results}}}"]
        head = f"def program(inputs, item{', witness' if self._observed else ''}):"
        return "\n ".join([head, *body])

    def _show_source(self) -> None:
        """Let tracebacks show the step in the user's words instead of ours."""
        if self._filename in linecache.cache:
            return
        loads = [line.partition("= ")[2] for line in self._loads]
        text = ["def pipeline(inputs, item):", *loads, *map(_shown, self._plan.steps)]
        lines = [f"{line}\n" for line in text]
        linecache.cache[self._filename] = sum(map(len, lines)), None, lines, self._filename


def _step_line(step: Step, uses: Counter[Slot], *, is_observed: bool) -> str:
    """Return the statement for a step; what nobody needs after it is let go."""
    targets = ", ".join(f"v{slot}" for slot in step.outputs) + ("," if step.unpacks else "")
    witness = ("witness",) if is_observed else ()
    arguments = ", ".join((*witness, *map(_argument, step.arguments)))
    line = f"{targets} = c{step.index}({arguments})"
    uses.subtract(argument.slot for argument in step.arguments)
    done = dict.fromkeys(argument.slot for argument in step.arguments)
    dead = [f"v{slot}" for slot in (*done, *step.outputs) if not uses[slot]]
    return f"{line}; del {', '.join(dead)}" if dead else line


def _literal(name: str) -> str:
    """Return `name` as a literal, also where it is a member of an enumeration of strings."""
    return repr(str.__str__(name))


def _argument(argument: Argument) -> str:
    value = f"v{argument.slot}"
    return value if argument.keyword is None else f"{argument.keyword}={value}"


def _shown(step: Step) -> str:
    return (
        f"{', '.join(step.node.output_names)} = {step.node.name}({', '.join(step.node.root_args)})"
    )
