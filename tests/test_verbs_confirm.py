"""The verb: what it fixes before anything is run, what it writes, what it refuses, and how it goes on."""

import fcntl
import json
import math

import pytest
from confirm_factory import HERE, LEVEL, SEARCH, SLOPE, START, STEP, TRIALS, confirmations, noisy, searched, trial
from confirm_factory import confirm_fixture as confirm_fixture
from confirm_factory import home_fixture as home_fixture

import harness.launch.search.confirm_plan
from harness.plan.compose import compose
from harness.record.confirmation_files import champion_of, read_champion, read_nulls
from harness.record.confirmations import JUDGED, PROMOTED, RUNNING, TIE, VETOED
from harness.report.power import detectable


def test_the_best_trial_of_a_family_is_fitted_run_on_fresh_seeds_and_becomes_champion(home, confirm):
    searched(home / SEARCH)
    did = confirm("family=moe", "pairs=5")
    (it,) = confirmations(home)
    assert did.status == 0 and it.verdict.outcome == PROMOTED, did.out
    assert it.trial == "moe/random/1", "of both samplers the one with fewer equivalent seconds"
    margin = detectable(5, 0.004, 0.01)
    steps = round(300 * math.exp((1.655 + margin - LEVEL) / SLOPE))
    assert it.candidate.tokens == steps * STEP == compose(it.candidate.words).plan.budget.tokens
    assert it.seeds == [1001, 1002, 1003, 1004, 1005]
    a, b = it.candidate.plan_hash, it.incumbent.plan_hash
    assert did.ran[:4] == [(1001, a), (1001, b), (1002, b), (1002, a)] and len(did.ran) == 10
    assert [run.seed for run in it.runs] == [run.seed for run in it.against] == it.seeds
    before, after = did.out.split("== candidate", 1)
    assert "5 pairs at alpha 0.01 find 80% of the time" in before and f"{it.candidate.tokens:,} tokens" in before
    champion = read_champion(home / SEARCH)
    assert champion.champion == it.candidate and champion.runs == it.runs and champion.seconds < champion.before_seconds
    assert any(line.startswith("optim.muon.lr: ") for line in champion.diff)
    assert f'make submit RUN="{it.runs[0].folder} ' in after
    assert champion_of(home / "runs", "tiny-open", HERE) == champion
    assert champion_of(home / "runs", "tiny-open", "another") is None


def test_the_champion_is_the_incumbent_of_every_family_and_no_candidate_again(home, confirm):
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    holder = confirmations(home)[0]
    again = confirm("family=moe")
    assert again.status == 2 and "trial moe/random/1 is the best, and champion already since confirmation 1" in again.err
    tie = confirm("family=dense")
    second = confirmations(home)[1]
    assert second.incumbent.plan_hash == holder.candidate.plan_hash and second.seeds == [1006, 1007, 1008]
    assert tie.status == 1 and second.verdict.outcome == TIE and "a tie, and the incumbent stays" in tie.out
    assert read_champion(home / SEARCH).number == 1
    assert "confirmation 2 of this search: so many promote one null candidate or more 2.0%" in tie.out


def test_where_the_line_is_missed_the_next_attempt_is_longer_and_has_new_seeds(home, confirm):
    searched(home / SEARCH)
    confirm.trainer.comes_to = lambda plan, seed: noisy(plan, seed) | {"slice": noisy(plan, seed)["slice"] + 0.03}
    missed = confirm("family=moe", "trial=tpe/1")
    (first,) = confirmations(home)
    assert missed.status == 1 and first.verdict.outcome == VETOED and "line" in first.verdict.failed
    assert "lengthens its budget and takes new seeds" in missed.out
    confirm("family=moe", "trial=tpe/1", "pairs=4")
    second = confirmations(home)[1]
    assert (second.attempt, second.trial, second.fit.of) == (2, "moe/tpe/1", "confirmation 1")
    assert second.candidate.tokens > first.candidate.tokens and not set(second.seeds) & set(first.seeds)
    assert "line" not in second.verdict.failed


