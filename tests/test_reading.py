"""What a file is refused for, and in which words: file, place, value found, value expected, and what to do."""

import json
import math
import os

import pytest
from micro import python
from report_factory import edit_record, write_run

from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import differences, plan_hash, stored_plan_hash, to_yaml
from harness.plan.stored import read_plan, read_stored_plan, settings, words_of
from harness.reading import read_bytes, read_json, read_yaml
from harness.record.documents import Identity
from harness.record.read import read_claim, read_identity, read_record, read_rows
from harness.values import Model, Number

WHO = {"plan_hash": "ab" * 32, "seed": 1, "hardware_class": "here"}


class Two(Model):
    a: Number
    b: Number


def said(read) -> str:
    with pytest.raises(UserError) as error:
        read()
    assert error.value.remedy
    return error.value.problem


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "1-plan", steps=32, validations=(16,))


def change_rows(folder, kind, **changes):
    """Of the first row of a kind."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    next(row for row in rows if row["kind"] == kind).update(changes)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "is a link to a file that does not exist"),
        (lambda path: os.mkfifo(path), "it is no regular file"),
    ],
)
def test_a_file_that_cannot_be_opened_is_told_apart_from_a_damaged_one(tmp_path, make, words):
    path = tmp_path / "record.json"
    make(path)
    told = said(lambda: read_bytes(path))
    assert str(path) in told and words in told and "corrupt" not in told


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "x").write_bytes(bytes(11))
    assert "has 11 bytes, at most 10 are read" in said(lambda: read_bytes(tmp_path / "x", most=10))


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"a": "\\ud800"}', "\xff", '{"a": ' + "9" * 5000 + "}", "[]", "5", "null"]
)
def test_what_is_no_json_object_is_truncated_or_corrupt(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    assert "x.json is truncated or corrupt" in said(lambda: read_json(tmp_path / "x.json", Two))


@pytest.mark.parametrize(
    "text, words",
    [
        ("{" * 50_000, "nested"), ("a: &a [*a]", "nested"), ("a: !!python/object:os.system {}", "tag"), ("a: !!bool x", "tag"),
        ("a: 2001-01-01", "put it in quotes"), ("1: 2", "the key 1 is no text"), ('a: "\\ud800"', "corrupt"),
        ("a: [", "corrupt"), ("", "it is empty"), ("- 1", "is no mapping"), ("\xff", "corrupt"),
        ("a: " + "9" * 5000, "corrupt"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"b{i}: &b{i} [{','.join([f'*b{i - 1}' if i else '*a'] * 10)}]\n"
                                                 for i in range(9)), "more than"),
    ],
)  # fmt: skip
def test_yaml_that_json_could_not_hold_is_refused(tmp_path, text, words):
    (tmp_path / "x.yaml").write_bytes(text.encode("latin-1"))
    assert words in said(lambda: read_yaml(tmp_path / "x.yaml", Two))


def test_yaml_that_is_nested_without_end_does_not_take_the_process_with_it(folder):
    """The parser of libyaml ends with a segmentation fault where Python would raise an error."""
    (folder / "plan.yaml").write_text("? " * 200_000)
    done = python("import sys; from harness.__main__ import main; sys.exit(main(sys.argv[1:]))", "doctor", str(folder))
    assert done.returncode == 2 and "plan.yaml is truncated or corrupt (nested" in done.stderr


def test_a_fault_names_place_value_and_what_was_expected_and_the_first_three_of_many_are_told(tmp_path):
    (tmp_path / "x.json").write_text('{"b": "1.5"}')
    assert "x.json is corrupt: a is missing; b is '1.5', expected a finite number" in said(
        lambda: read_json(tmp_path / "x.json", Two)
    )
    (tmp_path / "identity.json").write_text("{}")
    assert "plan_hash is missing; seed is missing; hardware_class is missing" in said(lambda: read_identity(tmp_path))
    (tmp_path / "claim.json").write_text('{"schema_version": 1}')
    assert said(lambda: read_claim(tmp_path / "claim.json")).endswith("plan_hash is missing; and 8 more")


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("seed", True, "seed is True, expected a whole number"),
        ("seed", 10**400, "seed is 100000000000"),
        ("ranked", 1, "ranked is 1, expected true or false"),
        ("metrics__mfu", 10**400, "metrics.mfu is 1000000000000000000"),
        ("metrics__val_bpb", 0, "metrics.val_bpb is 0, expected a finite number above 0"),
        ("metrics__tokens", -1, "metrics.tokens is -1, expected a whole number of 1 or more"),
        ("lane", "../x", "lane is '../x', expected a name"),
        ("lane", None, "lane is None, expected a name"),
        ("hardware_class", "\x1b[2J", "text that is not empty"),
        ("router_health__layers", [], "router_health.layers is empty"),
        ("metrics__target", {"line": "x"}, "metrics.target: it states 0 of slice_bpb, slice_loss, expected one"),
        ("clock__new_s", "x", "clock.new_s is 'x', expected a finite number"),
        ("evaluations", {"core": {"core_v1": 0.1}}, "evaluations: core.protocol is missing"),
    ],
)
def test_a_field_of_the_record_with_another_type_or_an_impossible_value_is_named(folder, key, value, words):
    edit_record(folder, **{key: value})
    told = said(lambda: read_record(folder))
    assert "record.json is corrupt: " in told and words in told


@pytest.mark.parametrize("text", ["1e400", "NaN", "-Infinity"])
def test_a_number_of_the_record_is_finite(folder, text):
    path = folder / "record.json"
    path.write_text(path.read_text().replace('"mfu":', f'"mfu": {text}, "was":', 1))
    assert "metrics.mfu is" in said(lambda: read_record(folder))


def test_fields_that_a_newer_harness_writes_are_allowed_and_handed_on(folder):
    edit_record(folder, metrics__new={"x": [1]}, new=5)
    change_rows(folder, "window", new="x")
    assert read_record(folder).metrics.content()["new"] == {"x": [1]} and read_record(folder).content()["new"] == 5
    assert read_rows(folder / "metrics.jsonl")["window"][0]["new"] == "x"


@pytest.mark.parametrize(
    "kind, changes, words",
    [
        ("step", {"loss": None}, "line 1: loss is None, expected a finite number"),
        ("step", {"loss": math.nan}, "line 1: loss is nan, expected a finite number"),
        ("window", {"counts": [[1.5]]}, "line 17: counts[0][0] is 1.5, expected a whole number of 0 or more"),
        ("window", {"groups": {"dense": {}}}, "line 17: groups.dense.grad_rms is missing"),
        ("window", {"chain": 5}, "line 17: chain is 5, expected a hash"),
        ("window", {"precision": {"flips": {"x": {}}}}, "precision.flips.x as a key is 'x', expected a whole"),
        ("validation", {"slice_bpb": "1"}, "line 18: slice_bpb is '1', expected a finite number above 0"),
        ("final", {"targets": 0}, "targets is 0, expected a whole number of 1 or more"),
    ],
)  # fmt: skip
def test_a_value_of_a_row_is_named_with_its_line(folder, kind, changes, words):
    change_rows(folder, kind, **changes)
    assert words in said(lambda: read_rows(folder / "metrics.jsonl"))


def test_what_training_saw_may_be_infinite_or_no_number(folder):
    change_rows(folder, "step", grad_norm=math.inf)
    change_rows(folder, "window", groups={"dense": {"grad_rms": math.nan, "update_rms": 0, "param_rms": math.inf}})
    assert read_rows(folder / "metrics.jsonl")["step"][0]["grad_norm"] == math.inf


def test_rows_of_each_kind_rise_in_step(folder):
    change_rows(folder, "validation", step=40)
    assert "its validation rows are not in step order" in said(lambda: read_rows(folder / "metrics.jsonl"))


def test_the_last_line_of_a_run_that_goes_on_may_be_half_written(folder):
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(read_rows(path, ended=False)["step"]) == 32 and not read_rows(path, ended=False)["final"]
    assert "its last line is cut off" in said(lambda: read_rows(path))


def test_a_plan_comes_back_as_it_was_composed(tmp_path):
    for lane in ("tiny-moe-16e-nvfp4", "wiki-s-moe-64e"):
        plan = compose([f"lane={lane}", "optim.muon.lr=1", "unranked=true", "validation.steps=[1,2]"]).plan
        (tmp_path / "plan.yaml").write_text(to_yaml(plan))
        assert read_plan(tmp_path / "plan.yaml") == plan


def test_a_plan_of_before_a_key_had_its_name_is_read_with_that_key_and_has_the_hash_it_had(tmp_path):
    plan = compose(["lane=tiny-dense", "run.mlflow=off"]).plan
    (tmp_path / "plan.yaml").write_text(to_yaml(plan).replace("  mlflow: 'off'\n", "  track: 'off'\n"))
    stored = read_stored_plan(tmp_path / "plan.yaml")
    assert stored["run"]["track"] == "off" and stored_plan_hash(stored) == plan_hash(plan) and not differences(plan, stored)
    assert read_plan(tmp_path / "plan.yaml") == plan and settings(stored)["run.mlflow"] == "off"
    assert not any(word.startswith("run.") for word in words_of(stored, "plan.yaml"))


def test_words_in_a_plan_are_words(tmp_path):
    """An interpolation would read the environment."""
    plan = compose(["lane=tiny-dense", "fork='x@1'"]).plan
    (tmp_path / "plan.yaml").write_text(to_yaml(plan).replace("x@1", "${oc.env:HOME}"))
    assert read_plan(tmp_path / "plan.yaml").fork == "${oc.env:HOME}"


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("  layers: 4\n", "  layers: four\n", "model.layers is 'four', expected a whole number"),
        ("  layers: 4\n", "  layers: 1000000000\n", "model.layers is 1000000000"),
        ("  layers: 4\n", "  layers: 4\n  moe_every: 0\n", "model.moe_every is 0, expected a whole number of 1 or more"),
        ("  top_k: 4\n", "  top_k: 0\n", "model.top_k is 0 of 16 experts"),
        ("tokens_per_step: 4096", "tokens_per_step: 0", "batch.tokens_per_step is 0"),
        ("tokens_per_step: 4096", "tokens_per_step: 4194304", "budget.tokens is 131072, one step has 4194304"),
        ("tokens_per_step: 4096", "tokens_per_step: 4096\n  stages: [0]", "batch.stages[0] is 0"),
        ("tokens_per_step: 4096", "tokens_per_step: 4096\n  stages: null", "batch.stages is None, expected a list"),
        (
            "tokens_per_step: 4096",
            "tokens_per_step: 4096\n  stages: [4096, 1048576]",
            "budget.tokens is 131072, a step of a stage has 1048576",
        ),
        (
            "tokens_per_step: 4096",
            "tokens_per_step: 4096\n  stages: [4096]\n  stage_shares: [0.5, 0.5]",
            "batch.stage_shares has 2 shares of 1 stages",
        ),
        (
            "tokens_per_step: 4096",
            "tokens_per_step: 4096\n  stages: [4096]\n  stage_shares: [-1]",
            "batch.stage_shares[0] is -1, expected a number from 0 to 1",
        ),
        ("seed: 1\n", "seed: 1\nmodel.top_k: x\n", "the key 'model.top_k' has a dot in it"),
        ("target: xz_given_train", "target: nowhere", "track.target is 'nowhere', which is no line or milestone"),
        ("precision:\n", "health: {window_steps: 0}\nprecision:\n", "health.window_steps is 0"),
    ],
)
def test_a_key_of_a_stored_plan_is_held_against_the_schema(folder, old, new, words):
    path = folder / "plan.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert words in said(lambda: read_stored_plan(path))


def test_a_plan_of_an_older_schema_has_the_defaults_of_this_one(folder):
    stored = read_stored_plan(folder / "plan.yaml")
    assert "schedule" not in stored and settings(stored)["schedule.warmup_share"] == 0.02
    assert settings(stored)["optim.muon.lr"] == stored["optim"]["muon"]["lr"]


def test_an_identity_with_a_field_of_another_type_is_named(tmp_path):
    (tmp_path / "identity.json").write_text(json.dumps(WHO | {"seed": "1"}))
    assert "identity.json is corrupt: seed is '1', expected a whole number" in said(lambda: read_identity(tmp_path))
    (tmp_path / "identity.json").write_text(json.dumps(WHO))
    assert read_identity(tmp_path) == Identity(**WHO) and read_identity(tmp_path).content() == WHO
