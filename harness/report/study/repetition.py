"""What reading the same text again and again does to train and val, case by case."""

from collections.abc import Mapping, Sequence

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import Sample
from harness.report.study.families import dials, in_percent, percents, sample
from harness.report.study.interaction import of_changes
from harness.report.study.trials import Trial, val_bpb


def passes(trial: Trial) -> str:
    """ "16"; "fresh" where the budget does not reach the end of what is read, so that nothing is read twice."""
    if trial.train.passes:
        return str(trial.train.passes)
    size = trial.train.read_bytes or trial.plan["track"]["train_bytes"]
    return "fresh" if trial.plan["budget"]["tokens"] <= size else "all of train"


def read_once(study: Study, trials: Sequence[Trial]) -> dict[str, str]:
    """By case: the case of its family that reads whole passages once, where there is one."""
    once = {trial.case for trial in trials if trial.train.passes == 1}
    found = {}
    for base, cases in dials(study).values():
        of_family = [base, *cases.values()]
        found |= {case: one for one in of_family if one in once for case in of_family}
    return found


def gap(trial: Trial) -> float | None:
    """Bits of val more than bits of train."""
    bits, train = val_bpb(trial), trial.train.last_bits
    return None if bits is None or train is None else bits - train


def train_unit(trial: Trial) -> str:
    return "bits per byte" if trial.counts_bytes else "bits per token"


def repetition_table(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of a study that is not about epochs, or before a run has finished."""
    if study.figure != "epochs" or not any(trial.record for trial in trials):
        return []
    once = read_once(study, trials)
    header = ("case", "passes", "bytes of text", "train", "val", "val - train", *(["against one pass"] if once else []))
    rows = [_row(case, some, trials, once) for case in study.cases if (some := _finished(trials, case))]
    said = (
        f"Train: {train_unit(trials[0])} of the last sixteenth of training, which of 16 passes is the last one, each batch "
        "scored before it is trained with. Mean ± sd over seeds; a seed chooses the text that is repeated."
    )
    if once:
        said += (
            " Fresh text is random windows of all of train, repeated text whole passages: what is chosen costs something by "
            "itself, which one pass over it tells. Against one pass: val in % at equal seeds, and the 95% interval."
        )
    return ["", text(said), "", *head(header), *rows, *_against_one_pass(study, trials, once)]


def _against_one_pass(study: Study, trials: Sequence[Trial], once: Mapping[str, str]) -> list[str]:
    """Whether repetition alone costs one family more: the choice of passages falls out. Lines of Markdown; none of one family,
    or where one of them has no case of one pass."""
    changes = {}
    for dial in study.dials:
        cases = [f"{family}-{dial}" for family in study.families]
        if all(once.get(case, case) != case for case in cases):
            changes[dial] = [percents(trials, once[case], case) for case in cases]
    said = (
        "Repetition alone: what a dial changes of {measure} of val against one pass over whole passages, at equal seeds, in %: "
        "mean, and the {level:.0%} interval of it."
    )
    return of_changes(study, trials, changes, said)


def _finished(trials: Sequence[Trial], case: str) -> list[Trial]:
    return [trial for trial in trials if trial.case == case and trial.record]


def _row(case: str, some: Sequence[Trial], trials: Sequence[Trial], once: dict[str, str]) -> str:
    sizes = sorted({trial.train.read_bytes for trial in some if trial.train.read_bytes})
    read = " or ".join(f"{size:,}" for size in sizes) or f"{some[0].plan['budget']['tokens']:,}"
    figures = [[value for trial in some if (value := of(trial)) is not None] for of in (_last, val_bpb, gap)]
    cells = [Sample.of(found).text("{:.4f}") if found else "-" for found in figures]
    against = percents(trials, once[case], case) if case in once and once[case] != case else {}
    over = sample(against)
    return row([text(case), passes(some[0]), read, *cells, *([in_percent(over) if over else "-"] if once else [])])


def _last(trial: Trial) -> float | None:
    return trial.train.last_bits
