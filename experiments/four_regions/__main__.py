"""The main command over four cultures and five seeds: `python -m experiments.four_regions`.

Every run is the command with its defaults, in a process of its own. Finished runs are kept, so the script can be
interrupted and started again. Writes `results.csv` and `table.md` beside itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from evoprompt.llm import ModelSpec, load_model

CULTURES = ("arab", "usa", "china", "india")
ARMS = ("naive", "persona", "icl", "evolved")
UNNAMED = ("arab", "india")  # never in a persona line of the pocket model's training text
HERE = Path(__file__).parent
CONF = HERE.parents[1] / "conf"


def method(overrides: list[str]) -> str:
    """A short name for model weights, defaults and overrides: runs of another method are never mixed in."""
    digest = hashlib.sha256(load_model(ModelSpec(device="cpu")).fingerprint.encode())
    for path in sorted(CONF.rglob("*.yaml")):
        digest.update(path.read_bytes())
    digest.update(" ".join(overrides).encode())
    return digest.hexdigest()[:10]


def run_all(folder: Path, cultures: list[str], seeds: list[int], overrides: list[str]) -> None:
    """Run what is not finished yet."""
    for culture in cultures:
        for seed in seeds:
            target = folder / f"{culture}-{seed}"
            if (target / "metrics.json").exists():
                continue
            fresh = [f"+culture={culture}", f"seed={seed}", f"hydra.run.dir={target}", *overrides]
            arguments = [f"resume={target}"] if (target / "config.yaml").exists() else fresh
            subprocess.run([sys.executable, "-m", "evoprompt.run", *arguments], check=True)


def results(folder: Path, cultures: list[str], seeds: list[int]) -> pd.DataFrame:
    """A row per run, in points of loss."""
    rows: list[dict[str, Any]] = []
    for path in [folder / f"{culture}-{seed}" / "metrics.json" for culture in cultures for seed in seeds]:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        row = {"culture": metrics["culture"], "seed": metrics["seed"]}
        for split in ("searched", "held_out"):
            row |= {f"{arm} {split}": metrics["arms"][arm][split]["loss"] for arm in ARMS}
        rows.append(row | {"perplexity ratio": metrics["cost"]["perplexity_ratio"], "kl": metrics["cost"]["kl"]})
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame) -> str:
    """The README's table: held-out losses by culture; the evolved prompt's over its seeds."""
    lines = [
        "| culture | naive | persona | ICL | evolved, mean | evolved, worst seed | evolved, searched | perplexity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for culture, part in frame.groupby("culture", sort=False):
        baselines = " | ".join(f"{part[f'{arm} held_out'].mean():.1f}" for arm in ARMS[:3])
        evolved = part["evolved held_out"]
        lines.append(
            f"| {culture} | {baselines} | **{evolved.mean():.1f}** | {evolved.max():.1f} | "
            f"{part['evolved searched'].mean():.1f} | x{part['perplexity ratio'].mean():.2f} |"
        )
    return "\n".join(lines)


def claims(frame: pd.DataFrame) -> list[str]:
    """What the runs say, claim by claim."""
    held_out = {arm: frame[f"{arm} held_out"] for arm in ARMS}
    below = int((held_out["evolved"] < held_out["naive"]).sum())
    found = [
        f"evolved below naive on held-out wordings in {below} of {len(frame)} runs",
        f"mean held-out loss: evolved {held_out['evolved'].mean():.2f}, naive {held_out['naive'].mean():.2f}, "
        f"ratio {held_out['evolved'].mean() / held_out['naive'].mean():.2f}",
    ]
    for culture, part in frame.groupby("culture", sort=False):
        wins = [int((part["evolved held_out"] < part[f"{arm} held_out"]).sum()) for arm in ("persona", "icl")]
        kind = "never named in training" if culture in UNNAMED else "named in training"
        found.append(f"{culture} ({kind}): below persona in {wins[0]}, below ICL in {wins[1]} of {len(part)} runs")
    return found


def main() -> None:
    """Run, gather, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/four_regions"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.csv and table.md go")
    parser.add_argument("--cultures", nargs="+", default=list(CULTURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("overrides", nargs="*", help="further overrides, such as budget=400")
    args = parser.parse_args()
    folder = args.folder / method(args.overrides)
    run_all(folder, args.cultures, args.seeds, args.overrides)
    frame = results(folder, args.cultures, args.seeds)
    frame.round(4).to_csv(args.out / "results.csv", index=False)
    text = "\n".join([table(frame), "", *(f"- {claim}" for claim in claims(frame)), ""])
    (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
