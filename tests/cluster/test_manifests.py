"""The recipes for `ray up` and KubeRay: fields that exist, versions that agree, commands that the program takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from evoprompt.commands.check import read

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "experiments" / "cluster"
CLUSTERS = ("aws", "on_premise")
POD = {"containers", "volumes"}
KUBERAY = {  # of ray.io/v1, as KubeRay 1.5.1 documents them
    "RayJob": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"},
    "rayClusterSpec": {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "container": {"name", "image", "env", "resources", "volumeMounts"},
}


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_takes_the_cluster(name: str) -> None:
    config = prepare_config(read_yaml(name))
    validate_config(config)
    assert config["max_workers"] >= 2
    assert any("RAY_AUTH_MODE" in line for line in (*config["setup_commands"], *config["head_start_ray_commands"]))
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_job_has_the_fields_that_kuberay_knows() -> None:
    job = read_yaml("rayjob")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    pods = [group["template"]["spec"] for group in (head, workers)]
    parts = {"RayJob": [job], "spec": [job["spec"]], "rayClusterSpec": [cluster], "headGroupSpec": [head]}
    parts |= {"workerGroupSpecs": [workers], "container": [one for pod in pods for one in pod["containers"]]}
    for name, found in parts.items():
        assert all(set(part) == KUBERAY[name] for part in found), name
    assert all(set(pod) == POD for pod in pods)
    assert all(isinstance(value, str) for value in head["rayStartParams"].values())
    claims = {volume["name"] for pod in pods for volume in pod["volumes"]}
    assert claims == {mount["name"] for pod in pods for one in pod["containers"] for mount in one["volumeMounts"]}


def test_the_driver_of_the_job_has_the_workers_device_to_itself() -> None:
    cluster = read_yaml("rayjob")["spec"]["rayClusterSpec"]
    head, worker = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in (head, worker)]
    assert limits[0]["nvidia.com/gpu"] == limits[1]["nvidia.com/gpu"] == "1"
    assert head["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}


def test_all_recipes_name_the_version_of_ray_that_is_pinned() -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    for name in (*CLUSTERS, "rayjob"):
        text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
        assert set(re.findall(r"rayproject/ray:([\d.]+)-", text)) <= {pinned}
    assert read_yaml("rayjob")["spec"]["rayClusterSpec"]["rayVersion"] == pinned


def test_every_command_of_a_recipe_is_one_that_the_program_takes() -> None:
    texts = [path.read_text(encoding="utf-8").replace("\n#", "\n") for path in sorted(RECIPES.iterdir())]
    entrypoint = read_yaml("rayjob")["spec"]["entrypoint"]
    commands = [line for text in (*texts, entrypoint) for line in re.findall(r"evoprompt\.run (\S.*)", text)]
    commands += re.findall(r"slurm\.sh (\+.*)", texts[-1])
    given = [re.sub(r"\s{2,}#.*", "", line) for line in commands if "+culture" in line]
    assert len(given) >= 4
    for line in given:
        assert read(line.split()).settings.budget > 0
