"""Which keys move the hash of a plan."""

import copy
from dataclasses import asdict

import pytest
import yaml

from harness.plan.compose import compose
from harness.plan.fingerprint import differences, lane_hash, plan_hash, recipe_hash, to_yaml
from harness.plan.schema import RENAMED, UNHASHED, Line, walk

PLAN = compose(["lane=tiny-moe-16e"]).plan
LEAVES = [key for key, _ in walk()]


def changed(plan, key):
    """A copy of the plan with another value of the same type at `key`."""
    out = copy.deepcopy(plan)
    *sections, leaf = key.split(".")
    node = out
    for section in sections:
        node = getattr(node, section)
    value = getattr(node, leaf)
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, (int, float)):
        value = value + 1
    elif isinstance(value, list):
        value = [*value, 7]
    elif isinstance(value, dict):
        value = value | {"new": Line("new", 1.0, 2.0)}
    else:
        value = f"{value}x"
    setattr(node, leaf, value)
    return out


@pytest.mark.parametrize("key", [key for key in LEAVES if key not in UNHASHED])
def test_every_hashed_key_moves_the_plan_hash(key):
    assert plan_hash(changed(PLAN, key)) != plan_hash(PLAN)


@pytest.mark.parametrize("key", sorted(UNHASHED - RENAMED.keys()))
def test_no_unhashed_key_moves_the_plan_hash(key):
    assert plan_hash(changed(PLAN, key)) == plan_hash(PLAN)


@pytest.mark.parametrize("line", ["label", "slice", "val"])
def test_the_lines_of_a_track_are_hashed(line):
    other = copy.deepcopy(PLAN)
    setattr(other.track.lines["ngram7"], line, "9" if line == "label" else 9.0)
    assert plan_hash(other) != plan_hash(PLAN)


def test_how_a_value_is_written_does_not_matter():
    words = [["optim.muon.lr=2e-2"], ["++optim.muon.lr='0.020'", "optim=muon"], []]
    assert {plan_hash(compose(w).plan) for w in words} == {plan_hash(PLAN)}


def test_lanes_have_different_hashes():
    lanes = [compose([f"lane={lane}"]).plan for lane in ("tiny-dense", "tiny-moe-16e", "sotu-dense", "sotu-moe-16e")]
    assert len({plan_hash(plan) for plan in lanes}) == len({lane_hash(plan) for plan in lanes}) == 4


def test_keys_that_joined_later_leave_the_hashes_of_the_byte_lanes_as_their_records_state_them():
    pinned = {
        "tiny-dense": "18493b885a8d764b21dd179665b9fbce0699eca1a7092a29f2fa4d845499accc",
        "tiny-moe-16e": "ef0b421a388d527e6e1b97277717c7c075f54d56325df2f60f5ee771839eadd5",
        "sotu-dense": "dfb6e0e0d8e43da731a4fcd3ff5f37fa64d40f3f0a7b9bc9a8ba175cd9db3219",
        "sotu-moe-16e": "57646e82478331c85afa3d49fb341b5d008a553f44137e316e4b4667453515cf",
    }
    assert {lane: plan_hash(compose([f"lane={lane}"]).plan) for lane in pinned} == pinned


def test_recipe_hash_covers_the_chosen_files_and_the_command_line():
    words = [[], ["optim=adamw"], ["optim.muon.lr=0.5"], ["optim.muon.lr=0.25"]]
    assert len({recipe_hash(compose(w)) for w in words}) == len(words)


def test_recipe_hash_ignores_the_seed_and_the_folder():
    words = [[], ["seed=3", "run.folder=elsewhere", "unranked=true"]]
    assert len({recipe_hash(compose(w)) for w in words}) == 1


def test_a_plan_written_as_yaml_reads_back_without_differences():
    stored = yaml.safe_load(to_yaml(PLAN))
    assert stored == {section: keys for section, keys in asdict(PLAN).items() if keys != {}}
    assert differences(PLAN, stored) == []


def test_differences_name_the_key_with_both_values_and_skip_unhashed_ones():
    theirs = yaml.safe_load(to_yaml(PLAN))
    theirs["optim"]["muon"]["lr"] = 0.5
    theirs["seed"], theirs["run"]["folder"] = 99, "elsewhere"
    theirs["model"]["gone"] = 3
    del theirs["schedule"]["decay_share"]
    assert differences(PLAN, theirs) == [
        "model.gone: 3 -> (absent)",
        "optim.muon.lr: 0.5 -> 0.02",
        "schedule.decay_share: (absent) -> 0.4",
    ]
