"""What may be said of two groups: the swap contract, the rankings, the sentences."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from micro import python
from report_factory import edit_record, sign, write_run

from harness.__main__ import main
from harness.record.results import Trials
from harness.report.compare.contract import contract
from harness.report.compare.ranking import rank, sentences
from harness.report.groups import Group, find_groups

STATED = SimpleNamespace(tuning_trials=Trials(found=0, declared=0))


def group(folder: Path, seeds: int = 3, offset: float = 0.0, **words) -> Group:
    for seed in range(1, seeds + 1):
        write_run(folder / f"{seed}-x", seed=seed, offset=offset + 0.003 * (seed - 2), **words)
    (found,) = find_groups([folder]).groups
    return found


@pytest.fixture
def dense(tmp_path: Path) -> Group:
    return group(tmp_path / "tiny-dense", lane="tiny-dense", twin="tiny-moe-16e", experts=0, step_s=0.2)


@pytest.fixture
def moe(tmp_path: Path) -> Group:
    return group(tmp_path / "tiny-moe-16e", offset=-0.03)


def by_basis(a: Group, b: Group) -> dict:
    return {ranking.basis: ranking for ranking in rank(a, b)}


def test_the_ranking_may_flip_between_contracts(dense, moe):
    found = by_basis(dense, moe)
    assert found["equal tokens"].ahead == "B" and found["equal tokens"].test.significant
    assert found["equal wall-clock"].ahead == "A" and found["equal wall-clock"].mid_run == "B"


def test_equal_wall_clock_reads_the_slower_side_off_between_its_validations(dense, moe):
    ranking = by_basis(dense, moe)["equal wall-clock"]
    assert ranking.amount == pytest.approx(384 * 0.2)
    before, after = moe.first.metrics.curve[1:3]  # 66.56 s and 83.2 s
    share = (ranking.amount - before["train_s"]) / (after["train_s"] - before["train_s"])
    expected = before["slice_bpb"] + share * (after["slice_bpb"] - before["slice_bpb"])
    assert ranking.b.values[0] == pytest.approx(expected)


def test_equal_flops_and_tokens_per_parameter_use_the_counts(dense, moe, tmp_path):
    for run in moe.runs:
        edit_record(run.folder, counts__flops_per_token=28_000_000, counts__params_total=10_780_000)
    (costly,) = find_groups([tmp_path / "tiny-moe-16e"]).groups
    found = by_basis(dense, costly)
    assert found["equal active FLOPs"].amount == pytest.approx(384 * 4096 * 14e6)
    assert found["equal active FLOPs"].mid_run == "B"  # it has half its budget left
    assert found["equal tokens per total parameter"].amount == pytest.approx(384 * 4096 / 10_780_000)
    assert found["equal tokens per total parameter"].mid_run == "A"


def test_an_amount_before_the_first_validation_gives_no_ranking(moe, tmp_path):
    short = group(tmp_path / "short", lane="tiny-dense", experts=0, steps=64, validations=(16,))
    assert "before a run's first validation" in by_basis(short, moe)["equal tokens"].refused


def test_seconds_and_memory_of_another_machine_are_not_ranked_but_tokens_are(dense, tmp_path):
    other = group(tmp_path / "other", hardware_class="another machine")
    found = by_basis(dense, other)
    assert "hardware classes" in found["equal wall-clock"].refused and "hardware classes" in found["equal memory"].refused
    assert found["equal tokens"].refused is None


def test_another_protocol_is_not_ranked_at_all(dense, moe, tmp_path):
    for run in moe.runs:
        text = (run.folder / "plan.yaml").read_text().replace("73" * 32, "99" * 32)
        (run.folder / "plan.yaml").write_text(text)
        edit_record(run.folder, data__val_sha256="99" * 32)
    (other,) = find_groups([tmp_path / "tiny-moe-16e"]).groups
    assert all("val data has another hash" in r.refused for r in rank(dense, other))


def test_unequal_memory_names_the_side_that_fits(dense, moe, tmp_path):
    for run in moe.runs:
        edit_record(run.folder, metrics__peak_memory_bytes=2 * run.record.metrics.peak_memory_bytes)
    (large,) = find_groups([tmp_path / "tiny-moe-16e"]).groups
    assert "only A runs" in by_basis(dense, large)["equal memory"].refused


def test_one_seed_a_side_may_claim_nothing(tmp_path):
    a = group(tmp_path / "a", seeds=1, lane="tiny-dense", experts=0)
    b = group(tmp_path / "b", seeds=1, offset=-0.5)
    said = sentences(a, b, rank(a, b), [])
    assert {kind for kind, _ in said} == {"may not be claimed"} and "n = 1" in said[0][1]


def test_a_swap_of_the_ffn_alone_with_stated_trials_is_fair(dense, moe):
    deal = contract(dense, moe, STATED, STATED)
    assert deal.swapped == ["FFN"] and deal.why_not_fair == []
    assert any(text.startswith("In a fair comparison") for _, text in sentences(dense, moe, rank(dense, moe), []))


def test_the_word_fair_is_refused_where_more_differs(dense, moe, tmp_path):
    def why(a, b, *claims):
        return " ".join(contract(a, b, *claims).why_not_fair)

    assert "tuning trials are stated for neither side" in why(dense, moe, None, None)
    tried = SimpleNamespace(tuning_trials=Trials(found=9, declared=0))
    assert "tuning trials before the plan differs: 0 against 9" in why(dense, moe, STATED, tried)
    for run in moe.runs:
        plan = run.folder / "plan.yaml"
        plan.write_text(plan.read_text() + "optim:\n  muon:\n    lr: 0.04\n")
        sign(run.folder)
    (tuned,) = find_groups([tmp_path / "tiny-moe-16e"]).groups
    reasons = why(dense, tuned, STATED, STATED)
    assert "2 components differ: FFN, optimizer" in reasons
    assert "fair" not in " ".join(text for _, text in sentences(dense, tuned, rank(dense, tuned), [reasons]))


def test_two_groups_of_one_recipe_are_not_a_comparison(dense, tmp_path):
    again = group(tmp_path / "again", lane="tiny-dense", twin="tiny-moe-16e", experts=0, hardware_class="another machine")
    assert any("no component differs" in reason for reason in contract(dense, again, STATED, STATED).why_not_fair)


def test_compare_prints_and_writes_all_of_it(dense, moe, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "tiny-dense"), str(tmp_path / "tiny-moe-16e"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("The swap contract", "model.num_experts", "Not a fair comparison", "equal wall-clock", "May be claimed"):
        assert part in text
    written = json.loads((out / "compare.json").read_text())
    assert len(written["rankings"]) == 6 and not written["fair"]
    assert "![curves](compare.png)" in (out / "compare.md").read_text()
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_hardware_picks_the_runs_that_are_compared(dense, tmp_path, capsys):
    here, there = tmp_path / "moe", tmp_path / "moe" / "b"
    group(here / "a", offset=-0.03)
    for seed in (1, 2):
        write_run(there / f"{seed}-x", seed=seed, hardware_class="another machine")
    words = ["compare", str(tmp_path / "tiny-dense"), str(here), "--out", str(tmp_path / "out")]
    b = lambda: json.loads((tmp_path / "out" / "compare.json").read_text())["b"]  # noqa: E731
    assert main(words) == 0 and b()["seeds"] == [1, 2, 3]
    write_run(
        tmp_path / "tiny-dense" / "there", lane="tiny-dense", twin="tiny-moe-16e", experts=0, hardware_class="another machine"
    )
    assert main([*words, "--hardware", "another"]) == 0 and b()["hardware_class"] == "another machine"
    capsys.readouterr()
    assert main([*words, "--hardware", "abacus"]) == 2
    assert "'abacus'" in (said := capsys.readouterr().err) and "another machine" in said


@pytest.mark.parametrize(
    "words", [["tiny-dens", "tiny-moe-16e"], ["tiny-dense"], [], ["a", "b", "--fast"], ["lanes", "harness"]]
)
def test_a_mistake_is_explained(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_records_whose_evidence_does_not_hold_are_not_compared(dense, moe, tmp_path, capsys):
    edit_record(moe.runs[0].folder, metrics__val_bpb=1.0)
    assert main(["compare", str(tmp_path / "tiny-dense"), str(tmp_path / "tiny-moe-16e")]) == 2
    assert "metrics.val_bpb is 1.0" in capsys.readouterr().err


@pytest.mark.process
def test_a_comparison_answers_without_torch(dense, moe, tmp_path):
    code = (
        "import sys; from harness.__main__ import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    sides = [str(tmp_path / "tiny-dense"), str(tmp_path / "tiny-moe-16e")]
    done = python(code, "compare", *sides, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("architecture", ["dense", "moe"])
def test_a_format_beside_its_bf16_twin_is_a_swap_of_precision_without_seconds_or_memory(request, architecture, tmp_path):
    plain = request.getfixturevalue(architecture)
    words = {"experts": 0} if architecture == "dense" else {}
    low = group(
        tmp_path / "low",
        lane=f"{plain.lane}-nvfp4",
        twin=plain.lane,
        precision="nvfp4",
        execution="emulated",
        step_s=0.01,
        **words,
    )
    deal = contract(plain, low, STATED, STATED)
    assert deal.swapped == ["precision"] and deal.why_not_fair == []
    differing = {f.name: (f.a, f.b) for f in deal.fields if f.differs}
    assert differing == {"precision.format": ("bf16", "nvfp4"), "execution": ("native", "emulated")}
    for a, b in ((plain, low), (low, plain)):
        found = by_basis(a, b)
        assert "nvfp4 is emulated" in found["equal wall-clock"].refused and "nvfp4 is emulated" in found["equal memory"].refused
        assert found["equal tokens"].refused is None and found["equal active FLOPs"].refused is None
        said = sentences(a, b, rank(a, b), [])
        assert not [text for kind, text in said if kind == "may be claimed" and "wall-clock" in text]


def test_a_native_format_keeps_its_seconds(moe, tmp_path):
    native = group(tmp_path / "fp8", lane="tiny-moe-16e-fp8", precision="fp8")
    assert by_basis(moe, native)["equal wall-clock"].refused is None
    assert contract(moe, native, STATED, STATED).swapped == ["precision"]


def test_bf16_that_a_machine_emulates_for_everybody_keeps_its_seconds_but_no_format_beside_it_does(tmp_path):
    machine = {"hardware_class": "cpu, bf16 emulated", "execution": "emulated"}
    dense, moe = group(tmp_path / "a", lane="tiny-dense", experts=0, **machine), group(tmp_path / "b", **machine)
    low = group(tmp_path / "c", lane="tiny-moe-16e-fp8", precision="fp8", **machine)
    assert by_basis(dense, moe)["equal wall-clock"].refused is None
    assert "fp8 is emulated" in by_basis(moe, low)["equal wall-clock"].refused


def test_gains_are_a_component_of_their_own(moe, tmp_path):
    for run in moe.runs:
        plan = run.folder / "plan.yaml"
        plan.write_text(plan.read_text() + "gains:\n  embedding: 10.667\n")
        sign(run.folder)
    (gained,) = find_groups([tmp_path / "tiny-moe-16e"]).groups
    assert contract(moe, gained, STATED, STATED).swapped == ["gains"]


def test_compare_gives_no_seconds_of_an_emulated_format(moe, tmp_path, capsys):
    group(tmp_path / "low", lane="tiny-moe-16e-fp8", precision="fp8", execution="emulated")
    assert main(["compare", str(tmp_path / "tiny-moe-16e"), str(tmp_path / "low"), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "target reached (no seconds: emulated), fp8 emulated" in text and "equal wall-clock: seconds do not compare" in text
