"""The verb: what fits the hours is run in order, what is there is taken, and the published folder is enough to go on from."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import series_factory
import yaml
from series_factory import FILE, point_run

import harness.launch.series.course
import harness.launch.series.seconds
import harness.plan.series
import harness.report.series.ahead
import harness.report.series.folder
from harness.__main__ import main
from harness.files import file_sha256
from harness.launch import child
from harness.launch.job import Job
from harness.launch.series import seconds
from harness.launch.series.points import points_of
from harness.plan.fingerprint import plan_hash
from harness.report.series.predict import predict

POINTS = points_of(series_factory.series())
RUN_S, COUNTED_S = 40.0, 5.0


@pytest.fixture
def series(tmp_path, monkeypatch, capsys):
    """`series` in a folder of its own on a machine of class HERE whose runs take RUN_S, written by the factory. Gives (exit
    status, the points and seeds that ran, output)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "example.yaml").write_text(yaml.safe_dump(FILE, sort_keys=False))
    monkeypatch.setattr(harness.plan.series, "SERIES", tmp_path / "series")
    monkeypatch.setattr(harness.report.series.folder, "RESAMPLES", 20)
    monkeypatch.setattr(harness.report.series.ahead, "predict", partial(predict, count=20))
    clock, ran = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(harness.launch.series.course, "time", SimpleNamespace(monotonic=lambda: clock.now))
    here = SimpleNamespace(hardware_class=series_factory.HERE)
    monkeypatch.setattr(harness.launch.series.seconds, "detect", lambda plan: here)
    monkeypatch.setattr(harness.launch.series.seconds, "run_seconds", lambda plan, counts, here: COUNTED_S)
    monkeypatch.setattr(
        harness.launch.series.course, "make_job",
        lambda name, words, plan: Job(name, words, plan, plan_hash(plan), series_factory.HERE),
    )  # fmt: skip

    def run_one(words):
        said = [word for word in words[2:] if word != "run.timeout_s=300"]
        point = next(p for p in POINTS.values() if said == p.words[1:])
        seed = int(words[1].removeprefix("seed="))
        ran.append((point.name, seed))
        clock.now += RUN_S
        return 0, point_run(tmp_path / "runs", point, seed) / "record.json"

    monkeypatch.setattr(child, "speedrun", run_one)

    def go(*words):
        ran.clear()
        status = main(["series", *words])
        return status, list(ran), capsys.readouterr()

    return go


def grid(seed, budgets=(1, 2)):
    return [(f"{family}-s{size}-c{c}", seed) for c in budgets for size in (4, 5, 6, 8) for family in ("dense", "moe")]


def test_the_plan_is_shown_and_nothing_is_run_with_no_hours(series):
    status, ran, said = series("example", "hours=0")
    assert (status, ran) == (0, [])
    assert "dense-s4-c1" in said.out and "0 of 2" in said.out and "counted" in said.out
    assert "2 of 2 budgets, 4 of 4 sizes, seeds 1, 2, and 6.4e+11 FLOPs ahead" in said.out


def test_what_fits_is_run_one_seed_after_the_other_and_the_same_command_goes_on(series, tmp_path):
    thought_s = COUNTED_S + seconds.START_S + seconds.SETUP_S + 0.2
    assert thought_s < RUN_S
    hours = 16.5 * thought_s / 3600  # of 16 runs a seed, which take longer than was thought
    status, ran, said = series("example", f"hours={hours}", "seeds=1")
    assert (status, ran) == (0, grid(1)[: len(ran)]) and 4 <= len(ran) < 16 and "runs are left, from" in said.out
    status, more, said = series("example", "hours=1", "seeds=1")
    assert (status, more[: 16 - len(ran)]) == (0, grid(1)[len(ran) :]), "what is there is taken"
    assert (tmp_path / "runs" / "series-example" / "series.md").exists()


def test_hours_that_fit_nothing_are_refused_with_those_that_the_least_takes(series):
    status, ran, said = series("example", "hours=0.001")
    assert (status, ran) == (2, [])
    assert "no part of series example fits into 0.001 hours: the least (1 of 2 budgets, 4 of 4 sizes, seed 1) takes" in said.err


