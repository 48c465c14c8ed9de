"""Keys: what stands for a value before it is there, by content or by what makes it.

The key of a value that comes from outside says what it is; that of an output is the signature of
the step that makes it, with its position where there are several. A signature is the hash of a
step's prefix (all that does not change from run to run: scheme, salt, code, how it is called) and
of the keys of its arguments.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._encoding import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hypernodes._engine.plan import Step

    Keys = list["Key | None"]
    Program = Callable[[Sequence[str], Keys], Keys]

Key = str
UNSTABLE: Final = ""
"""The key of a value that has no stable identity."""


def prefix(*facts: object) -> str:
    """Return what a signature begins with.

    Args:
        facts: Texts, numbers, None, and tuples of them.
    """
    return sha256(ascii((SCHEME, facts)).encode()).hexdigest()


def signature(start: str, keys: Iterable[Key]) -> str:
    """Return the signature of a step: a lowercase hex string of 64 characters.

    Args:
        start: The step's prefix.
        keys: Those of its arguments, in order.
    """
    return sha256(f"{start}{','.join(keys)}".encode()).hexdigest()


def output_key(made: str, place: int, step: Step) -> Key:
    """Return the key of an output of the step with the signature `made`."""
    return f"{made}:{place}" if step.unpacks else made


def origin_of(key: Key) -> tuple[str, int]:
    """Return the signature of the step that a key comes from, and the place among its outputs."""
    made, _, place = key.partition(":")
    return made, int(place or 0)


def compile_keys(signed: Sequence[Step]) -> Program:
    """Return a straight function that signs steps, all of whose arguments have keys by then.

    Args:
        signed: Steps of a plan, in order.

    Returns:
        Takes prefixes by the index of the step, and a list of the keys of what is given by slot,
        which it fills and returns.
    """
    made = {
        slot: f"s{step.index}+':{place}'" if step.unpacks else f"s{step.index}"
        for step in signed
        for place, slot in enumerate(step.outputs)
    }
    taken = {argument.slot for step in signed for argument in step.arguments}
    lines = [f"k{slot} = keys[{slot}]" for slot in sorted(taken - made.keys())]
    for step in signed:
        keys = ",".join(f"{{{made.get(a.slot, f'k{a.slot}')}}}" for a in step.arguments)
        text = f'f"{{p[{step.index}]}}{keys}"'
        lines.append(f"s{step.index} = h({text}.encode()).hexdigest()")
    lines += [f"keys[{slot}] = {text}" for slot, text in made.items()]
    source = "\n ".join(["def program(p, keys):", *lines, "return keys"])
    space: dict[str, Any] = {"h": sha256}
    exec(compile(source, "<hypernodes keys>", "exec"), space)  # noqa: S102 - our own source
    return space["program"]  # type: ignore[no-any-return]
