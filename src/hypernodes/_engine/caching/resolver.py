"""What to look up and what to run, in which order: the logic alone, for one run or item.

Nothing is wanted but what is asked for. A step that has a signature is looked up first; if it is
found, nothing before it is wanted. If not, it runs, and wants the values of its arguments. A step
behind one that has no signature (it is not to be cached, or takes something without a stable
identity) wants the value of that one first, and gets its signature by it.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from hypernodes._engine.caching.keys import UNSTABLE, origin_of, output_key, signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypernodes._engine.caching.keys import Key, Keys
    from hypernodes._engine.caching.scheme import Scheme
    from hypernodes._engine.plan import Slot, Step

UNSIGNED: Final = ""
"""In the place of a signature: the step has none in this run."""


class Resolver:
    """How far one run or item has come.

    Args:
        scheme: What is known of the plan.
        prefixes: What the signatures of steps begin with, by the index of the step.
        keys: The keys that are known, by slot; filled as more get known.
        values: The values that are there, by slot; filled, and emptied of what nobody needs.
        tell: Returns the key of a value, given its slot and the value.

    Attributes:
        keys: As given.
        values: As given.
        made: The signatures that are known, by the index of the step; `UNSIGNED` where there is
            none.
        marks: What tells whether values that several steps take have changed, by slot.
    """

    __slots__ = (
        "_agenda",
        "_begun",
        "_keyless",
        "_lookups",
        "_needed",
        "_prefixes",
        "_ready",
        "_replaced",
        "_scheme",
        "_tell",
        "_uses",
        "_valueless",
        "_wait_for_key",
        "_wait_for_value",
        "_wanted",
        "keys",
        "made",
        "marks",
        "values",
    )

    def __init__(
        self,
        scheme: Scheme,
        prefixes: Sequence[str],
        keys: Keys,
        values: dict[Slot, Any],
        tell: Callable[[Slot, Any], Key],
    ) -> None:
        self.keys: Keys = keys
        self.values: dict[Slot, Any] = values
        self.made: dict[int, str] = {}
        self.marks: dict[Slot, str | None] = {}
        self._scheme = scheme
        self._prefixes = prefixes
        self._tell = tell
        self._uses = dict(scheme.uses)
        self._replaced: set[Slot] = set()
        self._needed = {slot for slot in scheme.plan.results.values() if slot not in values}
        self._agenda: list[tuple[Callable[[Step], None], Step]] = []
        self._lookups: list[Step] = []
        self._ready: list[int] = []
        self._wanted: set[int] = set()
        self._begun: set[int] = set()
        self._keyless: dict[int, int] = {}
        self._valueless: dict[int, int] = {}
        self._wait_for_key: dict[Slot, list[Step]] = {}
        self._wait_for_value: dict[Slot, list[Step]] = {}
        for slot in self._needed:
            self._want_made(slot)
        self._work()

    # ------------------------------------------------------------ from outside

    @property
    def is_done(self) -> bool:
        """Whether all that is asked for is there."""
        return not self._needed

    def outputs(self) -> dict[str, Any]:
        """Return what is asked for, by name."""
        return {name: self.values[slot] for name, slot in self._scheme.plan.results.items()}

    def take_lookups(self) -> list[tuple[Step, str]]:
        """Return the steps that have to be looked up now, with their signatures."""
        lookups, self._lookups = self._lookups, []
        return [(step, self.made[step.index]) for step in lookups]

    def take_ready(self) -> list[Step]:
        """Return the steps that have to run now, and can."""
        ready, self._ready = self._ready, []
        return [self._scheme.plan.steps[index] for index in sorted(ready)]

    def next_ready(self) -> Step | None:
        """Return the first step that has to run now, and can, if there is one."""
        return self._scheme.plan.steps[heapq.heappop(self._ready)] if self._ready else None

    def look_at(self, step: Step, outputs: Sequence[Any] | None) -> None:
        """Take the values that were found for a step, or that there are none."""
        if outputs is not None:
            self._settle(step, outputs)
            return
        self._agenda.append((self._want_arguments, step))
        self._work()

    def look_again(self, step: Step) -> None:
        """Want a step that could run looked up once more."""
        self._lookups.append(step)

    def takes_replaced(self, step: Step) -> bool:
        """Tell whether a step takes values that are not what their keys say."""
        replaced = self._replaced
        return bool(replaced) and not replaced.isdisjoint(self._scheme.takes[step.index])

    def replace(self, slot: Slot) -> None:
        """Take note that a value is not what its key says."""
        self._replaced.add(slot)

    def settle(self, step: Step, outputs: Sequence[Any], *, replaced: bool = False) -> None:
        """Take the values of a step.

        Args:
            step: The step.
            outputs: What it gives.
            replaced: Whether that is something else than what it has made of its arguments.
        """
        if self.made.get(step.index) and (replaced or self.takes_replaced(step)):
            self._replaced.update(step.outputs)
        self._settle(step, outputs)

    def _settle(self, step: Step, outputs: Sequence[Any]) -> None:
        for slot, value in zip(step.outputs, outputs, strict=True):
            if slot in self._uses:
                self.values[slot] = value
                self._needed.discard(slot)
        for slot in step.outputs:
            self._announce_value(slot)
        for slot in self._scheme.takes[step.index]:
            self._release(slot)
        self._work()

    # ------------------------------------------------------------ what is wanted

    def _work(self) -> None:
        agenda = self._agenda
        while agenda:
            act, step = agenda.pop()
            act(step)

    def _want_made(self, slot: Slot) -> None:
        """Want the value of a slot that a step makes."""
        step = self._scheme.makers[slot]
        if step.index not in self._wanted:
            self._wanted.add(step.index)
            self._agenda.append((self._want_step, step))

    def _want_step(self, step: Step) -> None:
        if not self._scheme.signed[step.index]:
            self.made[step.index] = UNSIGNED
        made = self.made.get(step.index)
        if made is None:
            self._sign(step)  # which comes back here
        elif step.index not in self._begun:  # it may have come here by way of another's key
            self._begun.add(step.index)
            if made:
                self._lookups.append(step)
            else:
                self._want_arguments(step)

    def _want_arguments(self, step: Step) -> None:
        missing = [s for s in dict.fromkeys(self._scheme.takes[step.index]) if s not in self.values]
        self._valueless[step.index] = len(missing)
        for slot in missing:
            self._wait_for_value.setdefault(slot, []).append(step)
            self._want_made(slot)
        if not missing:
            heapq.heappush(self._ready, step.index)

    # ------------------------------------------------------------ signatures

    def _sign(self, step: Step) -> None:
        """Sign a step, now or when the keys of all that it takes are known."""
        if step.index in self._keyless:
            return  # under way
        known = self.keys[step.outputs[0]]
        if known:
            self.made[step.index], _ = origin_of(known)
            self._want_step(step)
            return
        waits = 0
        for slot in self._scheme.takes[step.index]:
            if not self._has_key(slot):
                self._wait_for_key.setdefault(slot, []).append(step)
                waits += 1
        self._keyless[step.index] = waits
        if not waits:
            self._signed(step)

    def _has_key(self, slot: Slot) -> bool:
        """Tell whether the key of a slot is known; see to it that it will be."""
        if self.keys[slot] is not None:
            return True
        if slot in self.values:
            self.keys[slot] = self._tell(slot, self.values[slot])
            return True
        maker = self._scheme.makers[slot]
        if self._scheme.signed[maker.index] and self.made.get(maker.index) != UNSIGNED:
            self._agenda.append((self._sign, maker))
        else:
            self._want_made(slot)
        return False

    def _signed(self, step: Step) -> None:
        keys = [self.keys[slot] for slot in self._scheme.takes[step.index]]
        start = self._prefixes[step.index]
        if start and UNSTABLE not in keys:
            made = signature(start, [key for key in keys if key])
            for place, slot in enumerate(step.outputs):
                self.keys[slot] = output_key(made, place, step)
        else:
            made = UNSIGNED
        self.made[step.index] = made
        if step.index in self._wanted:
            self._want_step(step)
        for slot in step.outputs:
            if slot not in self._wait_for_key:
                continue
            if made:
                self._announce_key(slot)
            else:
                self._want_made(slot)  # its value will tell

    # ------------------------------------------------------------ what has come

    def _announce_key(self, slot: Slot) -> None:
        for step in self._wait_for_key.pop(slot, ()):
            self._keyless[step.index] -= 1
            if not self._keyless[step.index]:
                self._agenda.append((self._signed, step))

    def _announce_value(self, slot: Slot) -> None:
        if slot in self._wait_for_key:
            if self.keys[slot] is None:
                self.keys[slot] = self._tell(slot, self.values[slot])
            self._announce_key(slot)
        for step in self._wait_for_value.pop(slot, ()):
            self._valueless[step.index] -= 1
            if not self._valueless[step.index]:
                heapq.heappush(self._ready, step.index)

    def _release(self, slot: Slot) -> None:
        """Let go of a value that no step will take any more, and nobody has asked for."""
        self._uses[slot] -= 1
        if not self._uses[slot]:
            self.values.pop(slot, None)
