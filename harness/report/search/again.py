"""The verdicts in a folder of a search, judged anew from the figures beside them."""

from pathlib import Path

from harness.errors import UserError
from harness.record.confirmation_files import read_champion, read_confirmations, read_nulls
from harness.record.confirmations import JUDGED, PROMOTED, Confirmation, Nulls
from harness.report.search.nulls import nulls_text
from harness.report.search.verdict import judge
from harness.report.search.verdict_text import champion_text, plan_text, verdict_text


def problems_in(folder: Path) -> tuple[list[str], list[str]]:
    """What the folder says, in lines, and a sentence for each verdict that its figures do not give.

    Raises:
        UserError: it holds neither confirmations nor nulls, or a damaged one.
    """
    confirmations, nulls, champion = read_confirmations(folder), read_nulls(folder), read_champion(folder)
    if not confirmations and nulls is None:
        raise UserError(
            f"{folder} holds no confirmations and no nulls", "name runs/search-NAME, or a folder it was published to"
        )
    said: list[str] = []
    problems = [problem for it in confirmations for problem in _of_confirmation(it)]
    for it in confirmations:
        said += [*plan_text(it), *(verdict_text(it, confirmations) if it.state == JUDGED else [f"it is {it.state}"]), ""]
    if champion:
        made_by = next((it for it in confirmations if it.number == champion.number), None)
        if made_by is None or made_by.state != JUDGED or made_by.verdict.outcome != PROMOTED or made_by.runs != champion.runs:
            problems.append(f"champion.json is of confirmation {champion.number}, which promotes nothing of the kind")
        said += [*champion_text(champion), ""]
    if nulls:
        problems += _of_nulls(nulls)
        said += [nulls_text(nulls)]
    return said, problems


def _of_confirmation(it: Confirmation) -> list[str]:
    if it.state != JUDGED:
        return []
    found = judge(
        it.runs, it.against, level=it.level, alpha=it.power.alpha, entropy=it.entropy, ranks=it.ranks, slope=it.slope,
        stopped=it.stopped,
    )  # fmt: skip
    same = (found.outcome, found.failed) == (it.verdict.outcome, it.verdict.failed)
    return [] if same else [f"confirmation {it.number} says {it.verdict.outcome}, its figures give {found.outcome}"]


def _of_nulls(it: Nulls) -> list[str]:
    wrong = []
    for family, of in it.families.items():
        for null in of.nulls:
            found = judge(null.runs, null.against, level=it.level, alpha=it.alpha, entropy=it.entropy, ranks=it.ranks)
            if (found.outcome, found.failed) != (null.verdict.outcome, null.verdict.failed):
                wrong.append(f"null {null.number} of {family} says {null.verdict.outcome}, its figures give {found.outcome}")
        seeds = [run.seed for null in of.nulls for run in (*null.runs, *null.against)]
        if len(set(seeds)) < len(seeds):
            wrong.append(f"null candidates of {family} share seeds")
    return wrong
