"""What a hook reads of its context, by its bytecode: what nobody reads need not be made or sent."""

from __future__ import annotations

import dis
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES: Final = frozenset({"inputs", "outputs"})
"""What of a context may be big."""


def values_read(function: Callable[..., Any], name: str) -> frozenset[str]:
    """Return which `VALUES` of its argument `name` a function may read.

    All of them, unless the argument is one of its own (a decorator's wrapper may hide it), and
    every use of it is a public attribute taken from it on the spot.

    Args:
        function: A hook.
        name: The argument that is the context.
    """
    own = function.__func__ if isinstance(function, MethodType) else function
    code = getattr(own, "__code__", None)
    if not isinstance(code, CodeType) or name in code.co_cellvars or not _takes(code, name):
        return VALUES
    names = set()
    instructions = list(dis.get_instructions(code))
    for here, following in zip(instructions, [*instructions[1:], None], strict=True):
        if not _mentions(here.argval, name):
            continue
        taken = here.opname.startswith("LOAD_FAST") and here.argval == name
        if not taken or following is None or following.opname not in {"LOAD_ATTR", "LOAD_METHOD"}:
            return VALUES
        names.add(following.argval)
    # What calls itself on the values of a frame or an instance may read anything.
    if {"locals", "vars", "eval", "exec"} & {*code.co_names} or any(n[0] == "_" for n in names):
        return VALUES
    return VALUES & names


def _takes(code: CodeType, name: str) -> bool:
    """Tell whether a function has an argument of that name itself."""
    return name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _mentions(value: object, name: str) -> bool:
    """Tell whether an instruction is about a variable; some of them are about two."""
    return value == name or (isinstance(value, tuple) and name in value)
