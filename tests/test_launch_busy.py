"""A step beside programs that want the cores."""

import json

import micro
import pytest

from harness.launch import busy
from harness.train.determinism import SPINS


@pytest.mark.process
def test_as_many_programs_spin_as_are_asked_for_and_none_afterwards():
    with busy.competing(2) as programs:
        assert len(programs) == 2 and all(program.is_alive() for program in programs)
    assert not any(program.is_alive() for program in programs)


def test_steps_are_timed_one_by_one():
    assert len(busy.beside(0, micro.session())) == busy.STEPS


def test_every_way_of_waiting_has_a_process_of_its_own_each_round(monkeypatch):
    asked, said = [], []

    def run(words, environment, **rest):
        asked.append((words, environment["GOMP_SPINCOUNT"]))
        alone = 0.2 if environment["GOMP_SPINCOUNT"] == SPINS else 0.1
        return busy.child.Ended(0, json.dumps({"threads": 2, "seconds": {"0": [alone], "1": [0.4], "2": [1.5]}}))

    monkeypatch.setattr(busy.child, "run", run)
    found = busy.busy(["lane=tiny-dense"], 2, said.append)
    assert asked == 2 * [(["lane=tiny-dense"], way) for way in busy.WAYS]
    assert found["seconds"][SPINS] == {"0": [0.2, 0.2], "1": [0.4, 0.4], "2": [1.5, 1.5]}
    lines = said[0].splitlines()
    assert f"| {SPINS} | 200 | 400 | 1,500 |" in lines and lines[-1] == "| fair share | 200 | 300 | 400 |"
