"""A variant of one's own: wherever a name is, in states, and when a part of it is wrong."""

import pickle
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from evoprompt.errors import UserError
from evoprompt.optim import VARIANTS, DifferentialEvolution, Variant, capabilities_of, make_optimizer, minimize
from evoprompt.optim.de.mutation import Recipe, Step, distinct
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.schedule import Share, linear
from evoprompt.optim.de.variant import described


def best_2(pool, draws):
    """DE/best/2."""
    r = [draws.target]
    for k in range(4):
        r.append(distinct(draws.u[:, k], len(pool.x), *r))
    best = np.full(len(draws.f), pool.order[0])
    return Recipe(best, (Step(draws.f, r[1], r[2]), Step(draws.f, r[3], r[4])))


def five_for_each(d, budget):
    return 5 * d


MINE = Variant(
    "mine", best_2, "exp", SuccessHistory, cr=0.5, size=five_for_each, minimum=5, schedule=linear, archive=1.0,
    leaders=Share(0.15),
)  # fmt: skip
WHERE = f"{__name__}:MINE"


@dataclass(frozen=True)
class Falling:
    """A share of p-best members that somebody else's rule decides."""

    rule: Any

    def __call__(self, u, m, progress):
        return np.full(len(u), max(self.rule(m), 2))

    def tenth(self, m):
        return m // 10


def fifth(m):
    return m // 5


class Rule:
    def __call__(self, m):
        return m // 5


def sphere(x):
    return ((x - 1) ** 2).sum(axis=1)


def run(optimizer, evaluations=10_000):
    while not optimizer.should_stop() and optimizer.evaluations < evaluations:
        trials = optimizer.ask()
        optimizer.tell(trials, sphere(trials.x))
    return optimizer


def test_a_variant_is_taken_wherever_a_name_is_and_gives_the_same_run():
    box = [(-5, 5)] * 4
    made = [
        DifferentialEvolution(box, budget=800, variant=MINE),
        DifferentialEvolution(box, budget=800, variant=WHERE),
        make_optimizer(MINE, bounds=box, budget=800, seed=0),
        make_optimizer("de", variant=WHERE, bounds=box, budget=800, seed=0),
        DifferentialEvolution(box, budget=800, variant=pickle.loads(pickle.dumps(MINE))),
    ]
    assert [optimizer.popsize for optimizer in made] == [20] * 5
    best = {run(optimizer).best.loss for optimizer in made}
    assert len(best) == 1
    assert best.pop() < 0.1
    result = minimize(sphere, box, budget=800, vectorized=True, method=MINE)
    assert result.method == "mine"
    assert result.fun == minimize(sphere, box, budget=800, vectorized=True, method="de", variant=MINE).fun


def test_a_variant_of_ones_own_is_known_by_name_once_it_is_in_the_table():
    VARIANTS["mine"] = MINE
    try:
        assert minimize(sphere, [(-5, 5)] * 4, budget=200, vectorized=True, method="mine").success
    finally:
        del VARIANTS["mine"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cr": 0.7}, "variant.cr is 0.5 in the state and 0.7 here$"),
        ({"mutation": "rand/1"}, "variant.mutation is '.*:best_2' in the state and 'rand/1' here$"),
        ({"leaders": Share(0.2)}, r"variant.leaders is '.*Share\(p=0.15, end=None\)'.*Share\(p=0.2, end=None\)' here$"),
    ],
)
def test_a_state_of_another_algorithm_under_the_same_name_is_refused_and_says_what_differs(change, named):
    state = run(DifferentialEvolution([(-5, 5)] * 4, budget=800, variant=MINE), 60).state_dict()
    other = DifferentialEvolution([(-5, 5)] * 4, budget=800, variant=replace(MINE, **change))
    with pytest.raises(ValueError, match=named) as caught:
        other.load_state_dict(state)
    assert len(str(caught.value).splitlines()) == 1


def test_a_variant_with_a_lambda_runs_but_is_not_saved():
    variant = replace(MINE, size=lambda d, budget: 5 * d)
    optimizer = run(DifferentialEvolution([(-5, 5)] * 4, budget=100, variant=variant))
    with pytest.raises(ValueError, match="the size of variant 'mine' has no name to be saved by"):
        optimizer.state_dict()


