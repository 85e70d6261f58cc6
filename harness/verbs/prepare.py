"""Loads and checks a track's data and recomputes its classical lines.

usage: python -m harness prepare [TRACK]        default tiny
       make prepare TRACK=sotu

The first call takes about a minute (xz twice over all of train, PPMd, a 7-gram); results are cached under
SPEEDRUN_CACHE (default ~/.cache/moe-speedrun), keyed by data hashes. `speedrun` does the same before it trains.
"""

from harness.errors import UserError, nearest

SUMMARY = "data checked against its hashes, classical lines recomputed"


def main(arguments: list[str]) -> int:
    from harness.data.prepare import prepare
    from harness.plan.compose import compose
    from harness.plan.lanes import TRACKS, lane_names

    tracks = sorted(path.stem for path in TRACKS.glob("*.yaml"))
    name = arguments[0] if arguments else "tiny"
    if len(arguments) > 1 or name not in tracks:
        raise UserError(f"unknown track {' '.join(arguments)!r}", nearest(name, tracks))
    lane = next(lane for lane in lane_names() if lane.startswith(f"{name}-"))
    report = prepare(compose([f"lane={lane}"]).plan.track, print)
    print(f"track {report.track}: corpus {report.corpus} {report.release}")
    for split, size in report.sizes.items():
        print(f"  {split:<6}{size:>12,} bytes   {report.hashes.get(split, '')}")
    print(f"  {'line':<18}{'slice':>8}{'recomputed':>12}{'all val':>10}{'recomputed':>12}   bits per byte")
    for line in report.lines:
        found = [f"{value:.4f}" for value in line.recomputed] if line.recomputed else ["-", "-"]
        print(f"  {line.stated.label:<18}{line.stated.slice:>8.4f}{found[0]:>12}{line.stated.val:>10.4f}{found[1]:>12}")
    for part, share in report.clean_share.items():
        print(f"  {share:.2%} of {part} shares no 13-word sequence with train")
    print("  took " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in report.seconds.items()))
    return 0
