"""Worker processes: a crash or a hang costs one result."""

import os
import time
from dataclasses import dataclass, replace

from benchmarks import workers


@dataclass(frozen=True)
class Letters:
    """ "x" kills its process, "z" hangs, other letters are results."""

    text: str

    def results(self):
        for letter in self.text:
            if letter == "x":
                os._exit(7)
            if letter == "z":
                time.sleep(60)
            yield letter

    def after(self, done, reason):
        rest = self.text[done + 1 :]
        return f"{self.text[done]}: {reason}", replace(self, text=rest) if rest else None


def run(texts, jobs=2, limit=30.0):
    found = []
    workers.run([Letters(text) for text in texts], jobs, found.append, limit)
    return sorted(found)


def test_every_result_comes_once():
    assert run(["ab", "cd", "e"]) == ["a", "b", "c", "d", "e"]


def test_a_process_that_dies_costs_the_one_result_it_was_making():
    assert run(["abxcd", "e"]) == ["a", "b", "c", "d", "e", "x: the process died with code 7"]


def test_a_process_that_hangs_is_killed():
    assert run(["azb"], limit=3.0) == ["a", "b", "z: took more than 3 s"]
