"""Calls that are late and cannot be left behind, since they never let go of Python's lock.

Nothing else runs in their worker meanwhile, its own watch over timeouts included: it does not even
say how far it is. That tells its driver, who ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from hypernodes._engine.clusters.needs import all_steps
from hypernodes._node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.shipping.deaths import Death

    Timeouts = Mapping[tuple[str, ...], float]

SILENCE: Final = 15.0
"""Seconds beyond a timeout after which who does not answer is stuck: big values take their time."""

_known: Final[WeakKeyDictionary[PipelineExecutionEngine, Timeouts]] = WeakKeyDictionary()


def patience_with(engine: PipelineExecutionEngine) -> float | None:
    """Return for how many seconds who runs a plan may not answer; None if none has a timeout."""
    timeouts = _timeouts(engine)
    return max(timeouts.values()) + SILENCE if timeouts else None


def late(death: Death, engine: PipelineExecutionEngine) -> Death:
    """Return why a piece lost a worker that was stuck, as far as it is known what ran."""
    timeout = _timeouts(engine).get(death.path)
    return death if timeout is None else death._replace(late=True, timeout=timeout)


def _timeouts(engine: PipelineExecutionEngine) -> Timeouts:
    found = _known.get(engine)
    if found is None:
        steps = (engine.plan.inside or engine.plan).steps
        nodes = [(s, s.node) for s in all_steps(steps) if isinstance(s.node, Node)]
        all_of_them = {
            step.path: step.config.timeout if node.timeout is None else node.timeout
            for step, node in nodes
        }
        found = {path: timeout for path, timeout in all_of_them.items() if timeout is not None}
        _known[engine] = found
    return found