def test_an_interrupted_confirmation_goes_on_with_its_plan_and_seeds(home, confirm):
    searched(home / SEARCH)
    confirm.trainer.stops_at = 3
    assert confirm("family=moe").status == 130
    (half,) = confirmations(home)
    assert half.state == RUNNING and len(half.runs) + len(half.against) == 3
    searched(home / SEARCH, [*TRIALS, trial("moe", "tpe", 2, 0.06, seconds=10.0)])  # the search found a better one meanwhile
    other = confirm("family=dense")
    assert other.status == 2 and "confirmation 1 of trial moe/random/1 was interrupted" in other.err and not other.ran
    left = home / "runs" / "tiny-open" / f"1002-{half.candidate.plan_hash[:8]}"
    (left / "checkpoints").mkdir(parents=True)
    confirm.trainer.stops_at = None
    did = confirm("family=moe")
    (whole,) = confirmations(home)
    assert whole.state == JUDGED and whole.seeds == half.seeds and whole.candidate == half.candidate
    assert len(did.ran) == 3 and whole.runs[0].record_sha256 == half.runs[0].record_sha256
    assert (left / "record.json").exists() and not (left / "checkpoints").exists(), "a resumed run would be unranked"


def test_a_disturbed_pair_is_measured_again_under_its_seed_and_what_it_replaces_stays_on_file(home, confirm):
    searched(home / SEARCH)
    times = []

    def comes_to(plan, seed):
        times.append(seed)
        return noisy(plan, seed) | {"taken": 0.09 if seed == 1002 and times.count(seed) == 2 else 0.0}

    confirm.trainer.comes_to = comes_to
    did = confirm("family=moe", "pairs=5")
    (it,) = confirmations(home)
    assert did.status == 0 and times.count(1002) == 4 and len(did.ran) == 12, did.out
    assert [run.seed for run in it.replaced] == [1002, 1002] and sum(bool(run.disturbed) for run in it.replaced) == 1
    assert it.runs[1].folder.endswith(".2") and not it.runs[1].disturbed
    confirm.trainer.comes_to = lambda plan, seed: noisy(plan, seed) | {"taken": 0.09}
    never = confirm("family=dense")
    assert never.status == 1 and len(never.ran) == 6 * 3 and "FAILS  machines undisturbed: seed 1006" in never.out


def test_one_that_is_given_up_stays_on_file_and_its_seeds_are_spent(home, confirm):
    searched(home / SEARCH)
    confirm.trainer.stops_at = 1
    confirm("family=moe")
    confirm.trainer.stops_at = None
    assert confirm("abandon=2").status == 2
    assert confirm("abandon=1").status == 0
    confirm("family=dense")
    first, second = confirmations(home)
    assert first.state == "abandoned" and second.seeds[0] == 1004 and second.number == 2


