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
    from collections.abc import Iterable, Mapping

    from hypernodes._engine.kernel import PipelineExecutionEngine
    from hypernodes._engine.plan import Step
    from hypernodes._engine.shipping.deaths import Death

    Timeouts = Mapping[tuple[str, ...], float]

SILENCE: Final = 15.0
"""Seconds beyond a timeout after which who does not answer is stuck: big values take their time."""

_known: Final[WeakKeyDictionary[PipelineExecutionEngine, Timeouts]] = WeakKeyDictionary()


def patience_with(engine: PipelineExecutionEngine, steps: Iterable[Step]) -> float | None:
    """Return for how many seconds who runs some steps may not answer.

    Args:
        engine: Of the plan.
        steps: Those of it that run there.

    Returns:
        The longest timeout among them, and some; None where one has none, and may take any time.
    """
    timeouts = _timeouts(engine)
    if not timeouts:
        return None
    found = [timeouts.get(step.path) for step in all_steps(steps) if not _is_map_here(step)]
    bounded = [timeout for timeout in found if timeout is not None]
    return max(bounded) + SILENCE if bounded and len(bounded) == len(found) else None


def late(death: Death, engine: PipelineExecutionEngine) -> Death:
    """Return why a piece lost a worker that was stuck, as far as it is known what ran."""
    timeout = _timeouts(engine).get(death.path)
    return death if timeout is None else death._replace(late=True, timeout=timeout)


def _is_map_here(step: Step) -> bool:
    """Whether a step is a map inside, whose own steps the same workers run."""
    return step.inner is not None and bool(step.inner.map_over) and not step.inner.elsewhere


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