@pytest.mark.parametrize(
    "part",
    [Falling(fifth).__call__, partial(Share(0.2).__call__), Rule(), Falling(Rule()), Falling([Rule()]),
     Falling(Falling(fifth).tenth), Falling(lambda m: m // 5)],
)  # fmt: skip
def test_a_part_that_no_other_process_would_find_is_not_saved(part):
    optimizer = DifferentialEvolution([(-5, 5)] * 4, budget=100, variant=replace(MINE, leaders=part))
    with pytest.raises(UserError, match="the leaders of variant 'mine' has no name to be saved by") as caught:
        optimizer.state_dict()
    assert len(str(caught.value).splitlines()) == 1


def test_a_part_is_told_by_what_it_holds_too_in_the_same_words_everywhere():
    parts = {name: described(replace(MINE, leaders=Falling(rule))) for name, rule in [("a", fifth), ("b", linear)]}
    assert parts["a"]["leaders"] == f"{__name__}:Falling(rule='{__name__}:fifth')"
    assert parts["b"]["leaders"] == f"{__name__}:Falling(rule='evoprompt.optim.de.schedule:linear')"
    nested = described(replace(MINE, leaders=Falling(Falling(fifth))))
    assert nested["leaders"] == f"{__name__}:Falling(rule=\"{__name__}:Falling(rule='{__name__}:fifth')\")"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mutation": "curent-to-best/1"}, "did you mean current-to-best/1"),
        ({"crossover": "binn"}, "unknown crossover 'binn'; did you mean bin"),
        ({"repair": "midpiont"}, "did you mean midpoint"),
        ({"adaptation": "shade"}, "adaptation of a variant must be callable, got 'shade'"),
        ({"cr": 1.5}, "cr must be a number from 0 to 1, got 1.5"),
        ({"minimum": 3}, "minimum must be an integer >= 4, got 3"),
        ({"memory": 0}, "memory must be an integer from 1 to 1000000, got 0"),
        ({"memory": 1.5}, "memory must be an integer from 1 to 1000000, got 1.5"),
        ({"mutation": ["x"]}, r"mutation of a variant must be a name or a function, got \['x'\]"),
        ({"mutation": 3}, "mutation of a variant must be a name or a function, got 3"),
        ({"crossover": ["x"]}, r"crossover of a variant must be a name or a function, got \['x'\]"),
        ({"repair": ["x"]}, r"repair of a variant must be a name, got \['x'\]"),
        ({"algorithm": "nope"}, "algorithm of a variant must be callable, got 'nope'"),
        ({"name": 3}, "name of a variant must be a text that is not empty, got 3"),
        ({"name": ""}, "name of a variant must be a text that is not empty, got ''"),
    ],
)
def test_a_wrong_part_is_refused_with_what_comes_close(parts, message):
    with pytest.raises(ValueError, match=message):
        Variant(**{"name": "mine", **parts})


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("lshad", "got 'lshad'; did you mean lshade"),
        (["x"], r"variant must be a Variant or one of .*, got \['x'\]"),
        (f"{__name__}:MIEN", f"{__name__} has no 'MIEN'; did you mean MINE"),
        (f"{__name__}:THING", f"{__name__} has no 'THING'; its variants: MINE"),
        ("no.such:THING", "variant 'no.such:THING' cannot be imported: No module named 'no'"),
        ("evoprompt.optim:NOTHING", "cannot be imported"),
        ("evoprompt.optim:minimize", "'evoprompt.optim:minimize' must be a Variant, got"),
    ],
)
def test_a_variant_that_is_not_there_is_refused_with_what_comes_close(variant, message):
    with pytest.raises(ValueError, match=message):
        DifferentialEvolution([(-5, 5)] * 4, budget=100, variant=variant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def half(:\n", r"SyntaxError: invalid syntax \(broken_variant.py, line 1\)"),
        ("raise RuntimeError('two\\nlines')\n", "RuntimeError: two lines"),
        ("import nothing_of_the_sort\n", "No module named 'nothing_of_the_sort'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("def __getattr__(name):\n    raise OSError('no network')\n", "OSError: no network"),
    ],
)
def test_whatever_happens_in_the_module_of_a_variant_is_one_line_that_names_it(text, said, tmp_path, monkeypatch):
    (tmp_path / "broken_variant.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"variant 'broken_variant:MINE' cannot be imported: {said}") as caught:
        DifferentialEvolution([(-5, 5)] * 4, budget=100, variant="broken_variant:MINE")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["jso", "rand/1/bin"])
@pytest.mark.parametrize("method", ["a variant", "an option"])
def test_a_variant_of_ones_own_has_no_name_of_a_built_in_one(name, method):
    other = Variant(name, "best/1", cr=0.1)
    given = {"method": other} if method == "a variant" else {"method": "de", "variant": other}
    with pytest.raises(UserError, match=f"'{name}' is the name of a built-in variant"):
        minimize(sphere, [(-5, 5)] * 4, budget=100, vectorized=True, **given)
    assert minimize(sphere, [(-5, 5)] * 4, budget=100, vectorized=True, method=VARIANTS[name]).variant == name


@pytest.mark.parametrize("name", ["auto", "de", "random", "cma"])
def test_a_variant_of_ones_own_has_no_name_of_a_method(name):
    with pytest.raises(UserError, match=f"'{name}' is the name of a method"):
        minimize(sphere, [(-5, 5)] * 4, budget=100, vectorized=True, method=Variant(name, "best/1"))


def test_a_variant_can_do_what_differential_evolution_can_whatever_its_name_and_place():
    assert capabilities_of(MINE) == capabilities_of(WHERE) == capabilities_of("de")
    place = "evoprompt.optim.de.papers.lsrtde:LSRTDE"
    assert capabilities_of(VARIANTS["lsrtde"]) == capabilities_of(place) == capabilities_of("lsrtde")
    assert capabilities_of("lsrtde") != capabilities_of("de")
    with pytest.raises(UserError, match="'random' is the name of a method"):
        capabilities_of(Variant("random"))


@pytest.mark.parametrize(
    ("given", "method", "variant"),
    [
        ({"method": "de"}, "de", "rand/1/bin"),
        ({"method": "de", "variant": "jso"}, "de", "jso"),
        ({"method": "jso"}, "jso", "jso"),
        ({"method": MINE}, "mine", "mine"),
        ({"method": WHERE}, WHERE, "mine"),
    ],
)
def test_a_result_says_which_variant_ran(given, method, variant):
    result = minimize(sphere, [(-5, 5)] * 4, budget=100, vectorized=True, **given)
    assert (result.method, result.variant) == (method, variant)
    assert f"(de {variant}: initial " in result.message


def test_a_result_without_a_variant_names_none():
    result = minimize(sphere, [(-5, 5)] * 4, budget=100, vectorized=True)
    assert "variant" not in result
    assert "(auto: opening " in result.message


class Wandering(SuccessHistory):
    """An adaptation with a generator of its own, which no state can hold."""

    rng: np.random.Generator

    def __init__(self, f, cr, memory, **_):
        super().__init__(f, cr, memory)
        self.rng = np.random.default_rng(0)


class Vague(SuccessHistory):
    """An adaptation whose annotation means nothing."""

    step: "Nowhere"  # noqa: F821


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": lambda d, budget: 5 * d}, "the size of variant 'mine' has no name to be saved by"),
        (
            {"adaptation": Wandering},
            r"'de' cannot be saved: state.*\['rng'\] is a Generator",
        ),
        ({"adaptation": Vague}, "'de' cannot be saved: name 'Nowhere' is not defined"),
    ],
)
def test_a_variant_that_cannot_be_saved_is_refused_before_a_run_with_checkpoints_evaluates_anything(
    change, said, tmp_path
):
    asked = []

    def counted(x):
        asked.append(len(x))
        return sphere(x)

    variant = replace(MINE, **change)
    with pytest.raises(UserError, match=said) as caught:
        minimize(
            counted, [(-5, 5)] * 4, budget=100, vectorized=True, method="de", variant=variant,
            checkpoint=tmp_path / "state",
        )  # fmt: skip
    assert len(str(caught.value).splitlines()) == 1
    assert not asked
    assert not (tmp_path / "state").exists()
