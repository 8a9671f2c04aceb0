import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parallel_objectives import Raises, evaluate, first_coordinate, numbered_trials

import evoprompt.parallel
from evoprompt.errors import UserError
from evoprompt.parallel import LocalEvaluator, choose_executor

CHECKOUT = Path(evoprompt.parallel.__file__).parents[2]


def test_micro_batches_come_in_order_and_a_second_submission_starts_a_new_one() -> None:
    evaluator = LocalEvaluator(first_coordinate, batch_size=3)
    evaluator.submit(numbered_trials(4))
    evaluator.submit(numbered_trials(2, first_id=4))
    assert [trials.ids.tolist() for trials, _ in evaluator.collect()] == [[0, 1, 2], [3], [4, 5]]
    assert list(evaluator.collect()) == []


def test_a_timeout_leaves_the_rest_queued_but_always_makes_progress() -> None:
    evaluator = LocalEvaluator(first_coordinate, batch_size=1)
    evaluator.submit(numbered_trials(3))
    seen = []
    for _ in range(3):
        seen += [part.ids.tolist() for part, _ in evaluator.collect(timeout=0)]
    assert seen == [[0], [1], [2]]


def test_an_interrupted_micro_batch_stays_queued() -> None:
    interrupts = [KeyboardInterrupt()]

    def objective(x: np.ndarray) -> np.ndarray:
        if interrupts:
            raise interrupts.pop()
        return x[:, 0]

    evaluator = LocalEvaluator(objective, batch_size=2)
    evaluator.submit(numbered_trials(4))
    with pytest.raises(KeyboardInterrupt):
        list(evaluator.collect())
    assert [part.ids.tolist() for part, _ in evaluator.collect()] == [[0, 1], [2, 3]]


def test_the_text_of_an_exception_is_kept() -> None:
    with LocalEvaluator(Raises()(), batch_size=4) as evaluator:
        assert evaluator.last_error is None
        losses = evaluate(evaluator, numbered_trials(8)).loss
        assert "candidate four" in str(evaluator.last_error)
    np.testing.assert_array_equal(losses, [0, 1, 2, 3, np.nan, 5, np.nan, np.inf])
    with pytest.raises(RuntimeError, match="closed"):
        evaluator.submit(numbered_trials(1))


def test_the_number_of_torch_threads_holds_for_the_evaluation_only() -> None:
    import torch

    seen = []

    def objective(x: np.ndarray) -> np.ndarray:
        seen.append(torch.get_num_threads())
        return x[:, 0]

    before = torch.get_num_threads()
    evaluate(LocalEvaluator(objective, batch_size=2, threads=before + 1), numbered_trials(2))
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
    with pytest.raises(ValueError, match=r"threads.*0"):
        LocalEvaluator(objective, batch_size=2, threads=0)


def test_auto_takes_ray_only_for_several_workers_several_gpus_or_an_address() -> None:
    assert choose_executor("auto", num_workers=1, gpus=1) == "local"
    assert choose_executor("auto", num_workers=2) == "ray"
    assert choose_executor("auto", gpus=2) == "ray"
    assert choose_executor("auto", address="auto") == "ray"
    assert choose_executor("local", num_workers=8, gpus=8) == "local"
    assert choose_executor("ray") == "ray"
    with pytest.raises(UserError, match="unknown executor 'rya'; did you mean ray"):
        choose_executor("rya")


def test_importing_the_room_imports_neither_ray_nor_torch() -> None:
    code = "import sys, evoprompt.parallel; print([m for m in ('ray', 'torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.strip() == "[]"
