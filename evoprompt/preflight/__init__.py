"""Checks of all that a run needs, before it is begun: `evoprompt check`."""

from evoprompt.extras import require

require("evoprompt.preflight", "lm")
