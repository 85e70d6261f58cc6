"""Which runs are seeds of one thing."""

from report_factory import edit_record, write_run

from harness.report.groups import find_groups


def test_seeds_of_one_plan_and_machine_make_one_group(tmp_path):
    for seed in (3, 1, 2):
        write_run(tmp_path / f"{seed}", seed=seed)
    (group,) = find_groups([tmp_path]).groups
    assert group.seeds == (1, 2, 3) and group.ranked and group.sample("val_bpb").n == 3


def test_another_plan_machine_lane_or_protocol_is_another_group(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "machine", seed=2, hardware_class="other")
    write_run(tmp_path / "lane", seed=3, lane="tiny-dense", experts=0)
    edit_record(write_run(tmp_path / "plan", seed=4), plan_hash="1" * 64)
    edit_record(write_run(tmp_path / "data", seed=5), data__val_sha256="2" * 64)
    assert [group.n for group in find_groups([tmp_path]).groups] == [1] * 5


def test_unranked_runs_stand_apart_with_their_reasons(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=2, reasons=("resumed 1 time",))
    ranked, apart = find_groups([tmp_path]).groups
    assert ranked.ranked and ranked.seeds == (1,)
    assert apart.why_unranked == "resumed 1 time"


def test_of_two_runs_of_one_seed_the_newest_stands(tmp_path):
    write_run(tmp_path / "a", finished_at="2026-01-01T00:00:00Z")
    write_run(tmp_path / "b", finished_at="2026-02-01T00:00:00Z")
    (group,) = find_groups([tmp_path]).groups
    assert [run.folder.name for run in group.runs] == ["b"]


def test_a_corrupt_record_is_named_and_the_others_stay(tmp_path):
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad", seed=2) / "record.json").write_text("{")
    found = find_groups([tmp_path, tmp_path])
    assert len(found.groups) == 1 and len(found.problems) == 1 and "bad" in found.problems[0]


def test_seconds_to_target_need_every_seed(tmp_path):
    write_run(tmp_path / "1")
    write_run(tmp_path / "2", seed=2, offset=0.5)
    (group,) = find_groups([tmp_path]).groups
    assert group.to_target() is None
