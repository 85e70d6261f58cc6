"""What a confirmation counts on: seeds that nobody had, a holder that still holds the lane, the ledger that was chosen from."""

import shutil

import confirm_factory
from confirm_factory import SEARCH, START, TRIALS, confirmations, noisy, searched, trial
from confirm_factory import confirm_fixture as confirm_fixture
from confirm_factory import home_fixture as home_fixture

import harness.launch.search.confirm_plan
from harness.plan.compose import compose
from harness.reading import file_hash
from harness.record.confirmation_files import frozen_ledger, read_champion
from harness.record.ledger import read_ledger_file


def test_seeds_that_the_incumbent_had_elsewhere_are_not_fresh(home, confirm):
    """Its seconds would be of another day than the candidate's, and of runs that it may hold the lane by."""
    searched(home / SEARCH)
    start = compose(["lane=tiny-open", "run.mlflow=off", f"budget.tokens={START}", "seed=1002"]).plan
    confirm_factory.open_run(home / "runs", start, **noisy(start, 1002))
    did = confirm("family=dense")
    (it,) = confirmations(home)
    assert it.seeds == [1001, 1003, 1004] and len(did.ran) == 6


def test_seeds_of_a_confirmation_of_another_search_of_the_lane_are_not_fresh(home, confirm):
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    shutil.move(home / SEARCH, home / "runs" / "search-other")
    shutil.rmtree(home / "runs" / "tiny-open")
    searched(home / SEARCH)
    confirm("family=dense")
    assert confirmations(home)[0].seeds == [1006, 1007, 1008]


def test_what_was_interrupted_and_is_not_held_against_the_holder_any_more_makes_no_champion(home, confirm):
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    shutil.move(home / SEARCH, home / "another")
    searched(home / SEARCH)
    confirm.trainer.stops_at = 2
    assert confirm("family=dense", "pairs=5").status == 130
    confirm.trainer.stops_at = None
    shutil.move(home / "another", home / "runs" / "search-other")
    late = confirm()
    assert late.status == 2 and not late.ran and read_champion(home / SEARCH) is None
    assert "confirmation 1 holds trial dense/tpe/1 against the start plan of dense; since then" in late.err
    assert confirm("abandon=1").status == 0
    confirm("family=dense")
    assert confirmations(home)[1].incumbent.name == "champion of search example, confirmation 1"


def test_a_champion_whose_file_a_kill_prevented_is_written_by_the_next_call(home, confirm):
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    (path,) = (home / SEARCH).glob("champion.json")
    said = path.read_bytes()
    path.unlink()
    confirm("family=dense")
    assert path.read_bytes() == said
    assert confirmations(home)[1].incumbent.plan_hash == confirmations(home)[0].candidate.plan_hash


def test_the_ledger_that_is_kept_is_the_one_that_was_chosen_from(home, confirm, monkeypatch):
    searched(home / SEARCH)
    commits = harness.launch.search.confirm_plan.commit

    def goes_on():
        searched(home / SEARCH, [*TRIALS, trial("moe", "tpe", 2, 0.06, seconds=10.0)])  # the search does, meanwhile
        return commits()

    monkeypatch.setattr(harness.launch.search.confirm_plan, "commit", goes_on)
    confirm("family=moe")
    (it,) = confirmations(home)
    kept = read_ledger_file(frozen_ledger(home / SEARCH, 1))
    assert len(kept.trials) == it.trials == len(TRIALS) and it.ledger_sha256 == file_hash(frozen_ledger(home / SEARCH, 1))


def test_seeds_that_the_candidate_had_elsewhere_are_not_fresh(home, confirm):
    searched(home / SEARCH)
    plan = compose(["lane=tiny-open", "run.mlflow=off", "optim.muon.lr=0.07", "seed=1001"]).plan
    confirm_factory.open_run(home / "runs", plan, **noisy(plan, 1001))
    confirm("family=dense", "words=optim.muon.lr=0.07")
    assert confirmations(home)[0].seeds == [1002, 1003, 1004]
