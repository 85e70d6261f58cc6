"""From answers to CORE: centered accuracies, intervals, and the paired comparison of two models."""

import json

import numpy as np
import pytest

from harness.errors import UserError
from harness.evaluate.core.result import paired, result
from harness.evaluate.core.score import Answer
from harness.evaluate.core.tasks import Example, Task


def task(label, n, v1, v2):
    return Task(label, "multiple_choice", 0, " ", v1, v2, (Example((("Q", "a"), ("Q", "b")), 0),) * n)


TASKS = [task("small", 40, 0.5, 0.5), task("large", 400, 0.4, 0.2)]


def answers(rights):
    """By label from strings of 0 and 1."""
    return {
        label: [Answer(i, (1.0, 2.0), int(r == "0"), r == "1") for i, r in enumerate(right)] for label, right in rights.items()
    }


def mixed(share, seed, n):
    return "".join("01"[int(x < share)] for x in np.random.default_rng(seed).random(n))


def test_core_is_the_plain_mean_of_centered_accuracies():
    found = result(TASKS, answers({"small": "1" * 30 + "0" * 10, "large": "1" * 280 + "0" * 120}))
    small, large = found["tasks"]
    assert (small["n"], small["correct"], small["accuracy"]) == (40, 30, 0.75)
    assert small["centered_v1"] == pytest.approx(0.5) and large["centered_v1"] == pytest.approx(0.5)
    assert large["centered_v2"] == pytest.approx(0.625)
    assert found["core_v1"] == pytest.approx(0.5) and found["core_v2"] == pytest.approx(0.5625)
    assert found["partial"] is None
    assert json.loads(json.dumps(found)) == found


def test_worse_than_guessing_is_negative():
    assert result(TASKS, answers({"small": "0" * 40, "large": "0" * 400}))["core_v1"] == pytest.approx((-1 - 2 / 3) / 2)


def test_intervals_are_those_of_drawing_examples_with_replacement_within_tasks():
    right = {"small": mixed(0.7, 1, 40), "large": mixed(0.55, 2, 400)}
    found = result(TASKS, answers(right))
    rng, centered = np.random.default_rng(3), []
    for one in TASKS:
        values = np.array([int(r) for r in right[one.label]])
        accuracy = rng.choice(values, size=(20_000, len(values))).mean(1)
        centered.append((accuracy - one.baseline_v1) / (1 - one.baseline_v1))
    step = [1 / n / (1 - b) for n, b in ((40, 0.5), (400, 0.4))]  # a task's percentiles lie on a lattice
    for interval, draws, near in (
        (found["tasks"][0]["interval"], centered[0], step[0]),
        (found["tasks"][1]["interval"], centered[1], step[1]),
        (found["interval_v1"], np.mean(centered, axis=0), step[0] / 2),
    ):
        assert interval == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=near + 1e-9)
    widths = [row["interval"][1] - row["interval"][0] for row in found["tasks"]]
    assert widths[0] > 2 * widths[1]


def test_the_same_answers_give_the_same_interval_in_any_order_of_tasks():
    right = answers({"small": mixed(0.7, 1, 40), "large": mixed(0.55, 2, 400)})
    forward, backward = result(TASKS, right), result(TASKS[::-1], right)
    assert forward["tasks"] == backward["tasks"][::-1]
    assert forward["interval_v1"] == pytest.approx(backward["interval_v1"], abs=1e-12)
    assert result(TASKS, right) == forward


def test_a_partial_score_says_so():
    found = result(TASKS, answers({"small": "1" * 40, "large": "1" * 50}), max_per_task=50)
    assert found["partial"] == "partial: the first 50 examples of each task at most"
    assert [row["n"] for row in found["tasks"]] == [40, 50]


@pytest.mark.parametrize("right", [{"small": "1" * 40}, {"small": "1" * 39, "large": "1" * 400}, {"small": "", "large": ""}])
def test_a_task_without_all_its_answers_is_an_error_never_a_zero(right):
    with pytest.raises(UserError, match="no CORE without all"):
        result(TASKS, answers(right))


def test_a_paired_bootstrap_tells_a_steady_difference_from_noise():
    right = {"small": mixed(0.6, 1, 40), "large": mixed(0.6, 2, 400)}
    better = {label: "".join("1" if i % 5 == 0 else r for i, r in enumerate(text)) for label, text in right.items()}
    other = {"small": mixed(0.6, 5, 40), "large": mixed(0.6, 6, 400)}
    a, b, c = (result(TASKS, answers(one)) for one in (right, better, other))
    ahead = paired(b, a)
    assert ahead["excludes_zero"] and ahead["interval"][0] > 0
    assert ahead["difference"] == pytest.approx(b["core_v1"] - a["core_v1"])
    behind = paired(a, b)
    assert behind["excludes_zero"] and behind["interval"][1] < 0
    assert not paired(c, a)["excludes_zero"]
    assert paired(a, a) == {"difference": 0.0, "interval": [0.0, 0.0], "excludes_zero": False}


def test_pairing_examples_narrows_the_interval():
    """Two models that are right on nearly the same examples differ by less than their separate intervals suggest."""
    right = {"small": mixed(0.6, 1, 40), "large": mixed(0.6, 2, 400)}
    better = {label: "1" * 3 + text[3:] for label, text in right.items()}
    a, b = (result(TASKS, answers(one)) for one in (right, better))
    low, high = paired(b, a)["interval"]
    assert high - low < (a["interval_v1"][1] - a["interval_v1"][0]) / 2


def test_results_of_other_examples_are_not_paired():
    whole = result(TASKS, answers({"small": "1" * 40, "large": "1" * 400}))
    part = result(TASKS, answers({"small": "1" * 40, "large": "1" * 50}), max_per_task=50)
    with pytest.raises(UserError, match="same examples"):
        paired(whole, part)