def test_two_at_once_are_refused(home, confirm):
    searched(home / SEARCH)
    (home / SEARCH / "confirmations").mkdir()
    with open(home / SEARCH / "confirmations" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        did = confirm("family=moe")
    assert did.status == 2 and "another process confirms a candidate of example" in did.err and not did.ran
    with open(home / "runs" / "confirm-tiny-open.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        did = confirm("family=moe")
    assert did.status == 2 and "another process confirms a candidate of lane tiny-open" in did.err and not did.ran


def test_a_plan_typed_by_hand_counts_as_a_trial_and_keeps_its_budget(home, confirm):
    searched(home / SEARCH)
    did = confirm("family=dense", f"words=optim.muon.lr=0.07 budget.tokens={310 * STEP}")
    (it,) = confirmations(home)
    assert (it.trial, it.fit, it.trials, it.candidate.tokens) == (None, None, len(TRIALS) + 1, 310 * STEP)
    assert "nothing was fitted" in did.out
    confirm("family=moe", "fit=no")
    assert confirmations(home)[1].trials == len(TRIALS) + 1 and confirmations(home)[1].candidate.tokens == 300 * STEP


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["family=mo"], "search example has no family 'mo'", "did you mean moe?"),
        (["family=moe", "trial=tpe/9"], "search example has no trial 'tpe/9' of moe", "moe/tpe/1"),
        (["family=moe", "trial=1"], "trial 1 is in several arms", "trial=moe/tpe/1 or trial=moe/random/1"),
        (["trial=dense/tpe/2"], "trial dense/tpe/2 is pruned (not among the best)", 'words="'),
        (["family=dense", "pairs=2"], "pairs=2: nothing can be claimed of so few", "pairs=3 or more"),
        (["words=optim.muon.lr=0.1"], "words=... without a family", "FAMILY=dense|moe"),
        (["family=dense", f"words=budget.tokens={START}"], "is the incumbent, the start plan of dense", "nulls=50"),
        (["family=dense", "words=optim.moun.lr=0.1"], "unknown key 'optim.moun.lr'", "optim.muon.lr"),
        (["fit=maybe"], "fit=maybe", "one of yes, no"),
        (["nulls=50", "trial=tpe/1"], "trial with nulls", "leave trial out"),
        (["family=dense", "words=optim.muon.lr=0.1 seed=5"], "seed=5 in words", "leave seed=5 out"),
        (["family=dense", "words=lane=sotu-open"], "lane=sotu-open in words", "leave lane=sotu-open out"),
        (["family=dense", "words=unranked=true"], "unranked=true in words", "leave unranked=true out"),
        (["family=dense", "words=+track.target=xz_alone"], "which a confirmation sets itself", "leave +track.target"),
        (["family=dense", "words=validation.tokens=262144"], "which a confirmation sets itself", "leave validation.tokens"),
        (["family=dense", "words= "], "words= names no plan", 'words="optim.muon.lr=0.05"'),
        (["family=mo", "words=optim.muon.lr=0.1"], "space example has no family 'mo'", "did you mean moe?"),
        (["family=moe", "trial=tpe/1", "words=optim.muon.lr=0.1"], "trial and words are two candidates", "leave one"),
        (["abandon=1", "trial=tpe/1"], "trial with abandon=1", "leave trial out"),
        (["--from", SEARCH], "--from judges what its folder holds", "leave out everything else"),
    ],
)  # fmt: skip
def test_what_cannot_be_confirmed_is_named_and_nothing_is_run(home, confirm, words, said, remedy):
    pruned = trial("dense", "tpe", 2, 0.09, state="pruned", why="not among the best")
    searched(home / SEARCH, [*TRIALS, pruned])
    did = confirm(*words)
    assert did.status == 2 and said in did.err and remedy in did.err, did.err
    assert not did.ran and not confirmations(home)


def test_a_search_that_cannot_be_confirmed_yet_or_here_is_named(home, confirm):
    assert "no search of example: runs/search-example has no ledger.json" in confirm().err
    assert "unknown space 'exampel'" in confirm(name="exampel").err
    assert "no search is named" in confirm(name=None).err
    searched(home / SEARCH, slopes={"dense": SLOPE})
    assert "search example has no finished first trial of moe" in confirm("family=moe").err
    searched(home / SEARCH, [])
    assert "no trial of moe is complete" in confirm("family=moe").err
    searched(home / SEARCH, hardware_class="cpu-another")
    assert "was run on cpu-another, this plan would run on cpu-a-class" in confirm().err
    searched(home / SEARCH, space_sha256="ab" * 32)
    assert "is of another space than studies/spaces/example.yaml says now" in confirm().err


