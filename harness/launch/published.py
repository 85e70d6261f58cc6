"""What others published of a lane's shape, to stand beside what is expected of it here."""

from textwrap import fill

from harness.plan.compose import Composed
from harness.report.anchors import anchors_of_lane, read_anchors

WIDTH = 128
SHAPE = ("model.", "attention.")  # keys


def published(composed: Composed) -> list[str]:
    """Lines: by protocol every figure, of which kind it is and where it stands. None where nobody published one, or where the
    plan has not the lane's shape."""
    lane, said = composed.plan.lane.name, []
    if any(key.startswith(SHAPE) for key in composed.broken):
        return said
    for protocol, anchors in anchors_of_lane(lane).items():
        what = f"published elsewhere of the shape of {lane}, nothing of it measured here: {read_anchors().protocols[protocol]}"
        said.append(_filled(what, "", 2))
        metric = max(len(anchor.metric) for anchor in anchors)
        hardware = max(len(anchor.hardware or "") for anchor in anchors)
        for anchor in anchors:
            head = f"  {anchor.metric:<{metric}}{anchor.value:>15,.10g}  {anchor.hardware or '':<{hardware}}  "
            note = f" ({anchor.note})" if anchor.note else ""
            said.append(_filled(f"{anchor.kind}: {anchor.source}{note}", head, len(head)))
    return said


def _filled(text: str, head: str, indent: int) -> str:
    return fill(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
