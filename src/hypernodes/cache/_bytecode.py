"""What instructions do: which names they look up, and what they are without their places."""

from __future__ import annotations

import dis
import inspect
import re
import sys
import types
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypernodes.cache._walk import Identify, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ImportedName", "actions", "describe_bytecode", "texts", "words"]


class ImportedName(NamedTuple):
    """What an import statement names: a module, how many packages up, and a member of it or ""."""

    module: str
    level: int
    member: str
    is_top: bool


def actions(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Yield what the instructions of `code` do to names, as a verb and its object.

    "global", "local", "attribute" and "store" come with a name, "import" with an `ImportedName`,
    "member" with the name that is taken from what was imported. Anything else is "".

    Args:
        code: A code object; not those inside it.
    """
    cells = {*code.co_cellvars, *code.co_freevars}
    before: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            continue
        kind = _ACTIONS.get(instruction.opname)
        argument = instruction.argval
        if kind == "import":
            level, names = before
            yield kind, ImportedName(argument, level or 0, "", is_top=not names)
        elif kind == "fast":
            yield from _fast(instruction.opname, argument, cells)
        else:
            yield kind or "", argument
        before = [before[1], argument]


def _fast(operation: str, argument: Any, cells: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what an instruction on local variables does; since Python 3.13 some do two things."""
    names = argument if isinstance(argument, tuple) else (argument,)
    for verb, name in _joined(operation, names):
        if verb == "STORE":
            yield "store", name
        elif name not in cells:
            yield "local", name


def _joined(operation: str, names: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    verbs = [word for word in operation.split("_") if word in ("LOAD", "STORE")]
    return zip(verbs, names, strict=False)


def _kinds_of_action() -> dict[str, str]:
    kinds = dict.fromkeys(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"), "global")
    kinds |= dict.fromkeys(("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"), "local")
    kinds |= dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD"), "attribute")
    kinds |= dict.fromkeys(("STORE_DEREF", "STORE_NAME", "STORE_GLOBAL"), "store")
    kinds |= {"IMPORT_NAME": "import", "IMPORT_FROM": "member"}
    fast = [name for name in dis.opmap if "_FAST" in name and name.startswith(("LOAD", "STORE"))]
    return kinds | dict.fromkeys(fast, "fast")


_ACTIONS: Final = _kinds_of_action()


_JUMPS: Final = frozenset([*dis.hasjrel, *dis.hasjabs])
_FLAGS: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def describe_bytecode(code: types.CodeType, identify: Identify) -> bytes:
    """Return the bytecode without places and functions' docstrings, for this version of Python.

    Args:
        code: What has no source.
        identify: What definitions among its constants hash to; see `encode`.
    """
    instructions, places = _instructions(code, identify)
    handlers = [
        (places[entry.start], places[entry.end], places[entry.target], entry.depth, entry.lasti)
        for entry in dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    ]
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    names = (code.co_name, code.co_varnames[: sum(counts)], code.co_freevars)
    flags = code.co_flags & _FLAGS
    facts = [sys.version_info[:2], names, counts, flags, instructions, handlers]
    return encode(facts, identify=identify)


def texts(code: types.CodeType) -> list[str]:
    """Return all texts in `code`, docstrings among them, and in the code inside it."""
    found = [each for each in code.co_consts if isinstance(each, str)]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += texts(constant)
    return found


_WORD: Final = re.compile(r"[^\W\d]\w*")


def words(written: Iterable[str]) -> list[str]:
    """Return the names that occur in texts, sorted."""
    return sorted({name for text in written for name in _WORD.findall(text)})


def _instructions(
    code: types.CodeType, identify: Identify
) -> tuple[list[tuple[str, Any]], dict[int, int]]:
    """Return what `code` does, and which step lies at which place in it."""
    steps: list[tuple[str, Any]] = []
    places: dict[int, int] = {}
    jumps: list[int] = []
    for instruction in dis.get_instructions(code):
        places[instruction.offset] = len(steps)
        if instruction.opcode in _JUMPS:
            jumps.append(len(steps))
        if _is_line_of_class(instruction):
            steps.pop()
        elif instruction.opname not in ("NOP", "EXTENDED_ARG"):
            steps += _steps(instruction, identify)
    places[len(code.co_code)] = len(steps)
    for step in jumps:
        steps[step] = (steps[step][0], places[steps[step][1]])
    return steps, places


def _is_line_of_class(instruction: dis.Instruction) -> bool:
    return instruction.opname == "STORE_NAME" and instruction.argval == "__firstlineno__"


def _steps(instruction: dis.Instruction, identify: Identify) -> list[tuple[str, Any]]:
    """Return an instruction as one step, or as two if the compiler joined two of one line."""
    name, argument = instruction.opname, instruction.argval
    if "_FAST" in name and isinstance(argument, tuple):
        return [(f"{verb}_FAST", each) for verb, each in _joined(name, argument)]
    if isinstance(argument, types.CodeType):
        return [(name, describe_bytecode(argument, identify))]
    return [(name.removesuffix("_BORROW"), argument)]
