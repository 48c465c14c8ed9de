"""A plan as one straight function: a line for each step, nothing between the calls.

Python's own names and calls are the fastest scheduler there is for steps that run one by one. An
error is traced to its step by the line it came from, so that success pays nothing for it.
"""

from __future__ import annotations

import itertools
import linecache
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

from hypernodes._engine.claims import CURSOR, LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import CodeType, TracebackType

    from hypernodes._engine.plan import Argument, Plan, Slot, Step

_numbers: Final = itertools.count()


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

    run: Callable[..., Any]
    _indent: str = " "

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
        self._opening = self._opened()
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
        number = line - 1 - len(self._opening)
        steps = self._plan.steps
        return steps[number] if 0 <= number < len(steps) else None

    def _opened(self) -> list[str]:
        """Return the lines before the steps."""
        head = f"def program(inputs, item{', witness' if self._observed else ''}):"
        return [head, *_loads("inputs", self._plan.shared), *_loads("item", self._plan.mapped)]

    def _closed(self, results: str) -> list[str]:
        """Return the lines after the steps."""
        return [f" return {results}"]

    def _uses(self) -> Counter[Slot]:
        """Count how often each value is needed."""
        return self._plan.uses()

    def _source(self) -> str:
        plan, uses = self._plan, self._uses()
        steps = [
            self._prefix + _step_line(step, uses, is_observed=step.index in self._observed)
            for step in plan.steps
        ]
        results = ", ".join(f"{_literal(name)}: v{slot}" for name, slot in plan.results.items())
        steps = [self._indent + step for step in steps]
        return "\n".join([*self._opening, *steps, *self._closed(f"{{{results}}}")])

    def _show_source(self) -> None:
        """Let tracebacks show the step in the user's words instead of ours."""
        if self._filename in linecache.cache:
            return
        loads = [line.partition("= ")[2] for line in self._opening[1:]]
        text = ["def pipeline(inputs, item):", *loads, *map(_shown, self._plan.steps)]
        lines = [f"{line}\n" for line in text]
        linecache.cache[self._filename] = sum(map(len, lines)), None, lines, self._filename


class Loop(Program):
    """A plan as one function for many items: a loop around its lines.

    Args:
        plan: The plan; items have some of what it takes.
        calls: What each step calls.
        before_each: See `Program`.

    Attributes:
        run: Takes the shared inputs; the items, each the values of `plan.mapped` in a tuple; where
            items are claimed, see `Claims`, and the number of the first; and what takes the outputs
            of each. Returns whether it has come to the end. It can be called again for the items
            that follow the one that raised.
    """

    _indent = "  "

    def _opened(self) -> list[str]:
        mapped = "".join(f"v{slot}, " for slot in self._plan.mapped.values())
        return [
            "def program(inputs, items, cells, number, append):",
            *_loads("inputs", self._plan.shared),
            f" for {mapped}in items:",
            f"  cells[{CURSOR}] = number = number + 1",
            f"  if number > cells[{LIMIT}]: return False",
        ]

    def _closed(self, results: str) -> list[str]:
        kept = {*self._plan.constants, *self._plan.shared.values()}
        made = dict.fromkeys(slot for slot in self._plan.results.values() if slot not in kept)
        done = f"; del {', '.join(f'v{slot}' for slot in made)}" if made else ""
        return [f"  append({results}){done}", " return True"]

    def _uses(self) -> Counter[Slot]:
        return super()._uses() + Counter(self._plan.shared.values())  # the next item needs them


def _loads(source: str, names: Mapping[str, Slot]) -> list[str]:
    return [f" v{slot} = {source}[{_literal(name)}]" for name, slot in names.items()]


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
