# %% [markdown]
# # Route a question to experts
# A committee is a frozen model, a folder of experts and a router. The model here is the bundled pocket model, a
# simulator: what it says is no advice and nothing about people.
# [The guide](../docs/guides/routing.md) has more.

# %%
from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import ModelSpec, load_model
from evoprompt.routing import Committee, Profile, load_router

frozen = load_model(ModelSpec(name="pocket"))
committee = Committee(frozen, Registry(BUNDLED, frozen), load_router(None, frozen), k=3)

# %% [markdown]
# ## Who answers, and why
# Names, native words, spelling, script, the user's place and language, and likeness to example queries all count. Where
# no culture is needed the base model answers; where one is needed and none is told, experts with views far apart do.

# %%
for query in (
    "What do I bring as omiyage?",
    "How do weddings differ in Brazil and Japan?",
    "Should I bring my relatives to the party?",
    "What is 17 times 23?",
):
    route, voices = committee.route(query)
    print(query)
    for voice in voices:
        reasons = [", ".join(choice.reasons) for choice in route.chosen if choice.culture == voice.name]
        print(
            f"  {voice.label} {voice.weight:.0%}: {reasons[0] if any(reasons) and not route.spread else route.reason}"
        )

# %% [markdown]
# ## How answers become one
# A panel gives each expert's answer, a mixture draws each word from all of them, a synthesis is written by the base
# model, which is too small here to write one.

# %%
query = "Should I bring my relatives to the party?"
print(committee.answer(query, "panel").text)
print("mixture:", committee.answer(query, "mixture").text)

# %% [markdown]
# ## With a profile
# What is known of the user decides where the question does not tell.

# %%
answer = committee.answer(query, profile=Profile(location="Nairobi", language="sw"))
print(f"from Nairobi, {answer.voices[0].label} speaks: {answer.text}")

# %% [markdown]
# ## A distribution over options
# Options are shown in both orders, so that a preference for a label or a place cancels.

# %%
OPTIONS = ("utmost importance", "very important", "fairly important", "slightly important", "not important")
query = "How important is it that your family and friends respect your job?"
for location in ("Nairobi", "Chicago"):
    opinion = committee.opinion(query, OPTIONS, Profile(location))
    shares = ", ".join(f"{option} {share:.0%}" for option, share in zip(OPTIONS, opinion.shares, strict=True))
    print(f"{location}, {opinion.voices[0].label}: {shares}")
