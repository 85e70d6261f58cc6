"""The end table: what stands in it, what must not, and that it is aligned."""

import pytest
from report_factory import edit_record, write_run

from harness.report.run.table import COLUMNS, end_table
from harness.report.run_data import load_run


@pytest.fixture
def moe(tmp_path):
    return write_run(tmp_path / "moe")


@pytest.fixture
def dense(tmp_path):
    return write_run(tmp_path / "dense", lane="tiny-dense", twin="tiny-moe-16e", experts=0, step_s=0.2)


def row(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(f"    {name}  "))


def cells(table: str, name: str) -> dict[str, str]:
    """A row by column, each cell read at its column's right edge: misaligned tables read wrong."""
    header = table.splitlines()[0]
    ends = [header.index(column) + len(column) for column in COLUMNS]
    starts = [len("    ") + len(name), *ends[:-1]]
    return {column: row(table, name)[start:end].strip() for column, start, end in zip(COLUMNS, starts, ends)}


def test_this_run_and_its_twin_fill_every_column(moe, dense):
    edit_record(moe, metrics__time_to_target_s=97.2, metrics__slice_bpb=1.6311, metrics__val_bpb=1.6902)
    table = end_table(load_run(moe), load_run(dense))
    assert list(cells(table, "this run").values()) == [
        "97.2 s",
        "1.6311",
        "1.6902",
        "15,754",
        "9%",
        "1.30x",
        "1.000",
        "0",
        "6.3%",
    ]
    assert list(cells(table, "tiny-dense").values())[3:] == ["20,480", "11%", "1.00x", "-", "-", "-"]


def test_classical_lines_follow_from_easy_to_hard_and_say_what_was_not_passed(moe, dense):
    table = end_table(load_run(moe), load_run(dense))
    names = ["this run", "tiny-dense", "xz alone", "xz given train", "PPMd given train", "7-gram"]
    assert [line for line in table.splitlines()[1:7]] == [row(table, name) for name in names]
    assert cells(table, "7-gram") | {"to target": "-", "slice": "1.4086", "all val": "1.4986"} == cells(table, "7-gram")
    assert row(table, "7-gram").endswith("(not passed: it has read all of train, this run 14%)")
    assert row(table, "xz given train").endswith("1.7128   (the target)")
    assert row(table, "xz alone").endswith("2.1385")


def test_a_line_that_read_no_training_text_is_not_excused_by_it(tmp_path):
    table = end_table(load_run(write_run(tmp_path / "run", steps=40, validations=())), None)
    assert row(table, "xz alone").endswith("(not passed)")
    assert row(table, "xz given train").endswith("(the target, not passed: it has read all of train, this run 1%)")
    assert cells(table, "this run")["to target"] == "not reached"


def test_without_a_record_of_the_twin_the_table_says_how_to_make_one(moe):
    table = end_table(load_run(moe), None)
    assert "make speedrun LANE=tiny-dense SEED=1" in row(table, "tiny-dense")
    assert cells(table, "this run")["step/twin"] == "-"


def test_a_lane_without_a_twin_has_no_twin_row(tmp_path):
    table = end_table(load_run(write_run(tmp_path / "run", twin=None)), None)
    assert table.splitlines()[2] == row(table, "xz alone") and "make speedrun" not in table


def test_seconds_of_another_hardware_class_are_not_shown(moe, dense):
    edit_record(dense, hardware_class="cuda-h100")
    table = end_table(load_run(moe), load_run(dense))
    twin = cells(table, "tiny-dense")
    assert (twin["to target"], twin["tokens/s"], twin["step/twin"]) == ("-", "-", "-")
    assert twin["slice"] != "-"
    assert cells(table, "this run")["step/twin"] == "-"
    assert "seconds not shown: it ran on hardware class cuda-h100" in table


def test_bits_per_byte_of_another_val_are_not_shown(moe, dense):
    edit_record(dense, data__val_sha256="00" * 32)
    table = end_table(load_run(moe), load_run(dense))
    assert (cells(table, "tiny-dense")["slice"], cells(table, "tiny-dense")["to target"]) == ("-", "-")
    assert "its val data has another hash" in table


def test_the_short_lines_below(moe):
    below = " ".join(end_table(load_run(moe), None).split())
    assert "5.39 M parameters, 2.24 M active, 14 MFLOP per token, peak memory 0.9 GiB" in below
    assert "wall 139.8 s: training 99.8 s (71%), final evaluation 21.0 s (15%)" in below
    assert "compilation" not in below
    assert "1.7077 on the part of val that shares no 13 words in a row with train (all of val 1.6891)" in below
    assert "2.0300 on the slice with routing shuffled among tokens: +0.4000 bits per byte" in below
    assert below.endswith("ranked yes")


def test_dense_runs_have_no_router_figures(dense):
    table = end_table(load_run(dense), None)
    assert list(cells(table, "this run").values())[-3:] == ["-", "-", "-"]
    assert "shuffled" not in table


def test_a_partial_run_claims_nothing_beside_the_lines(tmp_path):
    folder = write_run(tmp_path / "run", steps=16, validations=(), reasons=("partial: 65,536 bytes", "working tree is dirty"))
    table = end_table(load_run(folder), None)
    assert "not passed" not in table and "the target" not in table
    assert "partial   scored on a capped part of val" in table
    assert table.endswith("ranked    no: partial: 65,536 bytes; working tree is dirty")


def test_emulated_precision_carries_no_speed_claim(moe):
    edit_record(moe, precision={"format": "nvfp4", "execution": "emulated"})
    assert "nvfp4, emulated: no claim about speed" in end_table(load_run(moe), None)
