"""One file a paper: what each variant is made of, with its equations and constants."""

from evoprompt.optim.de.papers.arrde import ARRDE
from evoprompt.optim.de.papers.classic import CLASSIC
from evoprompt.optim.de.papers.jade import JADE
from evoprompt.optim.de.papers.jde import JDE
from evoprompt.optim.de.papers.jso import JSO
from evoprompt.optim.de.papers.lshade import LSHADE
from evoprompt.optim.de.papers.lsrtde import LSRTDE
from evoprompt.optim.de.papers.shade import SHADE
from evoprompt.optim.de.variant import Variant

__all__ = ["VARIANTS"]

VARIANTS: dict[str, Variant] = {
    variant.name: variant for variant in [*CLASSIC, JDE, JADE, SHADE, LSHADE, JSO, LSRTDE, ARRDE]
}
"""Every variant by its name; one of your own that is put here has a name too."""
