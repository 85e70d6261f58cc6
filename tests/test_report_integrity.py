"""Edits of a record are found and named; whole evidence raises nothing."""

import json

import pytest
import yaml
from micro import finished_fixture  # noqa: F401
from report_factory import edit_record, sign, write_run

from harness.plan.fingerprint import stored_plan_hash
from harness.report.integrity import check
from harness.report.run_data import load_run


@pytest.mark.parametrize("kind", ["moe", "dense"])
def test_a_run_that_was_really_made_is_whole(finished, kind):
    assert check(load_run(finished(kind))) == []


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"experts": 0, "lane": "tiny-dense"},
        {"steps": 64, "dead": 2, "validations": (16, 32), "reasons": ("2 dead experts",)},
        {"precision": "nvfp4"},
    ],
)
def test_the_synthetic_runs_of_these_tests_are_whole(tmp_path, words):
    assert check(load_run(write_run(tmp_path / "run", **words))) == []


EDITS = {
    "metrics__val_bpb": (1.5, "metrics.val_bpb is 1.5"),
    "metrics__slice_bpb": (1.4, "metrics.slice_bpb is 1.4"),
    "metrics__time_to_target_s": (12.0, "metrics.time_to_target_s is 12.0"),
    "metrics__target_reached": (False, "metrics.target_reached is False"),
    "metrics__target__slice_bpb": (1.9, "metrics.target.slice_bpb is 1.9"),
    "metrics__tokens_per_second": (1e6, "metrics.tokens_per_second is 1000000.0"),
    "metrics__mfu": (0.9, "metrics.mfu is 0.9"),
    "metrics__scored_bytes": (1_000_000, "1,000,000 bytes of val were scored"),
    "clock__train_s": (50.0, "clock.train_s is 50.00 s"),
    "clock__validation_s": (0.0, "its entries sum to"),
    "determinism__chain": ("00" * 32, "determinism.chain"),
    "seed": (9, "seed is 9, plan.yaml gives 1"),
    "plan_hash": ("00" * 32, "plan_hash is"),
    "hardware_class": ("another", "hardware_class is 'another', identity.json gives"),
    "data__val_sha256": ("00" * 32, "data.val_sha256"),
    "unranked_reasons": (["resumed 1 time"], "ranked is True, with 1 reasons"),
    "resumes": (1, "although the run was resumed"),
    "provenance__dirty": (True, "made from a dirty tree"),
    "router_health__dead": (3, "router_health.dead is 3"),
    "router_health__worst_entropy_ratio": (0.5, "router_health.worst_entropy_ratio is 0.5"),
}


@pytest.mark.parametrize("key", EDITS)
def test_one_figure_changed_is_named_even_when_signed(tmp_path, key):
    value, named = EDITS[key]
    folder = write_run(tmp_path / "run")
    edit_record(folder, **{key: value})
    assert any(named in sentence for sentence in check(load_run(folder))), check(load_run(folder))


def replan(folder, change):
    """Another plan.yaml, in record and identity too, as if the run had been made with it."""
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    change(plan)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    identity = json.loads((folder / "identity.json").read_text()) | {"plan_hash": stored_plan_hash(plan)}
    (folder / "identity.json").write_text(json.dumps(identity))
    edit_record(folder, plan_hash=stored_plan_hash(plan))
    sign(folder)


@pytest.mark.parametrize(
    "section, name, value",
    [
        ("health", "collapse_load", 1.0),
        ("health", "dead_share", 1.0),
        ("health", "window_steps", 10**6),
        ("health", "divergence_factor", 1e300),
        ("run", "log_every_steps", 384),
    ],
)
def test_a_ranked_record_whose_plan_is_looser_than_ranking_is_named(tmp_path, section, name, value):
    folder = write_run(tmp_path / "run")
    replan(folder, lambda plan: plan.setdefault(section, {}).update({name: value}))
    (sentence,) = check(load_run(folder))
    assert sentence.startswith(f"ranked is True, although {section}.{name}={value} where ranking allows")
    edit_record(folder, ranked=False, unranked_reasons=["of its bounds"])
    assert check(load_run(folder)) == []


def edit_rows(folder, change):
    """`change` gets the rows of metrics.jsonl; what it makes of them is signed."""
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(folder)


def starve(rows, since, until):
    """Gives the tokens of expert 0 in layer 0 to expert 1."""
    for row in rows:
        if row["kind"] == "window" and since < row["step"] <= until:
            row["counts"][0][1] += row["counts"][0][0]
            row["counts"][0][0] = 0


