# %% [markdown]
# # Bring your own survey
# First your own wordings of the 24 items that Hofstede's formulas need, in a YAML file; then a questionnaire with other
# items and another score. The answers come from the bundled pocket model, a simulator that hardly understands wordings
# it never met: its figures are never evidence about people.

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml

from evoprompt import minimize
from evoprompt.llm import ModelSpec, Respondent, load_model
from evoprompt.prompts import space_for
from evoprompt.surveys import DIMENSION_NAMES, Plan, Question, load_instrument

folder = Path(tempfile.mkdtemp())  # or one of your own

# %% [markdown]
# ## A wording file
# Scales list their options from answer 1 to answer 5. Every item has a scale, wordings that are searched on and others
# that are only reported; one of each is the least, more are better. The order of the items is that of the VSM 2013.

# %%
SCALES = {
    "importance": ["utmost importance", "very important", "fairly important", "slightly important", "not important"],
    "frequency": ["always", "often", "sometimes", "rarely", "never"],
    "rising": ["never", "rarely", "sometimes", "often", "always"],
    "health": ["very good", "good", "fair", "poor", "very poor"],
    "pride": ["very proud", "quite proud", "somewhat proud", "hardly proud", "not proud at all"],
    "agreement": ["strongly agree", "agree", "undecided", "disagree", "strongly disagree"],
}
JOB = ("How important is {} in a job?", "You look for work. How important is {}?")
LIFE = ("Beside your work, how important is {}?", "How important is {} in your own life?")
OFTEN = ("How often {}?", "In a usual week, how often {}?")
AGREE = ("{} Do you agree?", "Some say: {} Do you agree?")
ITEMS = [
    *(("importance", JOB, topic) for topic in ("time for your home", "a boss you can respect", "praise for good work")),
    *(("importance", JOB, topic) for topic in ("security", "pleasant colleagues", "interesting work")),
    *(("importance", JOB, topic) for topic in ("being consulted by your boss", "a good area to live in")),
    *(("importance", JOB, topic) for topic in ("the respect of family and friends", "promotion")),
    *(
        ("importance", LIFE, topic)
        for topic in ("time for fun", "having few desires", "helping a friend", "saving money")
    ),
    *(("frequency", OFTEN, topic) for topic in ("are you tense", "are you happy", "do others stop you")),
    ("health", ("How is your {}?", "All in all, how good is your {}?"), "health"),
    ("pride", ("How proud are you of {}?", "Thinking of {}: how proud are you?"), "your country"),
    ("rising", OFTEN, "are employees afraid to disagree with the boss"),
    *(("agreement", AGREE, text) for text in ("Managers need not know every answer.", "Steady effort brings results.")),
    *(("agreement", AGREE, text) for text in ("Nobody should have two bosses.", "Company rules must never be broken.")),
]
wordings = {
    "name": "my-wordings",
    "scales": SCALES,
    "items": {
        number: {"scale": scale, "searched": [forms[0].format(topic)], "held_out": [forms[1].format(topic)]}
        for number, (scale, forms, topic) in enumerate(ITEMS, start=1)
    },
}
file = folder / "my_wordings.yaml"
file.write_text(yaml.safe_dump(wordings, sort_keys=False), encoding="utf-8")
print(
    f"{load_instrument(file).name}: {len(load_instrument(file).items)} items, checked"
)  # a mistake is told by its line

# %% [markdown]
# ## A run with it
# From a shell: `python -m evoprompt.run +culture=india survey.wording_file=my_wordings.yaml budget=100`

# %%
run = folder / "run"
command = [sys.executable, "-m", "evoprompt.run", "+culture=india", f"survey.wording_file={file}", "budget=100"]
subprocess.run([*command, "report=false", f"hydra.run.dir={run}"], check=True, stdout=subprocess.DEVNULL)
metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
before, after = (metrics["arms"][arm]["held_out"] for arm in ("naive", "evolved"))
for name, target in metrics["target"].items():
    scores = f"{before['dimensions'][name]:6.1f} before, {after['dimensions'][name]:6.1f} after"
    print(f"{DIMENSION_NAMES[name]:22s} target {target:5.1f}, {scores}")
print(f"held-out loss {before['loss']:.1f} before, {after['loss']:.1f} after")

# %% [markdown]
# ## Other items, another score
# Nothing else ties you to Hofstede: ask any questions and score them as you like. Here four statements make one score
# from 1 to 5, and a soft prompt is sought under which the model agrees. Each is asked in both option orders, so that
# pushing a label or a position wins nothing, and every second statement is held out from the search.

# %%
STATEMENTS = [
    "Company rules must never be broken.",
    "Employees must keep the rules of an organisation.",
    "A rule at work holds for everybody.",
    "The rules of a company should be kept.",
]
OPTIONS, LABELS, VALUES = tuple(SCALES["agreement"]), tuple("ABCDE"), (1, 2, 3, 4, 5)

frozen = load_model(ModelSpec(name="pocket"))
respondent = Respondent(frozen)
space = space_for(frozen, {}, seed=0)  # the default kind; {"kind": "low_rank"} is another


def score_of(statements: list[str], prompts: torch.Tensor) -> np.ndarray:
    """Soft prompts (n, tokens, hidden) to mean answers (n,), from 1 (strongly agree) to 5."""
    plan = Plan(
        tuple(
            Question(item, f"{statement} Do you agree?", OPTIONS[::step], LABELS, VALUES[::step])
            for item, statement in enumerate(statements)
            for step in (1, -1)
        )
    )
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    return plan.expected(respondent.answer(prompts, sheet)).mean(axis=1)


result = minimize(lambda z: score_of(STATEMENTS[::2], space.decode(z)), space.bounds, budget=100, vectorized=True)
prompt = space.decode(result.x[None])
for name, statements in (("searched", STATEMENTS[::2]), ("held out", STATEMENTS[1::2])):
    print(f"{name}: {score_of(statements, prompt[:, :0])[0]:.2f} before, {score_of(statements, prompt)[0]:.2f} after")