def test_a_published_series_is_drawn_again_from_its_records_alone(series, tmp_path):
    out = tmp_path / "out"
    status, ran, said = series("example", "seeds=1", "run.timeout_s=300", "--out", str(out))
    assert status == 0, said.err
    assert ran[:16] == grid(1) and [name[-3:] for name, _ in ran[16:]] == ["-c3", "-c3"], "what is ahead comes last"
    before_it, _, after_it = said.out.partition("Predicted of dense at size")
    assert "== moe-s8-c2 seed 1" in before_it and "-c3 seed 1" in after_it and "-c3 seed 1" not in before_it
    assert (out / "prediction.json").read_bytes() == (tmp_path / "runs" / "series-example" / "prediction.json").read_bytes()
    assert "The prediction was made" in (out / "series.md").read_text()
    stated = json.loads((out / "study.json").read_text())["study"]
    assert stated["series"]["sizes"] == [4, 5, 6, 8] and "run." not in json.dumps(stated), "how runs are logged is no part"
    assert (out / "dense-s4-c1" / "1" / "record.json").exists()
    before = {path.name: path.read_bytes() for path in out.glob("*.md")} | {
        path.name: path.read_bytes() for path in out.glob("*.json")
    }
    status, ran, said = series("example", "seeds=1", "optim.muon.lr=0.01", "--out", str(out))
    assert (status, ran) == (2, []) and "holds series example with other words" in said.err
    (tmp_path / "runs").rename(tmp_path / "gone")
    status, _, said = series("--from", str(out))
    assert status == 0, said.err
    assert all((out / name).read_bytes() == content for name, content in before.items())
    assert main(["study", "--from", str(out)]) == 2

    study = out / "study.json"
    whole, words = study.read_text(), stated["cases"]
    swapped = whole.replace(words["dense-s4-c1"], "AWAY").replace(words["moe-s4-c1"], words["dense-s4-c1"])
    study.write_text(swapped.replace("AWAY", words["moe-s4-c1"]))
    status, _, said = series("--from", str(out))
    assert status == 2 and "case dense-s4-c1 is" in said.err, "what a case is called is not the file's to say"
    study.write_text(whole)

    prediction = out / "prediction.json"
    prediction.write_text(prediction.read_text().replace(file_sha256(out / "moe-s5-c1" / "1" / "record.json"), "ab" * 32))
    status, _, said = series("--from", str(out))
    assert status == 2 and "prediction.json rests on another record of moe-s5-c1/1" in said.err

    record = out / "moe-s5-c1" / "1" / "record.json"
    record.write_text(record.read_text().replace('"seed": 1', '"seed": 2'))
    status, _, said = series("--from", str(out))
    assert status == 2 and "the evidence does not hold" in said.err


@pytest.mark.parametrize(
    "words, said",
    [(("exmple",), "did you mean example?"), (("example", "more"), "a series has one name"),
     (("example", "model.width=64"), "model.width=64 in this call, which is set elsewhere"),
     (("--out", "x"), "no series is named"), (("--from", "nowhere"), "holds no study"),
     (("example", "--from", "x"), "leave out"), (("example", "optim.muon.rl=1"), "did you mean optim.muon.lr?"),
     (("example", "hours=-1"), "hours must be a number of at least 0")],
)  # fmt: skip
def test_bad_arguments_are_explained_before_anything_is_run(series, words, said):
    status, ran, printed = series(*words)
    assert status == 2 and ran == [] and said in printed.err


def test_without_a_name_the_series_are_listed(series):
    status, _, printed = series()
    assert status == 0 and "What grows how?" in printed.out and "dense, moe of tiny-dense, sizes 4, 5, 6, 8" in printed.out


def test_seeds_may_be_run_in_several_calls_and_predicted_from_in_the_last(series, tmp_path):
    for seed in (1, 2):
        status, ran, said = series("example", f"seeds={seed}", "--grid")
        assert (status, ran) == (0, grid(seed)) and "Predicted" not in said.out
    status, ran, said = series("example", "seeds=1,2")
    assert status == 0 and {name[-3:] for name, _ in ran} == {"-c3"} and len(ran) == 4
    records = json.loads((tmp_path / "runs" / "series-example" / "prediction.json").read_text())["made"][0]["records"]
    assert set(records) == {f"{name}/{seed}" for name, seed in (*grid(1), *grid(2))}
    status, ran, said = series("example", "seeds=1,2")
    assert (status, ran) == (0, []) and said.out.count("Predicted of dense") == 2, "the prediction that is there stays"
    assert len(json.loads((tmp_path / "runs" / "series-example" / "prediction.json").read_text())["made"]) == 1

    stated = tmp_path / "runs" / "series-example" / "prediction.json"
    first = stated.read_text()
    assert series("example", "seeds=1")[0] == 0 and len(json.loads(stated.read_text())["made"]) == 2
    assert series("example", "seeds=1,2")[0] == 0
    again = json.loads(stated.read_text())["made"]
    assert len(again) == 2 and again[-1] == json.loads(first)["made"][0], "as it was made before the runs that it is of"