def dominate(rows, since, until):
    """Expert 0 of layer 0 in every set, the others evenly in what is left."""
    for row in rows:
        if row["kind"] == "window" and since < row["step"] <= until:
            total = sum(row["counts"][0])
            rest = total - total // 4
            row["counts"][0] = [total // 4] + [rest // 15 + (i < rest % 15) for i in range(15)]


def diverge(rows, since, until):
    for row in rows:
        if row["kind"] == "step" and since < row["step"] <= until:
            row["loss"] *= 2


@pytest.mark.parametrize(
    "change, since, until, named",
    [
        (starve, 320, 384, "1 dead experts"),
        (dominate, 64, 128, "step 128, layer 0: expert 0 is in 100% of all top-4 sets"),
        (dominate, 320, 384, "an expert in 100% of all top-k sets"),
        (diverge, 320, 384, "step 384: mean loss of 64 steps"),
    ],
)
def test_rows_that_speak_against_a_rank_are_named(tmp_path, change, since, until, named):
    folder = write_run(tmp_path / "run")
    edit_rows(folder, lambda rows: change(rows, since, until))
    found = check(load_run(folder))
    assert found and all(sentence.startswith("ranked is True, although ") for sentence in found)
    assert any(named in sentence for sentence in found)
    edit_record(folder, ranked=False, unranked_reasons=["of its health"])
    assert check(load_run(folder)) == []


@pytest.mark.parametrize("since, until", [(0, 64), (336, 384)])
def test_an_expert_that_starved_early_or_for_less_than_a_window_costs_no_rank(tmp_path, since, until):
    folder = write_run(tmp_path / "run")
    edit_rows(folder, lambda rows: starve(rows, since, until))
    assert check(load_run(folder)) == []


@pytest.mark.parametrize("window, judged", [(8, True), (16, True), (64, True), (48, False), (24, False)])
def test_windows_of_ranking_are_judged_where_those_of_the_log_fill_them(tmp_path, window, judged):
    folder = write_run(tmp_path / "run", window=window)
    edit_rows(folder, lambda rows: starve(rows, 0, 384))
    assert any("1 dead experts" in sentence for sentence in check(load_run(folder))) == judged


def test_a_figure_that_nothing_else_confirms_is_found_by_the_records_own_hash(tmp_path):
    folder = write_run(tmp_path / "run")
    edit_record(folder, sign=False, metrics__peak_memory_bytes=1)
    (sentence,) = check(load_run(folder))
    assert "content_sha256 does not match" in sentence


@pytest.mark.parametrize("resign", [False, True])
def test_a_metrics_line_removed_is_named(tmp_path, resign):
    folder = write_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"step": 200,' not in line))
    if resign:
        sign(folder)
    found = " ".join(check(load_run(folder)))
    assert "missing: 200" in found
    assert ("metrics.jsonl was changed" in found) != resign


def test_a_validation_moved_to_another_step_is_a_mixed_protocol(tmp_path):
    folder = write_run(tmp_path / "run", validations=(64, 128))
    text = (folder / "plan.yaml").read_text().replace("- 64\n", "- 96\n")
    (folder / "plan.yaml").write_text(text)
    assert any("validated at steps [64, 128, 384]" in s for s in check(load_run(folder)))


def test_bytes_miscounted_in_scoring_are_named(tmp_path):
    folder = write_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["targets"] = int(rows[-1]["targets"] * 1.01)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(folder)
    found = " ".join(check(load_run(folder)))
    assert "bits per byte divides by" in found and "nats over scored bytes" in found


def test_expert_counts_that_do_not_add_up_are_named(tmp_path):
    folder = write_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    window = next(row for row in rows if row["kind"] == "window")
    window["counts"][0][0] += 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sign(folder)
    assert any("rows a layer" in sentence for sentence in check(load_run(folder)))


@pytest.mark.parametrize("name", ["identity.json", "plan.yaml", "metrics.jsonl"])
def test_a_file_changed_after_the_record_is_named(tmp_path, name):
    folder = write_run(tmp_path / "run")
    (folder / name).write_text((folder / name).read_text().replace(": ", ":  ", 1))
    assert any(sentence.startswith(f"{name} was changed") for sentence in check(load_run(folder)))


def test_weights_may_be_left_out_but_not_exchanged(tmp_path):
    folder = write_run(tmp_path / "run")
    assert check(load_run(folder)) == []
    (folder / "weights.safetensors").write_bytes(b"others")
    assert any("weights.safetensors was changed" in sentence for sentence in check(load_run(folder)))


def test_an_edit_of_what_a_format_did_is_found_like_that_of_any_row(tmp_path):
    folder = write_run(tmp_path / "run", steps=32, validations=(16,), precision="nvfp4")
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    window = next(row for row in rows if "precision" in row)
    window["precision"]["tensors"]["0"]["gradient"]["snr_db"] += 10
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (sentence,) = check(load_run(folder))
    assert "metrics.jsonl was changed after the record was written" in sentence
