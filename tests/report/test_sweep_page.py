"""What the page of a sweep warns of, and what it says that the runs were made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from evoprompt.optim import make_optimizer
from evoprompt.report.sweep import write_sweep
from evoprompt.report.sweep_rows import read_sweep
from evoprompt.study.run_info import optimizer_info

WriteRun = Callable[..., Path]


@pytest.fixture
def page(write_run: WriteRun, metrics: dict[str, Any], tmp_path: Path) -> Callable[..., str]:
    """The page of runs that differ in their seeds, and as `change` (by seed) has it; config by seed, too."""

    def written(count: int, change: Callable[[int], Any] = lambda seed: None, config: str = "") -> str:
        for seed in range(count):
            metrics["seed"] = seed
            change(seed)
            write_run(tmp_path / f"seed{seed}", config=f"{config}seed: {seed}\n")
        return write_sweep(tmp_path).read_text(encoding="utf-8")

    return written


def test_every_warning_of_a_run_is_on_the_page_of_a_sweep(metrics: dict[str, Any], page: Callable[..., str]) -> None:
    metrics["model"] = "pocket"
    metrics["cost"]["perplexity_ratio"] = 2.0
    metrics["target"]["mas"] = None
    metrics["arms"]["evolved"]["held_out"]["loss"] = 16.0  # 10 points on searched wordings
    metrics["arms"]["evolved"]["held_out"]["label_shares"]["A"] = 0.5
    text = page(12)
    for title in (
        "Made with the pocket model",
        "The prompt harms the model's text",
        "The gain does not carry over to new wordings",
        "The prompt pushes an option label",
        "The target is incomplete",
    ):
        assert text.count(f"<strong>{Markup.escape(title)}.</strong>") == 1
    warned = text[text.index('class="cautions"') : text.index("</aside>")]
    assert "of 12 runs" not in warned, "what holds of all alike needs no count"
    assert "One run, one seed" not in text
    assert "One seed." not in warned


def test_a_warning_of_some_runs_says_how_many_and_which(metrics: dict[str, Any], page: Callable[..., str]) -> None:
    def costly(seed: int) -> None:
        metrics["cost"]["perplexity_ratio"] = (1.5, 1.1, 1.3, 1.5)[seed]

    text = page(4, costly)
    assert "<strong>The prompt harms the model&#39;s text.</strong> In 3 of 4 runs." in text
    assert "<li>seed0, seed3: Perplexity on neutral text rose by 50% (more than 20%).</li>" in text
    assert "<li>seed2: Perplexity on neutral text rose by 30% (more than 20%).</li>" in text


def test_a_warning_of_all_runs_that_reads_differently_in_each_says_so(
    metrics: dict[str, Any], page: Callable[..., str]
) -> None:
    def costly(seed: int) -> None:
        metrics["cost"]["perplexity_ratio"] = (1.5, 1.3)[seed]

    assert "<strong>The prompt harms the model&#39;s text.</strong> In all 2 runs." in page(2, costly)


def test_a_missing_target_of_one_run_is_said_with_its_name(metrics: dict[str, Any], page: Callable[..., str]) -> None:
    def incomplete(seed: int) -> None:
        metrics["target"]["ivr"] = 34.0 if seed else None

    text = page(3, incomplete)
    said = text[text.index("The target is incomplete") :]
    assert said.startswith("The target is incomplete.</strong> In 1 of 3 runs. No target score for Indulgence")
    assert "<summary>Which</summary><ul><li>seed0</li></ul>" in said


def test_the_page_says_which_share_of_all_evaluations_each_stage_took(
    metrics: dict[str, Any], page: Callable[..., str]
) -> None:
    def searched(seed: int) -> None:
        metrics["optimizer"] = {"name": "auto", "stages": {"opening": 10 + 20 * seed, "de": 30 - 20 * seed}}

    assert "optimizer auto (opening 50%, de 50%)" in page(2, searched)


def test_variants_are_methods_of_their_own_however_they_were_chosen(
    write_run: WriteRun, metrics: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from evoprompt.optim import Variant\nMINE = Variant('mine', 'best/1')\n"
    (tmp_path / "own_variant.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    chosen: dict[str, dict[str, Any]] = {name: {"name": name} for name in ("shade", "lshade", "jso")}
    chosen["mine"] = {"name": "de", "variant": "own_variant:MINE"}
    for folder, options in chosen.items():
        given = {key: value for key, value in options.items() if key != "name"}
        optimizer = make_optimizer(options["name"], bounds=[(0, 1)] * 2, budget=8, seed=0, **given)
        metrics["optimizer"] = optimizer_info(optimizer, options)
        for seed in (0, 1):
            metrics["seed"] = seed
            write_run(tmp_path / "runs" / f"{folder}{seed}", config=f"optimizer: {json.dumps(options)}\n")
    rows, _ = read_sweep(tmp_path / "runs")
    assert {row.folder: row.method[1] for row in rows} == {
        f"{folder}{seed}": ("de", f"variant={options.get('variant', folder)}")
        for folder, options in chosen.items()
        for seed in (0, 1)
    }
    page = unescape(write_sweep(tmp_path / "runs").read_text(encoding="utf-8"))
    assert all(f"variant={name}" in page for name in ("shade", "lshade", "jso", "own_variant:MINE"))


def test_runs_with_nothing_to_warn_of_have_no_box_of_warnings(page: Callable[..., str]) -> None:
    assert 'class="cautions"' not in page(2)


def test_one_seed_of_everything_is_warned_of(page: Callable[..., str]) -> None:
    assert "<strong>One seed.</strong> Every culture and method was run once" in page(1)


def test_what_a_run_noted_is_among_the_warnings_of_its_sweep(page: Callable[..., str], tmp_path: Path) -> None:
    page(2)
    record = json.loads((tmp_path / "seed1/run.json").read_text(encoding="utf-8"))
    (tmp_path / "seed1/run.json").write_text(json.dumps({**record, "notes": ["the <i>start</i> was elsewhere"]}))
    text = write_sweep(tmp_path).read_text(encoding="utf-8")
    noted = "<strong>Noted by the run.</strong> In 1 of 2 runs. The &lt;i&gt;start&lt;/i&gt; was elsewhere."
    assert noted in text


def test_configuration_and_versions_are_told_once_with_what_differs(page: Callable[..., str], tmp_path: Path) -> None:
    page(3, config="survey: {anchors: [japan], wording_file: null, 'a<b>': c}\nspace: {init_text: 'Answer:'}\n")
    record = json.loads((tmp_path / "seed2/run.json").read_text(encoding="utf-8"))
    record["versions"]["numpy"] = "2.4.0"
    (tmp_path / "seed2/run.json").write_text(json.dumps(record), encoding="utf-8")
    text = write_sweep(tmp_path).read_text(encoding="utf-8")
    section = text[text.index('<h2 id="configuration">') :]
    shared = unescape(section[section.index("<pre>") + 5 : section.index("</pre>")]).splitlines()
    assert shared == [
        "budget: 40",
        'survey.anchors: ["japan"]',
        "survey.wording_file: null",
        "survey.a<b>: c",
        "space.init_text: Answer:",
    ]
    assert "a<b>" not in section
    differing = section[: section.index("<pre>")]
    assert '<th scope="row">versions.numpy</th><td>2.3.5 <small>×\u202f2</small>, 2.4.0' in differing
    assert '<th scope="row">seed</th><td>0 <small>' in differing
    assert '<th scope="row">versions.python</th><td>3.11.7</td>' in section
    assert '<th scope="row">model.fingerprint</th><td>f00d</td>' in section


def test_many_keys_are_folded_and_many_values_counted(page: Callable[..., str]) -> None:
    text = page(14, config=f"survey: {{{', '.join(f'key{number}: {number}' for number in range(20))}}}\n")
    assert "<summary>config.yaml: what all 14 runs share (21 keys)</summary>" in text
    assert ", and 2 more</td>" in text


def test_a_run_without_a_readable_record_is_skipped_and_one_without_any_is_not(
    page: Callable[..., str], tmp_path: Path
) -> None:
    page(3)
    (tmp_path / "seed0/run.json").write_text("{ not this", encoding="utf-8")
    (tmp_path / "seed1/run.json").unlink()
    text = write_sweep(tmp_path).read_text(encoding="utf-8")
    assert "<h1>2 runs</h1>" in text
    assert f"cannot read {tmp_path / 'seed0/run.json'}" in text
    assert "not set <small>×\u202f1</small>" in text
