"""A plugin: logs who ran which pipeline, and how it went."""

import getpass
import logging

from hypernodes import Callback, CallbackContext

logger = logging.getLogger("hypernodes.audit")


class Audit(Callback):
    """Logs each outermost run; nested pipelines belong to it."""

    order = 90
    async_mode = True
    reads = ()

    def on_pipeline_end(self, ctx: CallbackContext, duration: float) -> None:
        """Log a run that went well."""
        self._log(ctx, f"done in {duration:.3f} s")

    def on_pipeline_error(self, ctx: CallbackContext, error: BaseException) -> None:
        """Log a run that failed."""
        self._log(ctx, f"failed: {error!r}")

    def _log(self, ctx: CallbackContext, what: str) -> None:
        if ctx.depth == 0:
            logger.info("%s ran %s (%s): %s", getpass.getuser(), ctx.path[0], ctx.run_id, what)
