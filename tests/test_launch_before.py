"""Steps of an earlier commit beside those of this tree, without a training process."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.launch import before as module
from harness.launch.checkout import Checkout, JobFailed
from harness.launch.worktree import Worktree

THERE = Path("/elsewhere")


@pytest.fixture
def asked(monkeypatch):
    """What was started, as (root, words); a step takes 0.3 s there and 0.2 s here, and only here there is a twin."""
    started = []

    def run(self, what, words, log):
        started.append((self.root, words))
        folder = Path(words[-1].removeprefix("out="))
        folder.mkdir(parents=True)
        rows = [{"name": "lane", "step_s": 0.3 if self.root == THERE else 0.2}]
        rows += [] if self.root == THERE else [{"name": "twin", "step_s": 0.1}]
        (folder / "steps.json").write_text(json.dumps({"rows": rows}))

    @contextmanager
    def worktree(ref):
        yield Worktree(THERE, "a" * 40)

    monkeypatch.setattr(Checkout, "run", run)
    monkeypatch.setattr(module, "worktree", worktree)
    return started


def test_both_sides_take_turns_and_the_ratio_is_told(asked, tmp_path):
    said = []
    found = module.before("old", ["lane=x"], 3, tmp_path, said.append)
    assert [root == THERE for root, _ in asked] == [True, False] * module.TURNS
    assert all(words[:4] == ["bench", "steps", "lane=x", "rounds=3"] for _, words in asked)
    (line,) = [line for line in said if line.startswith("lane")]
    assert line.split()[1:4] == ["300", "200", "1.50x"]
    assert not any(line.startswith("twin") for line in said)  # nothing to hold it against
    assert found["base"] == "a" * 40 and found["seconds"]["before"]["lane"] == [0.3] * module.TURNS


def test_a_commit_that_cannot_time_steps_is_refused_with_its_words(asked, tmp_path, monkeypatch):
    def run(self, what, words, log):
        raise JobFailed(what, 2, "unknown verb bench")

    monkeypatch.setattr(Checkout, "run", run)
    with pytest.raises(UserError, match="base=old.*unknown verb bench"):
        module.before("old", [], 3, tmp_path, print)
