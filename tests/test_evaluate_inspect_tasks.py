"""What `inspect` says of experts and tasks, against what was planted or counted by hand."""

import numpy as np
import pytest

from harness.data.draws import Draws
from harness.evaluate.inspect import routes, specialists
from harness.surprise import surprise


def test_what_is_told_of_each_label_has_the_information_as_its_mean():
    table_EZ = np.array([[[3, 1, 2], [1, 3, 0]], [[2, 0, 1], [0, 2, 1]]])
    weight_Z = table_EZ.sum(1) / table_EZ.sum((1, 2))[:, None]
    assert (weight_Z * surprise(table_EZ)).sum(-1) == pytest.approx(routes.information(table_EZ))
    by_hand = [0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75), np.log(1 / 0.75)]
    assert surprise(np.array([[1, 0], [1, 2]])) == pytest.approx(by_hand)


def of_tasks(kept, instances=60, tokens=20, tasks=3):
    """(experts, tasks, tokens' ids) of as many instances of each of three tasks: an expert of 8 a token, in a share `kept` of
    the tokens of task 0 that with the number 5, else any. Ids tell the task: those of a task are its own."""
    task_BS = np.repeat(np.arange(tasks), instances)[:, None].repeat(tokens, 1)
    draws = np.random.default_rng(11)
    own = (task_BS == 0) & (draws.random(task_BS.shape) < kept)
    token_BS = 4 * task_BS + draws.integers(4, size=task_BS.shape)
    return np.where(own, 5, draws.integers(8, size=task_BS.shape))[..., None], task_BS, token_BS


def test_the_task_that_has_an_expert_of_its_own_is_told_of_and_the_expert_is_said_to_be_for_it():
    expert_BSK, task_BS, _ = of_tasks(0.5)
    names, draws = ("a", "b", "c"), Draws(0, "test")
    rows = specialists.told_of_each(expert_BSK, task_BS, 8, names, draws, 3)
    assert [row["task"] for row in rows] == list(names) and rows[0]["beyond"] > 2 * max(rows[1]["beyond"], rows[2]["beyond"])
    assert rows[0]["above"] and rows[0]["chosen"] == np.bincount(expert_BSK[task_BS == 0].ravel(), minlength=8).tolist()
    experts = specialists.specialists(expert_BSK, task_BS, 8, names, 1)
    assert [row["expert"] for row in experts] == list(range(8)) and experts[5]["task"] == "a" and experts[5]["above"]
    assert experts[5]["share"][0] == pytest.approx(0.5 + 0.5 / 8, abs=0.03) and experts[5]["others"][0] < 0.2
    assert not any(row["above"] and row["task"] == "a" for row in experts if row["expert"] != 5)


def test_where_experts_are_drawn_at_random_no_task_is_told_of_and_no_expert_is_for_one():
    expert_BSK, task_BS, _ = of_tasks(0.0)
    rows = specialists.told_of_each(expert_BSK, task_BS, 8, ("a", "b", "c"), Draws(0, "test"), 3)
    assert not any(row["above"] for row in rows) and all(abs(row["beyond"]) < 0.01 for row in rows)
    assert not any(row["above"] for row in specialists.specialists(expert_BSK, task_BS, 8, ("a", "b", "c"), 1))


def test_the_error_of_what_is_told_of_tasks_is_of_their_instances_and_not_of_leaving_whole_tasks_out():
    expert_BSK, task_BS, _ = of_tasks(0.5)
    found = routes.told(expert_BSK, task_BS, 8, Draws(0, "test"), 1)
    assert found["above"] and found["interval"][1] - found["interval"][0] < 0.4 * found["information"]


def test_experts_that_follow_ids_tell_of_the_task_and_of_nothing_beyond_ids():
    expert_BSK, task_BS, token_BS = of_tasks(0.5)
    by_id = (token_BS % 8)[..., None]
    assert routes.told(by_id, task_BS, 8, Draws(0, "test"), 1)["above"]
    beyond = routes.told(by_id, task_BS, 8, Draws(0, "test"), 1, token_BS)
    assert not beyond["above"] and beyond["information"] == beyond["control"][0] == 0.0
    plain = routes.told(expert_BSK, task_BS, 8, Draws(0, "test"), 1)
    beyond = routes.told(expert_BSK, task_BS, 8, Draws(0, "test"), 1, token_BS % 4)  # ids that all tasks have
    assert beyond["above"] and beyond["information"] == pytest.approx(plain["information"], abs=0.02)
    assert beyond["most"] == pytest.approx(np.log(3), abs=0.01)


def test_what_is_told_beyond_another_is_counted_by_hand():
    """Of two values of a third, in the first of which expert and label are one, and in the second independent."""
    table_EZV = np.zeros((2, 2, 2), int)
    table_EZV[..., 0], table_EZV[..., 1] = [[2, 0], [0, 2]], [[1, 1], [1, 1]]
    assert routes.conditional(table_EZV) == pytest.approx(0.5 * np.log(2))
