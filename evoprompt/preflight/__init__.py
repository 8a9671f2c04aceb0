"""What stands in the way of a run, found before it is begun: `python -m evoprompt.check`."""

from evoprompt.extras import require

require("evoprompt.preflight", "lm")
