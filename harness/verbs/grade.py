"""Grades the documents that a plan trains on, so that data.quality can leave the worst out, and ranks the grader itself.

usage: python -m harness grade [by=worst_rank] [out=grades.jsonl] [key=value ...]
       make grade LANE=sotu-dense [BY=compression] [OUT=grades.jsonl] SET="data.noise=[boilerplate] data.noise_share=0.2"

examples
  python -m harness grade lane=sotu-dense                                                every passage of train
  python -m harness grade lane=sotu-dense "data.noise=[boilerplate,random_bytes]" data.noise_share=0.2 seed=2
  python -m harness grade lane=sotu-dense by=repetition data.deduplicate=true out=repetition.jsonl

Documents are the passages of train after data.sources, data.noise and data.deduplicate; which of them are noise depends on the
seed, so that these grades are of one seed. For several, write a file each and join them: cat 1.jsonl 2.jsonl > grades.jsonl.
Graders (harness/data/grader; more is better):
  compression  how near the median a passage compresses, other passages being the dictionary
  perplexity   bits per byte by a model of n-grams that is counted on other passages
  repetition   the share of sequences of 8 words that come elsewhere too
  worst_rank   the lowest of the ranks by these three

Where noise is planted a table says, for each kind of it, how often each grader puts a clean passage above a passage of noise
(AUC, with a 95% interval): 1 is always, 0.5 is chance, and below that it prefers the noise. The words that use the file follow.
A file that somebody else wrote is used by the same words: harness/data/grades.py has its format. make grade needs no
unranked=true, a run that is left with a part of train does.
"""

import time
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, Word, Words, choice
from harness.plan import parts

WORDS = Words(
    "grade", Word("by", choice(*parts.names("grader")), "worst_rank"), Word("out", PATH, Path("grades.jsonl")), plan=True
)  # fmt: skip
SUMMARY = "grades of the passages of train, for data.quality, and how well they find planted noise"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    from harness.data import grades
    from harness.data.corpora import wanted_by
    from harness.data.corpora.bytes import to_grade
    from harness.data.grader import graded
    from harness.files import file_sha256, replace_atomically
    from harness.plan.compose import compose

    plan = compose(["unranked=true", *own.plan]).plan
    if plan.track.tokens.tokenizer:
        raise UserError(f"lane {plan.lane.name} is of track {plan.track.name}, which is no track of bytes", "lane=sotu-dense")
    documents = [(name, document) for name, some in to_grade(wanted_by(plan), None).items() for document in some]
    planted = {document.noise for _, document in documents}
    kinds = [kind for kind in plan.data.noise if kind in planted and "" in planted]
    print(f"{len(documents):,} passages of train of track {plan.track.name}, seed {plan.seed}")
    by_grader = {}
    for name in parts.names("grader") if kinds else [own.by]:
        start = time.perf_counter()
        by_grader[name] = graded(name, [document.text for _, document in documents])
        print(f"  by {name:<12}{time.perf_counter() - start:6.1f} s", flush=True)
    if kinds:
        print("\n".join(["", *_table(kinds, [document.noise for _, document in documents], by_grader)]))
    seed = plan.seed if plan.data.noise_share else None
    content = "".join(grades.line(*place, float(grade), seed) for place, grade in zip(documents, by_grader[own.by]))
    try:
        replace_atomically(own.out, [content.encode()])
    except OSError as error:
        raise UserError(f"cannot write {own.out}: {error.strerror or error}", "name another file with out=FILE") from error
    keep = 1 - plan.data.noise_share if kinds else 0.8
    of_seed = "" if seed is None else f" with the same noise and seed={seed}"
    print(f"\nwritten: {own.out}, the grades by {own.by}. To leave the worst out{of_seed}:")
    print(f"  data.quality={own.out} data.quality_sha256={file_sha256(own.out)} data.quality_keep={keep:g}")
    return 0


def _table(kinds, noise, by_grader) -> list[str]:
    """Text: a row a kind of noise, a column a grader. `noise`: the kind of each document, "" of a clean one."""
    import numpy as np

    from harness.data.planted import auc

    noise = np.array(noise)
    lines = ["How often a clean passage is graded above noise (AUC, 95% interval over passages; 0.5 is chance):"]
    lines += [f"  {'noise':<16}{'passages':>9}" + "".join(f"   {name:<24}" for name in by_grader)]
    for kind in kinds:
        cells = [auc(grades[noise == ""], grades[noise == kind]) for grades in by_grader.values()]
        lines.append(f"  {kind:<16}{(noise == kind).sum():>9,}" + "".join(f"   {cell!s:<24}" for cell in cells))
    return [line.rstrip() for line in lines]
