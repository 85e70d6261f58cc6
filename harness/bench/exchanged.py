"""Bytes that ranks hand each other over a layer's forward and backward, from how many rows each has for each expert: what
`harness/model/transport/all_to_all.py` exchanges.

Letters: P ranks, E experts, N = E/P of each. Rows from a rank to itself are handed over too, and cross no wire.
"""

from torch import Tensor

WORD = 8  # bytes of a count, of which a message has three more: where noise begins, the largest magnitude, a fault
FP32 = 4  # of a routing weight and its gradient

Sent = dict[str, dict[str, Tensor]]  # of either way, by phase: int64 (P, P), bytes from each to each


def exchanged(count_PE: Tensor, width: int, size: int) -> Sent:
    """What a layer hands over in a format that looks at a row alone. `count_PE`: int64, the rows of each source for each
    expert; `width` numbers of `size` bytes are a row."""
    ranks = len(count_PE)
    rows_PP = count_PE.view(ranks, ranks, -1).sum(2)
    counts_PP = rows_PP.new_full((ranks, ranks), WORD * (count_PE.shape[1] // ranks + 3))
    row = width * size
    return {
        "forward": {"counts": counts_PP, "dispatch": rows_PP * (row + FP32), "return": rows_PP.T * row},
        "backward": {"counts": counts_PP, "dispatch": rows_PP * row, "return": rows_PP.T * (row + FP32)},
    }


def per_rank(sent_PP: Tensor) -> float:
    """Bytes that a rank hands over, on the mean."""
    return float(sent_PP.sum()) / len(sent_PP)


def leaving(sent_PP: Tensor) -> float:
    """Those of them that are for others."""
    return float(sent_PP.sum() - sent_PP.trace()) / len(sent_PP)


def busiest(sent: Sent) -> int:
    """Bytes that wires take in turn: phase by phase those of the rank that sends or gets most."""
    crossing = [of - of.diag().diag() for phases in sent.values() for of in phases.values()]
    return sum(int(max(of.sum(1).max(), of.sum(0).max())) for of in crossing)


def skew(count_PE: Tensor) -> dict[str, float]:
    """The most rows over the mean: of an owner, and of an expert. Without a row 1."""
    ranks = len(count_PE)
    rows_E = count_PE.sum(0).double()
    of = {"owners": rows_E.view(ranks, -1).sum(1), "experts": rows_E}
    return {name: float(rows.max() / rows.mean()) if float(rows.sum()) else 1.0 for name, rows in of.items()}
