"""Which config rules a node? The nearest one; this shows each level winning over the next.

    python examples/config_precedence.py

From the strongest to the weakest:

    call > node > pipeline > parent > RuntimeConfig.use > global default

The levels are added from the weakest to the strongest. Each new one has another executor than the
one before, so the answer of the node (the thread that ran it) changes every time that the new level
wins.
"""

import threading

from hypernodes import (
    Pipeline,
    RuntimeConfig,
    SequentialExecutor,
    ThreadPoolExecutor,
    node,
    set_default_config,
)

THREADS = RuntimeConfig(executor=ThreadPoolExecutor(max_workers=2))
SEQUENTIAL = RuntimeConfig(executor=SequentialExecutor())


@node(output_name="ran_in")
def where_am_i() -> str:
    """Say which thread runs this."""
    thread = threading.current_thread()
    return "the main thread" if thread is threading.main_thread() else "a pool's thread"


def show(level: str, pipeline: Pipeline, config: RuntimeConfig | None = None) -> None:
    """Run `pipeline`, at the call with `config` if there is one, and print who ran its node."""
    ran_in = pipeline.run(config=config)["ran_in"]
    # What rules the pipeline; its nodes and a call may have a config of their own.
    executor = type(pipeline.effective_config.executor).__name__
    print(f"{level:<18}  ran in {ran_in:<16}  (effective_config: {executor})")


def main() -> None:
    """Add one level after the other; each wins over all that came before."""
    plain = Pipeline([where_am_i], name="plain")

    set_default_config(THREADS)
    show("global default", plain)

    with RuntimeConfig.use(SEQUENTIAL):
        show("use", plain)

        # A pipeline takes its parent's config when it has none of its own.
        parent = Pipeline([], name="parent", config=THREADS)
        child = Pipeline([where_am_i], name="child", parent=parent)
        show("parent", child)

        own = child.with_config(SEQUENTIAL)
        show("pipeline", own)

        picky = Pipeline([where_am_i.with_config(THREADS)], name="picky", config=SEQUENTIAL)
        show("node", picky)

        # A config at the call rules the entire run, nodes with their own config included.
        show("call", picky, SEQUENTIAL)

    set_default_config(None)  # forget it: what remains is the library's own default
    show("library default", plain)


if __name__ == "__main__":
    main()
