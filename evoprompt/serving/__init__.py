"""The committee over HTTP: an OpenAI-compatible API and a page, on one model."""

from evoprompt.extras import require

require("evoprompt.serving", "serve")

from evoprompt.serving.app import make_app
from evoprompt.serving.engine import Engine
from evoprompt.serving.service import Limits

__all__ = ["Engine", "Limits", "make_app"]
