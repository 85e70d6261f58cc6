"""What harness/report says about run folders that are whole, unfinished, cut short, edited or too new."""

import json
import subprocess
import sys

import pytest
from report_factory import TOKENS_PER_STEP, edit_record, write_run

from harness.errors import UserError
from harness.record.read import read_record
from harness.report.run_data import load_run
from harness.report.twin import best_record


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "runs" / "tiny-moe-16e" / "1-3f9c1a2e", steps=40, validations=(20,))


@pytest.mark.process
def test_the_report_room_never_imports_torch():
    code = (
        "import sys, harness.report.run.draw, harness.report.run.table; "
        "sys.exit(any(m.split('.')[0] in ('torch', 'triton') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_finished_run_is_read_by_kind(folder):
    run = load_run(folder)
    assert [row["step"] for row in run.steps] == list(range(1, 41))
    assert [row["step"] for row in run.windows] == [16, 32, 40]
    assert [row["step"] for row in run.validations] == [20, 40]
    assert run.experts == 16 and run.counts_bytes and not run.is_partial and run.why_unranked is None


def test_rows_of_other_kinds_are_left_alone(folder):
    with open(folder / "metrics.jsonl", "a") as metrics:
        metrics.write('{"kind": "sample", "text": "Fellow citizens"}\n')
    assert len(load_run(folder).steps) == 40


def test_plan_numbers_in_scientific_notation_are_numbers(folder):
    with open(folder / "plan.yaml", "a") as plan:
        plan.write("optim: {adamw: {eps: 1e-8}}\n")
    assert load_run(folder).plan["optim"]["adamw"]["eps"] == 1e-8


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def drop_last_lines(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-8]))


def swap_first_lines(path):
    first, second, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([second, first, *rest]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "record.json").unlink(), "not finished"),
        (lambda f: (f / "plan.yaml").unlink(), "plan.yaml is missing"),
        (lambda f: (f / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
        (lambda f: cut(f / "record.json", 400), "record.json is truncated or corrupt"),
        (lambda f: cut(f / "record.json", 0), "record.json is truncated or corrupt"),
        (lambda f: (f / "record.json").write_bytes(b"\xff\xfe\x00{"), "record.json is truncated or corrupt"),
        (lambda f: (f / "record.json").write_text("[]"), "no JSON object with schema_version"),
        (lambda f: (f / "plan.yaml").write_text("lane: {name: [tiny"), "plan.yaml is truncated or corrupt"),
        (lambda f: (f / "plan.yaml").write_text(""), "plan.yaml is corrupt: it is empty"),
        (lambda f: cut(f / "metrics.jsonl", 2000), "truncated: its last line is cut off"),
        (lambda f: (f / "metrics.jsonl").write_text('{"kind": "st\n' * 3), "corrupt in line 1"),
        (lambda f: (f / "metrics.jsonl").write_text(""), "metrics.jsonl is incomplete"),
        (lambda f: drop_last_lines(f / "metrics.jsonl"), "metrics.jsonl is truncated: it ends at"),
        (lambda f: swap_first_lines(f / "metrics.jsonl"), "step rows are not in step order"),
        (lambda f: edit_record(f, schema_version=2), "schema version 2, this harness reads up to 1"),
        (lambda f: edit_record(f, metrics__slice_bpb="1.63"), "metrics.slice_bpb is '1.63'"),
        (lambda f: edit_record(f, metrics={}), "metrics.slice_bpb is missing"),
        (lambda f: edit_record(f, metrics__curve=[]), "metrics.curve is empty"),
        (lambda f: edit_record(f, metrics__curve=[{"step": 1}]), "metrics.curve[0].tokens is missing"),
        (lambda f: edit_record(f, lines={"xz_alone": {"label": "xz alone"}}), "lines.xz_alone.slice is missing"),
        (lambda f: edit_record(f, router_health={}), "router_health.worst_entropy_ratio is missing"),
    ],
)
def test_a_damaged_run_folder_is_a_user_error_that_names_file_and_fault(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError) as error:
        load_run(folder)
    assert message in error.value.problem
    assert folder.name in error.value.problem
    assert error.value.remedy


def test_a_folder_that_does_not_exist_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        load_run(tmp_path / "nothing")


def test_counts_that_do_not_fit_the_plan_are_a_user_error(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    next(row for row in rows if row["kind"] == "window")["counts"].pop()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="does not belong to its plan"):
        load_run(folder)


def short(folder, **changes):
    return write_run(folder, **({"lane": "tiny-dense", "experts": 0, "steps": 8, "validations": ()} | changes))


def test_best_record_prefers_the_class_and_then_the_newest(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    short(runs / "a", hardware_class="here", finished_at="2026-01-01T00:00:00Z")
    expected = short(results / "b", hardware_class="here", finished_at="2026-01-03T00:00:00Z")
    short(runs / "c", hardware_class="here", finished_at="2026-01-02T00:00:00Z")
    elsewhere = short(runs / "d", hardware_class="elsewhere", finished_at="2026-02-01T00:00:00Z")
    short(runs / "e", hardware_class="here", finished_at="2026-02-02T00:00:00Z", lane="sotu-dense")
    found = best_record([runs, results], "tiny-dense", "here")
    assert (found.folder, found.same_class) == (expected, True)
    found = best_record([runs, results], "tiny-dense", "a third class")
    assert (found.folder, found.same_class) == (elsewhere, False)


def test_best_record_counts_unranked_and_names_unreadable_records(tmp_path):
    short(tmp_path / "a", reasons=("resumed",))
    cut(short(tmp_path / "b") / "record.json", 100)
    found = best_record([tmp_path, tmp_path / "no such folder"], "tiny-dense", "here")
    assert found.folder is None and not found.same_class
    assert len(found.unreadable) == 1 and str(tmp_path / "b") in found.unreadable[0]


def test_the_record_alone_can_be_read(folder):
    assert read_record(folder).metrics.tokens == 40 * TOKENS_PER_STEP
