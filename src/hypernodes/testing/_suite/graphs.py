"""Random graphs of some hundred nodes: the same ones in every run of the suite."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypernodes._node import Node, node
from hypernodes.pipeline import Pipeline
from hypernodes.testing._work import mixing

if TYPE_CHECKING:
    from hypernodes._nested import PipelineNode


def random_pipeline(seed: int, size: int) -> Pipeline:
    """Return a pipeline of about `size` nodes that takes `x` and `xs`.

    Some are in a nested pipeline and some in one that is mapped over `xs`; some have two outputs,
    some are coroutine functions; a parameter has defaults that differ from node to node.
    """
    choose = random.Random(seed)  # noqa: S311 - no secret
    names = ["x"]
    first, second, third = (_nodes(choose, names, part, size // 4) for part in "pqr")
    each = Pipeline(_nodes(choose, ["x"], "e", size // 4), name="each")
    last = each.output_names[-1]
    members: list[Node | PipelineNode | Pipeline] = [
        *first,
        Pipeline(second, name="second"),
        *third,
        each.as_node(input_mapping={"xs": "x"}, output_mapping={last: "each"}, map_over="xs"),
        _node("of_each", ["each"], makes=1, salt=0, is_later=False),
    ]
    choose.shuffle(members)
    return Pipeline(members, name=f"random{seed}")


def _nodes(choose: random.Random, names: list[str], prefix: str, count: int) -> list[Node]:
    """Return nodes that take some of `names`, which grow by what they make."""
    made = []
    for number in range(count):
        recent = names[-choose.choice((1, 3, 20, 1000)) :]
        taken = list(dict.fromkeys(choose.choices(recent, k=choose.randint(1, 3))))
        makes, is_later = choose.choice((1, 1, 1, 2)), choose.random() < 0.2
        name = f"{prefix}{number}"
        made.append(_node(name, taken, makes=makes, salt=number, is_later=is_later))
        names.extend(made[-1].output_names)
    return made


def _node(name: str, taken: list[str], *, makes: int, salt: int, is_later: bool) -> Node:
    function = mixing(len(taken), makes, salt, is_later=is_later)
    outputs = name if makes == 1 else (name, f"{name}_too")
    inputs = dict(zip("abc", taken, strict=False))
    return node(outputs)(function).rename(inputs=inputs)
