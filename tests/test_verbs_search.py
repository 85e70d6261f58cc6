"""`search` as a command: spaces listed, a run taken or made, table and figure, and a published folder that is drawn again."""

import json
import math
import shutil
from pathlib import Path

import pytest
from report_factory import disturb, edit_record, write_run
from search_factory import course, finished, here, space, whole_run

from harness.errors import UserError
from harness.launch import child
from harness.launch.job import Job
from harness.launch.search import runs
from harness.launch.search.runs import take_or_make
from harness.plan.space import space_names
from harness.record.ledger import Ledger, LedgerRung, LedgerTrial, counts_of, read_ledger, slope_of
from harness.record.record_folders import record_folders
from harness.report.search.evidence import problems_in
from harness.report.search.folder import publish_search, refuse_out, write_search
from harness.report.search.numbers import between_rungs, dials_tell, so_far
from harness.report.search.table import search_table
from harness.verbs import search

RUN = {"share": 1.0, "words": ["lane=tiny-open"], "plan_hash": "aa" * 32, "folder": "runs/tiny-open/1-aaaaaaaa"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trial(arm: str, number: int, *seconds: float, state: str = "complete", lr: float = 0.02, **more) -> LedgerTrial:
    family, sampler = arm.split("/")
    rungs = [
        LedgerRung(**RUN | {
            "share": share, "status": "ran", "record_sha256": f"{number:08x}{place}0" * 4, "chain": "cd" * 32, "train_s": 10.0,
            "slice_bpb": 1.66, "figure": 1.66, "equivalent_s": some,
        })
        for place, (share, some) in enumerate(zip((0.25, 1.0), seconds))
    ]  # fmt: skip
    more |= {"equivalent_s": seconds[-1]} if seconds else {}
    params = {"optim.muon.lr": lr, "batch.tokens_per_step": 1024, "budget.tokens": 500000}
    return LedgerTrial(
        number=number, arm=arm, family=family, sampler=sampler, words=[f"optim.muon.lr={lr}", arm], params=params, state=state,
        rungs=rungs, rung=len(rungs), **more,
    )  # fmt: skip


def ledger(*trials: LedgerTrial) -> Ledger:
    return Ledger(
        schema_version=1, space=space(), space_sha256=space().sha256, hardware_class="a-class", commit="c0" * 20,
        target="a_line", metric="slice_bpb", level=1.6624, slopes={"dense": 0.25}, counts=counts_of(list(trials)),
        trials=list(trials),
    )  # fmt: skip


def test_the_best_so_far_falls_only_and_a_trial_that_did_not_end_counts_as_spent():
    trials = [trial("dense/tpe", n, *some, state=state) for n, (some, state) in enumerate([
        ((9.0, 8.0), "complete"), ((9.5,), "pruned"), ((7.0, 9.0), "complete"), ((), "failed"), ((5.0, 6.0), "complete"),
    ])]  # fmt: skip
    assert [(at.trials, at.spent_s, at.best_s) for at in so_far(trials)] == [
        (1, 20.0, 8.0), (2, 30.0, 8.0), (3, 50.0, 8.0), (4, 50.0, 8.0), (5, 70.0, 6.0),
    ]  # fmt: skip


def test_rungs_and_dials_are_correlated_over_distinct_plans():
    some = [trial("dense/tpe", n, float(n), 10.0 - n, lr=0.01 * n) for n in range(1, 5)]
    again = trial("dense/tpe", 1, 1.0, 9.0, lr=0.01)
    found = ledger(*some, again)
    told = between_rungs(found, "dense", 0, 1)
    assert (told.value, told.runs) == (pytest.approx(-1), 4)
    rate, batch, _ = dials_tell(found, "dense")
    assert rate.correlation.value == pytest.approx(1) and rate.trials == 4 and batch.correlation is None
    assert between_rungs(ledger(*some[:2]), "dense", 0, 1) is None


def test_the_table_names_arms_states_words_and_why():
    first, failed = trial("dense/tpe", 0, 9.0, 8.25), trial("dense/tpe", 1, state="failed", why="speedrun ended with status 1")
    disturbed = trial("dense/random", 0, 9.0, 7.5)
    rungs = [LedgerRung(**disturbed.rungs[-1].content() | {"disturbed": "others took 9%"})]
    disturbed = LedgerTrial(**disturbed.content() | {"rungs": [disturbed.rungs[0].content(), rungs[0].content()]})
    text = "\n".join(search_table(ledger(first, failed, disturbed)))
    assert "| dense/tpe | 2 | 1 | 0 | 1 | 0 | 0 | 20 | 8.25 | 10.00 | 1.6600 |" in text
    assert "| dense/random | 1 | 1 | 0 | 0 | 0 | 0 | 20 | 7.50\\* |" in text.replace("7.50*", "7.50\\*")
    assert "dense/tpe 1 failed: speedrun ended with status 1" in text and "took processor time from: dense/random 0" in text
    assert "`optim.muon.lr=0.02 dense/tpe`" in text and "fewer than 3" in text


def test_a_published_search_is_drawn_again_from_its_records_and_each_damage_is_named(monkeypatch, capsys):
    made = course(monkeypatch, whole_run, space(trials=3))
    assert made.run(100.0) == ""
    found, out = made.write(), Path("results/searches/example")
    written = publish_search(found, made.folder, out)
    assert all(path.exists() for path in written) and read_ledger(out) == found
    assert len(list((out / "records").iterdir())) == found.counts.runs and not list(out.rglob("metrics.jsonl"))
    assert record_folders(["results"]) == [] and len(record_folders(["results"], studies=True)) == found.counts.runs
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    assert search.main(["--from", str(out)]) == 0
    assert [path.read_bytes() for path in written] == before
    a_run = found.trials[1].rungs[0].place if found.trials[1].rungs else found.trials[0].rungs[0].place
    edit_record(out / "records" / a_run, clock__train_s=1.0)
    with pytest.raises(UserError, match="the evidence does not hold") as caught:
        search.main(["--from", str(out)])
    assert "record.json has the hash" in caught.value.problem
    shutil.rmtree(out / "records" / a_run)
    assert any(f"records/{a_run} is missing" in problem for problem in problems_in(found, out))


def test_a_search_that_is_not_published_is_not_drawn_from_its_records(monkeypatch):
    finished(monkeypatch, whole_run, space(trials=1))
    with pytest.raises(UserError, match="runs/search-example has no records") as caught:
        search.main(["--from", "runs/search-example"])
    assert "OUT=results/searches/example publishes it" in caught.value.remedy


def test_a_ledger_that_says_other_seconds_than_its_records_does_not_hold(monkeypatch):
    found = finished(monkeypatch, whole_run, space(trials=1))
    publish_search(found, Path("runs/search-example"), Path("out"))
    assert problems_in(found, Path("out")) == []
    said = json.loads(Path("out/ledger.json").read_text())
    said["trials"][0]["rungs"][1]["train_s"] *= 0.5
    problems = "\n".join(problems_in(Ledger(**said), Path("out")))
    assert "figures or seconds are not those of its record" in problems and "the slope of dense" in problems
    assert "equivalent_s is" in problems
    said["counts"]["trials"] += 1
    said["space"]["reduction"] = 5
    problems = problems_in(Ledger(**said), Path("out"))
    assert problems[:2] == ["space_sha256 is not that of the space beside it", "counts are not those of the trials"]


def test_a_folder_that_is_not_this_searchs_or_holds_more_is_refused(monkeypatch, tmp_path):
    found = finished(monkeypatch, whole_run, space(trials=2))
    publish_search(found, Path("runs/search-example"), Path("out"))
    refuse_out(Path("out"), "example")
    with pytest.raises(UserError, match="out holds search example"):
        refuse_out(Path("out"), "another")
    Path("other").mkdir()
    Path("other/notes").touch()
    with pytest.raises(UserError, match="other is no folder of a search"):
        refuse_out(Path("other"), "example")
    fewer = Ledger(**found.content() | {"trials": [trial.content() for trial in found.trials[:2]]})
    with pytest.raises(UserError, match="has dense/tpe 1, dense/random 1 too, which would be lost"):
        publish_search(fewer, Path("runs/search-example"), Path("out"))
    with pytest.raises(UserError, match="search example has no finished first trial"):
        publish_search(Ledger(**found.content() | {"slopes": {}}), Path("runs/search-example"), Path("out"))


def test_a_folder_with_more_than_is_published_is_refused_above_all_the_searchs_own(monkeypatch):
    found = finished(monkeypatch, whole_run, space(trials=1))
    source = Path("runs/search-example")
    for publishes in (lambda: refuse_out(source, "example"), lambda: publish_search(found, source, source)):
        with pytest.raises(UserError, match="runs/search-example has locks, trials.journal too, which would be lost"):
            publishes()
    assert (source / "trials.journal").exists()
    publish_search(found, source, Path("out"))
    Path("out/confirmations").mkdir()
    Path("out/confirmations/1.json").write_text("{}")
    with pytest.raises(UserError, match="out has confirmations/1.json too, which would be lost"):
        publish_search(found, source, Path("out"))
    assert Path("out/confirmations/1.json").exists()


def test_the_slope_of_a_disturbed_start_is_of_the_seconds_that_were_counted():
    first = trial("dense/tpe", 0, 9.0, 8.0)
    rungs = [
        LedgerRung(**rung.content() | {"figure": bits, "train_s": train_s, "counted_s": counted_s})
        for rung, bits, train_s, counted_s in zip(first.rungs, (1.8, 1.7), (10.0, 20.0), (3.0, 9.0))
    ]
    assert slope_of(rungs) == pytest.approx(0.1 / math.log(2))
    late = LedgerRung(**rungs[0].content() | {"train_s": 19.0, "disturbed": "others took 48%"})
    assert slope_of([late, rungs[1]]) == pytest.approx(0.1 / math.log(3))


def test_disturbed_seconds_are_used_with_their_mark(monkeypatch):
    def disturbed(job, seed):
        outcome = whole_run(job, seed)
        if outcome.made and "random" in job.name:
            record = json.loads((outcome.folder / "record.json").read_text())
            rows = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
            disturb(rows, record, 0.5)
            (outcome.folder / "record.json").write_text(json.dumps(record))
        return outcome

    found = finished(monkeypatch, disturbed, space(trials=2))
    marked = [t.arm for t in found.trials if any(rung.disturbed for rung in t.rungs)]
    assert marked == ["dense/random"] and found.of_arm("dense", "random")[1].equivalent_s


def job() -> Job:
    class Plan:
        class run:
            folder = "runs"

        class lane:
            name = "tiny-open"

    identity = json.loads(Path("runs/tiny-open/made/identity.json").read_text())
    return Job("dense/tpe", ["optim.muon.lr=0.02"], Plan, identity["plan_hash"], here().hardware_class)


def test_a_run_that_is_there_is_taken_and_one_that_is_not_whole_or_of_another_class_is_made_anew(monkeypatch):
    made = write_run(Path("runs/tiny-open/made"), experts=0, lane="tiny-open", steps=16, validations=(),
                     hardware_class=here().hardware_class, reasons=("unranked=true",))  # fmt: skip
    asked = job()
    place = made.rename(made.with_name(f"1-{asked.plan_hash[:8]}"))
    said = []
    monkeypatch.setattr(child, "speedrun", lambda words: (said.append(words), (1, None))[1])
    assert take_or_make(asked, 1) == runs.Outcome(place, made=False) and not said
    failed = take_or_make(Job(asked.name, asked.words, asked.plan, asked.plan_hash, "another-class"), 1)
    assert (failed.folder, failed.why) == (None, "speedrun ended with status 1")
    assert said == [["lane=tiny-open", "seed=1", "optim.muon.lr=0.02"]]
    edit_record(place, sign=False, clock__train_s=1.0)
    assert "is not whole" in take_or_make(asked, 1).why and len(said) == 2


def test_spaces_are_listed_and_a_call_that_names_none_is_refused(capsys):
    assert search.main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in space_names()) and "4 arms of" in text
    for words in (["--out", "x"], ["trials=3"]):
        with pytest.raises(UserError, match="no space is named"):
            search.main(words)
    with pytest.raises(UserError, match="--from draws what its folder holds"):
        search.main(["tiny-open", "--from", "x"])
    with pytest.raises(UserError, match="--from draws what its folder holds"):
        search.main(["--from", "x", "hours=3"])


def test_a_figure_is_the_same_bytes_twice(monkeypatch):
    found = finished(monkeypatch, whole_run, space(trials=2))
    first = [path.read_bytes() for path in write_search(found, Path("runs/search-example"))]
    assert [path.read_bytes() for path in write_search(found, Path("runs/search-example"))] == first
