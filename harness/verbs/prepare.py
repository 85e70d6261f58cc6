"""Fetches, checks and tokenizes a track's data, and recomputes its classical lines.

usage: python -m harness prepare [TRACK] [--from PATH] [--as-bin FOLDER] [--tokens N] [--figure PNG]        default tiny
       make prepare TRACK=sotu

examples
  python -m harness prepare wiki                       from SPEEDRUN_MIRROR, else rebuilt from its public source; a minute
  python -m harness prepare wiki --from wikiVisual     rebuilt from a checkout or a .tar.gz of that source
  python -m harness prepare wiki --as-bin shards       and written as token files, for data.shards=shards
  python -m harness prepare fineweb --tokens 300000000     only as many files as a budget of so many tokens reads
  python -m harness prepare renderings --figure runs/renderings.png    what its sources give away of each other, drawn

Results are cached under SPEEDRUN_CACHE (default ~/.cache/moe-speedrun), keyed by data hashes: a second call computes nothing,
one that was cut off goes on after the last finished file. `speedrun` does the same before it trains.
"""

from dataclasses import asdict, replace
from pathlib import Path

from harness.errors import UserError
from harness.launch.options import PATH, TEXT, Names, Word, Words, whole

WORDS = Words(
    "prepare", Word("from", PATH), Word("as-bin", PATH), Word("tokens", whole()), Word("figure", PATH),
    names=Names("track", TEXT, most=1),
)  # fmt: skip
MANY = "leave it out, or `make prepare TRACK=renderings SET=--figure=PNG`"
SUMMARY = "data fetched, checked and tokenized, classical lines recomputed"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    from harness.data.prepare import prepare
    from harness.plan.lanes import read_track

    track = read_track(own.names[0] if own.names else "tiny")
    if source := vars(own)["from"]:
        _rebuild(track, str(source))
    if own.figure and not track.sources:
        raise UserError(f"track {track.name} has one source, and --figure draws what sources give away of each other", MANY)
    wanted = _of_longest_lane(track)
    report = prepare(wanted if own.tokens is None else replace(wanted, budget_tokens=own.tokens), print)
    print(_text(report))
    if own.figure:
        from harness.report.source_overlap import draw

        print(f"written: {draw(track.name, asdict(report.sources), own.figure)}")
    if own.as_bin:
        _write_bin(track, own.as_bin)
    return 0


def _rebuild(track, source: str) -> None:
    from harness.data.corpora.documents import REBUILDERS

    if track.corpus not in REBUILDERS:
        raise UserError(f"track {track.name} is not rebuilt from a source", f"--from is for {', '.join(REBUILDERS)}")
    REBUILDERS[track.corpus][1](track.tokens.files, source, print)


def _of_longest_lane(track):
    """What the longest lane of the track wants: its data must last for that."""
    from harness.data.corpora import Wanted, wanted_by
    from harness.plan.compose import compose
    from harness.plan.lanes import lane_names

    plans = [plan for lane in lane_names() if (plan := compose([f"lane={lane}"]).plan).track.name == track.name]
    longest = max(plans, key=lambda plan: plan.budget.tokens, default=None)
    return replace(wanted_by(longest), track=track) if longest else Wanted(track)


def _write_bin(track, folder: Path) -> None:
    from harness.data.corpora import Wanted, load
    from harness.data.shards import write_shards

    if track.tokens.format not in ("jsonl", "parquet"):
        raise UserError(f"track {track.name} has no documents to write as token files", "--as-bin is for wiki and wikitext")
    corpus = load(Wanted(track))
    for split, documents in (("train", corpus.train_documents), ("val", corpus.val_documents)):
        pieces = documents.pieces(corpus.tokenizer.end_of_text)
        for path in write_shards(folder, f"{track.name}_{split}", pieces):
            print(f"written: {path}")
    print(f'make speedrun LANE=dense SET="unranked=true budget.tokens=65536 data.shards={folder}"')


def _text(report) -> str:
    lines = [f"track {report.track}: corpus {report.corpus} {report.release}"]
    for split, size in report.sizes.items():
        amount = "no end of" if size is None else f"{size:,}"
        lines.append(f"  {split:<6}{amount:>14} {report.unit}   {report.hashes.get(split, '')}")
    if report.lines:
        lines.append(f"  {'line':<18}{'slice':>8}{'recomputed':>12}{'all val':>10}{'recomputed':>12}   bits per byte")
    for line in report.lines:
        found = [f"{value:.4f}" for value in line.recomputed] if line.recomputed else ["-", "-"]
        stated = f"  {line.stated.label:<18}{line.stated.slice:>8.4f}{found[0]:>12}{line.stated.val:>10.4f}{found[1]:>12}"
        lines.append(stated)
    lines += [f"  {name:<10}{fact}" for name, fact in report.facts.items()]
    lines += _between(report.sources) if report.sources else []
    lines += [f"  {share:.2%} of {part} shares no 13-word sequence with train" for part, share in report.clean_share.items()]
    lines.append("  took " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in report.seconds.items()))
    return "\n".join(lines)


def _between(found) -> list[str]:
    """What the sources of a track give away of each other: a row is val of a source."""
    columns = "".join(f"{name:>10}" for name in found.sources)
    counts = ", ".join(f"{name} {train:,} + {val:,}" for name, (train, val) in found.documents.items())
    lines = [f"  documents of train + val: {counts}; their keys are {'the same' if found.alike else 'not the same'} in all"]
    lines += [f"  bytes of val in 13-word sequences of train of {columns[2:]}"]
    lines += [_row(name, "", [f"{share:.2%}" for share in row]) for name, row in zip(found.sources, found.shared_YX)]
    if found.alone_Y is None:
        return [*lines, "  what the same documents give away is not computed: pip install pyppmd"]
    for title, rows in (("val", found.given_val_YX), ("as much of train", found.given_train_YX)):
        lines += [f"  {f'bits per byte of val by PPMd: alone, given {title} of':<44}{columns}"]
        for name, alone, row in zip(found.sources, found.alone_Y, rows):
            lines.append(_row(name, f"{alone:.4f}", [f"{value:.4f}" if value else "-" for value in row]))
    return lines


def _row(name: str, first: str, cells: list[str]) -> str:
    return f"    {name:<10}{first:>32}" + "".join(f"{cell:>10}" for cell in cells)
