"""No damaged file ends in a traceback: every verb works with what it finds or explains what is wrong with it.

DAMAGE_TRIALS=N tries that many; `tests/damage.py` does so by hand, with figures too.
"""

import os

import damage
import micro
import pytest
from micro import finished_fixture  # noqa: F401

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("DAMAGE_TRIALS", "60"))


@pytest.fixture(scope="module")
def stage(finished, tmp_path_factory):
    with damage.without_what_reads_nothing():
        yield damage.Stage(tmp_path_factory.mktemp("damage"), finished(), micro.left_at_12(tmp_path_factory))


def test_a_verb_works_with_a_damaged_file_or_explains_it(stage):
    faults = list(stage.trials(TRIALS, 1, lambda act: act.name != "resume"))
    assert not faults, "\n\n".join(faults[:5])


def test_a_run_resumes_over_a_damaged_file_or_says_why_not(stage):
    faults = list(stage.trials(max(2, TRIALS // 20), 1, lambda act: act.name == "resume"))
    assert not faults, "\n\n".join(faults[:5])


def test_every_verb_works_where_nothing_is_damaged(stage, monkeypatch):
    monkeypatch.setattr(damage, "damage", lambda path, chance: "not at all")
    for act in stage.acts:
        assert stage.trial(act, 1, signed=False) is None, act
        assert (stage.code == 2) == (act.name == "submit of a finished run"), act  # which is unranked
