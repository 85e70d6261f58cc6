"""A claim of a plan that a search found says so, and is held against the published ledger."""

import json
import shutil

import pytest
from confirm_factory import SEARCH, START, STEP, TRIALS, confirmations, noisy, open_run, searched
from confirm_factory import confirm_fixture as confirm_fixture
from confirm_factory import home_fixture as home_fixture

from harness.__main__ import main
from harness.plan.compose import compose
from harness.record.ledger import LEDGER, ledger_hash
from harness.report.board.claims import check_claims
from harness.report.board.gather import gather
from harness.report.board.sentences import about


def claim_of(home):
    (path,) = (home / "results" / "tiny-open").glob("claim-*.json")
    return path, json.loads(path.read_text())


def runs_of(home, words, seeds=(1, 2, 3)):
    folders = []
    for seed in seeds:
        plan = compose(["lane=tiny-open", "run.mlflow=off", *words, f"seed={seed}"]).plan
        folders.append(str(open_run(home / "runs", plan, **noisy(plan, seed))))
    return folders


@pytest.fixture(name="claimed")
def claimed_fixture(home, confirm):
    """A champion that was submitted, and the ledger that went on after it: its confirmation and its claim."""
    searched(home / SEARCH)
    assert confirm("family=moe", "pairs=5").status == 0
    (it,) = confirmations(home)
    searched(home / SEARCH, TRIALS[:2])  # the search went on, in its way
    assert main(["submit", *(run.folder for run in it.runs)]) == 0
    return it, *claim_of(home)


def test_a_confirmed_plan_is_claimed_with_its_search_as_it_was_when_it_was_chosen(claimed, home):
    it, _, claim = claimed
    assert claim["search"] == {
        "name": "example", "trials": len(TRIALS), "runs": len(TRIALS), "confirmations": 1, "ledger_sha256": it.ledger_sha256
    }  # fmt: skip
    assert claim["tuning_trials"]["declared"] == len(TRIALS) - 1
    assert it.ledger_sha256 != ledger_hash(home / SEARCH)
    standing = next(s for board in gather([home / "results"]).boards for s in board.standings)
    board = next(board for board in gather([home / "results"]).boards)
    assert any(
        "which stands among 3 trials of search example (3 runs, 1 confirmation)" in line for line in about(standing, board)
    )


def test_a_claim_is_held_against_the_published_ledger(claimed, home):
    _, path, claim = claimed
    assert check_claims(home / "results") == []
    published = home / "results" / "searches" / "example"
    shutil.copytree(home / SEARCH, published)
    assert check_claims(home / "results") == []
    fewer = claim | {"search": claim["search"] | {"trials": 2}}
    path.write_text(json.dumps(fewer))
    assert check_claims(home / "results")[0].endswith("1.ledger.json has 3") and len(check_claims(home / "results")) == 1
    path.write_text(json.dumps(claim))
    shutil.rmtree(published / "confirmations")
    (wrong,) = check_claims(home / "results")
    assert "the ledger of its search is none of those in" in wrong and str(path) in wrong


def test_a_trial_of_a_ledger_is_found_at_any_budget_and_other_plans_are_not(home, confirm):
    searched(home / SEARCH)
    words = [word for word in TRIALS[0].words if not word.startswith("budget")]
    assert main(["submit", *runs_of(home, [*words, f"budget.tokens={333 * STEP}"])]) == 0
    _, claim = claim_of(home)
    assert claim["search"]["ledger_sha256"] == ledger_hash(home / SEARCH) and claim["search"]["confirmations"] == 0
    shutil.rmtree(home / "results")
    assert main(["submit", *runs_of(home, ["optim.muon.lr=0.011", f"budget.tokens={START}"])]) == 0
    assert "search" not in claim_of(home)[1] and claim_of(home)[1]["tuning_trials"]["declared"] is None
    assert (home / SEARCH / LEDGER).exists()


def test_the_ledger_of_a_claim_is_published_however_often_the_search_writes_it_anew(home, confirm):
    searched(home / SEARCH)
    assert main(["submit", *runs_of(home, TRIALS[0].words)]) == 0
    searched(home / SEARCH, commit="d1" * 20)
    shutil.copytree(home / SEARCH, home / "results" / "searches" / "example")
    assert check_claims(home / "results") == []
