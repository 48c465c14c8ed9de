"""Which config rules a node? The nearest one; this shows each level winning over the next.

    python examples/config_precedence.py

From the strongest to the weakest:

    call > node > pipeline > parent > RuntimeConfig.use > global default > library default

The levels are added from the weakest to the strongest, and none is taken away. Each has an executor
of its own that leaves its name where the node finds it, so every line shows that the new level wins
over all that came before.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from hypernodes import Pipeline, RuntimeConfig, SequentialExecutor, node, set_default_config

RAN_BY = ContextVar("RAN_BY", default="the library's executor")


class NamedExecutor(SequentialExecutor):
    """A sequential executor with a name; whatever runs inside it can ask for that name."""

    owner: str

    def run_pipeline(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Do as the sequential executor does, with the name in place."""
        token = RAN_BY.set(f"the {self.owner}'s executor")
        try:
            return super().run_pipeline(*args, **kwargs)
        finally:
            RAN_BY.reset(token)


def config_of(owner: str) -> RuntimeConfig:
    """Make a config that can be told from all others."""
    return RuntimeConfig(executor=NamedExecutor(owner=owner))


@node(output_name="ran_by")
def who_runs_me() -> str:
    """Say which executor runs this, and in which thread."""
    return f"{RAN_BY.get()}, in {threading.current_thread().name}"


def main() -> None:
    """Add one level after the other; each wins over all that came before."""

    def show(level: str, pipeline: Pipeline, config: RuntimeConfig | None = None) -> None:
        print(f"{level:<16}  ran by {pipeline.run(config=config)['ran_by']}")

    plain = Pipeline([who_runs_me], name="plain")
    show("nothing set", plain)

    set_default_config(config_of("global default"))
    show("global default", plain)

    with RuntimeConfig.use(config_of("with block")):
        show("use", plain)

        # A pipeline takes its parent's config when it has none of its own.
        parent = Pipeline([], name="parent", config=config_of("parent"))
        child = Pipeline([who_runs_me], name="child", parent=parent)
        show("parent", child)

        own = child.with_config(config_of("pipeline"))
        show("pipeline", own)

        # A node's own config is for that node alone; the pipeline's still rules the others.
        picky = own.replace("who_runs_me", who_runs_me.with_config(config_of("node")))
        show("node", picky)

        # A config at the call rules the entire run, nodes with their own config included.
        show("call", picky, config_of("call"))

        # What would rule a pipeline, without running it:
        assert child.effective_config == config_of("parent")
        assert own.effective_config == config_of("pipeline")

    set_default_config(None)  # forget it
    show("all taken away", plain)


if __name__ == "__main__":
    main()
