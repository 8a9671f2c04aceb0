# %% [markdown]
# # Align to a custom culture
# Any scores can be the target, of some of the six dimensions or all: here high power distance and long-term
# orientation, low indulgence, and nothing said of the rest. The same by the command:
#
#     python -m evoprompt.run +culture=custom culture.name=Guild 'culture.targets={pdi: 75, lto: 60, ivr: 35}' \
#         budget=200 survey.respondents=4

# %%
import json
import tempfile
from pathlib import Path

from rich.console import Console

from evoprompt.report import write_report
from evoprompt.study import run_job
from evoprompt.surveys import DIMENSION_NAMES

folder = Path(tempfile.mkdtemp()) / "guild"  # or wherever you keep runs

# %% [markdown]
# ## Run
# A configuration has the keys of the command; what is left out keeps its default. An interrupted run is continued with
# `run_job({"resume": str(folder)}, folder, [], console)`.

# %%
targets = {"pdi": 75, "lto": 60, "ivr": 35}
config = {
    "culture": {"key": "custom", "name": "Guild", "targets": targets},
    "budget": 200,  # of a first look; the default is 1000
    "survey": {"respondents": 4},  # of the final evaluation; the default is 8
}
run_job(config, folder, [], Console(quiet=True))

# %% [markdown]
# ## Read the result
# `metrics.json` holds every arm on the wordings of the search and on held-out ones. The pocket model is a simulator:
# figures of it are never evidence about people.

# %%
metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
arms = {arm: found["held_out"] for arm, found in metrics["arms"].items()}
print(f"{'dimension':22s} target " + " ".join(f"{arm:>8s}" for arm in arms))
for dimension, target in targets.items():
    scores = " ".join(f"{found['dimensions'][dimension]:8.1f}" for found in arms.values())
    print(f"{DIMENSION_NAMES[dimension]:22s} {target:6.1f} {scores}")
print(f"{'held-out loss':29s} " + " ".join(f"{found['loss']:8.1f}" for found in arms.values()))
low, high = arms["evolved"]["interval"]
print(f"evolved: 95 % interval {low:.1f} to {high:.1f}, perplexity x{metrics['cost']['perplexity_ratio']:.2f}")
print(f"report {write_report(folder)}")
print(f"expert {folder / 'expert'}")