def test_a_tree_with_changes_confirms_nothing(home, confirm, monkeypatch):
    searched(home / SEARCH)
    monkeypatch.setattr(harness.launch.search.confirm_plan, "commit", lambda: ("c0" * 20, True))
    did = confirm("family=moe")
    assert did.status == 2 and "the source tree has uncommitted changes" in did.err and not confirmations(home)
    monkeypatch.setattr(harness.launch.search.confirm_plan, "commit", lambda: ("c0" * 20, False))
    confirm.trainer.stops_at = 1
    assert confirm("family=moe").status == 130
    confirm.trainer.stops_at = None
    monkeypatch.setattr(harness.launch.search.confirm_plan, "commit", lambda: ("c0" * 20, True))
    resumed = confirm()
    assert resumed.status == 2 and "the source tree has uncommitted changes" in resumed.err and not resumed.ran


def test_a_verdict_that_its_figures_do_not_give_is_found(home, confirm):
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    again = confirm("--from", SEARCH, name=None)
    assert again.status == 0 and "CHAMPION: all conditions hold" in again.out and "make submit" in again.out
    path = home / SEARCH / "confirmations" / "1.json"
    content = json.loads(path.read_text())
    for run in content["runs"]:
        run["seconds"] *= 3
    path.write_text(json.dumps(content))
    forged = confirm("--from", SEARCH, name=None)
    assert forged.status == 2 and "confirmation 1 says promoted, its figures give tie" in forged.err
    assert "champion.json is of confirmation 1, which promotes nothing of the kind" in forged.err


def test_null_candidates_are_run_once_whoever_asks_and_their_rates_are_printed(home, confirm):
    did = confirm("nulls=3")
    assert did.status == 0 and len(did.ran) == 3 * 6 and len(set(did.ran)) == 18, did.err
    nulls = read_nulls(home / SEARCH)
    assert [null.number for null in nulls.families["dense"].nulls] == [0, 1, 2]
    assert "| promoted | 0 | 0.0% | 0.0% to 56.1% | at most 1.0% |" in did.out
    with open(home / SEARCH / "nulls" / "dense" / "3.lock", "a") as lock:  # another process has the fourth
        fcntl.flock(lock, fcntl.LOCK_EX)
        more = confirm("nulls=5", "--out", "published")
    assert len(more.ran) == 6 and [null.number for null in read_nulls(home / SEARCH).families["dense"].nulls] == [0, 1, 2, 4]
    assert "4 null candidates of 3 pairs" in (home / "published" / "nulls.md").read_text()
    assert confirm("--from", "published", name=None).status == 0
    moe = confirm("nulls=1", "family=moe")
    assert moe.status == 0 and set(read_nulls(home / SEARCH).families) == {"dense", "moe"}
    assert "of another" not in moe.err and "in 4 pairs" not in moe.err
    others = confirm("nulls=5", "pairs=4")
    assert others.status == 2 and "in 3 pairs, asked is" in others.err and not others.ran


def test_nulls_that_another_process_has_all_of_are_said_to_be_under_way(home, confirm):
    (home / SEARCH / "nulls" / "dense").mkdir(parents=True)
    with open(home / SEARCH / "nulls" / "dense" / "0.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        did = confirm("nulls=1")
    assert did.status == 0 and "another process is at them" in did.out and not did.ran


def test_nulls_of_a_plan_that_never_passes_the_line_are_refused(home, confirm):
    confirm.trainer.comes_to = lambda plan, seed: noisy(plan, seed) | {"slice": 2.0}
    did = confirm("nulls=50")
    assert did.status == 2 and "above the line xz_given_train (1.6624) under every seed" in did.err and len(did.ran) == 6
    assert "raise budget.tokens of dense" in did.err


def test_what_is_known_of_noise_comes_from_null_candidates_of_the_search(home, confirm):
    searched(home / SEARCH)
    confirm("nulls=5")
    confirm("family=dense")
    it = confirmations(home)[0]
    assert it.known.source == "slice of earlier runs, seconds of earlier runs, gap of earlier runs"
    assert it.known.pair_seconds_sd == pytest.approx(0.014, rel=0.6) and it.known.slice_sd < 0.0035
    assert not {seed for seed in it.seeds if seed > 2000}
