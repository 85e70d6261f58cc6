"""What training reads where a plan turns its data (`data.*`): documents are chosen, replaced by noise, dropped and cut.

1. `sources`: of a track of several texts, which of them.
2. `noise`: documents are replaced until `noise_share` of the bytes stand in noise, of the kinds in turns.
3. `deduplicate`: of documents with equal bytes the first one stays.
4. `quality`: documents go in the order of their grades, the worst first, while `quality_keep` of the bytes stay.
5. `epochs`: documents are chosen at random until they fill the budget over `epochs` passes, to the byte. All sources have the
   passages of a chosen key.

Each source is one strand of sequences, noise another one where the order is staged; `mixed.py` makes batches of strands. All
choices are keyed by the seed and the documents, so that what one dial chooses does not move what another one does. A document
is a passage (`harness/data/texts/document.py`), and what no dial changes stands in the order of the track.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from harness.data.grades import read_grades
from harness.data.noise import noisy
from harness.data.texts.document import SEPARATOR, Document, joined, passages
from harness.errors import UserError
from harness.keyed import generator
from harness.plan.schema import Data

NOISE = "noise"  # the strand of it
TURNED = ("sources", "weights", "deduplicate", "quality", "epochs", "order")  # keys of `data` that change what is read


@dataclass(frozen=True)
class Strand:
    """Text that sequences are read from, uint8. `share`: of the sequences of a run."""

    name: str
    text: np.ndarray
    share: float


@dataclass(frozen=True)
class Turned:
    """`strands` in their order. `staged`: one after the other. `facts`: what was done, for the record."""

    strands: tuple[Strand, ...]
    staged: bool
    facts: dict[str, Any] = field(default_factory=dict)


def turns(data: Data) -> bool:
    """Whether a plan reads anything else than the whole train of its track: noise of no share is scored alone."""
    return bool(data.noise_share) or any(getattr(data, key) != getattr(Data(), key) for key in TURNED)


def turned(data: Data, texts: Mapping[str, Sequence[Document]], seed: int, budget: int, sequence_length: int) -> Turned:
    """`texts`: the documents of train of each source of the track, in its order; `budget`: tokens of the run.

    Raises: UserError for a source that the track has not, grades that are not of these documents, and a train that is too short
    for what is asked of it.
    """
    of_source = {name: [p for document in texts[name] for p in passages(document)] for name in _chosen(data, texts)}
    facts: dict[str, Any] = {"documents": sum(map(len, of_source.values()))}
    if data.noise_share:
        of_source = {name: _plant(data, name, documents, seed) for name, documents in of_source.items()}
    if data.deduplicate:
        of_source, facts["duplicates"] = _deduplicated(of_source)
    if data.quality:
        of_source, facts["graded_out"] = _best(data, of_source)
    if data.epochs:
        of_source = _cut(data, of_source, seed, budget, sequence_length)
    if not any(of_source.values()):
        raise UserError("nothing is left of train", "keep more of it: data.quality_keep, data.sources")
    strands = tuple(_strands(data, of_source))
    kept = [document for documents in of_source.values() for document in documents]
    facts |= {
        "kept": len(kept),
        "noise_bytes": sum(len(document.text) for document in kept if document.noise),
        "read_bytes": sum(len(strand.text) for strand in strands),
        "read_sha256": sha256(b"".join(strand.text.tobytes() for strand in strands)).hexdigest(),
        "shares": {strand.name: strand.share for strand in strands},
    }
    return Turned(strands, data.order == "staged", facts)


def _chosen(data: Data, texts: Mapping[str, Sequence[Document]]) -> list[str]:
    for name in data.sources:
        if name not in texts:
            raise UserError(f"data.sources names {name!r}, which the track has not", f"it has {', '.join(texts)}")
    return data.sources or list(texts)


def in_random_order(keys: Sequence[str], seed: int, *purpose: str) -> list[str]:
    """Each key once, in an order that is keyed by (seed, purpose) and by the key alone: another set of keys has these in the
    same order."""
    words = {key: generator(seed, *purpose, key).bit_generator.random_raw() for key in dict.fromkeys(keys)}
    return sorted(words, key=lambda key: (words[key], key))


def _plant(data: Data, name: str, documents: list[Document], seed: int) -> list[Document]:
    """Documents with noise in the place of `noise_share` of their bytes, of each kind as many documents as of the others."""
    places = {document.key: place for place, document in enumerate(documents)}
    wanted, planted = data.noise_share * sum(len(document.text) for document in documents), 0
    found = list(documents)
    for number, key in enumerate(in_random_order(list(places), seed, NOISE, name)):
        size = len(documents[places[key]].text)
        if planted + size / 2 > wanted:
            break
        planted += size
        found[places[key]] = noisy(data.noise[number % len(data.noise)], documents[places[key]], documents, seed)
    return found


def _deduplicated(of_source: dict[str, list[Document]]) -> tuple[dict[str, list[Document]], int]:
    seen: set[bytes] = set()
    found, dropped = {}, 0
    for name, documents in of_source.items():
        found[name] = []
        for document in documents:
            digest = sha256(document.text).digest()
            if digest in seen:
                dropped += 1
            else:
                found[name].append(document)
            seen.add(digest)
    return found, dropped


def _best(data: Data, of_source: dict[str, list[Document]]) -> tuple[dict[str, list[Document]], int]:
    """Documents but for the worst graded, which hold 1 - `quality_keep` of the bytes; ties go by source and key."""
    grades = read_grades(data.quality, data.quality_sha256, of_source)
    graded = sorted(
        (grades[name, document.key], name, document.key, len(document.text))
        for name, documents in of_source.items()
        for document in documents
    )
    surplus, dropped = (1 - data.quality_keep) * sum(size for *_, size in graded), set()
    for _, name, key, size in graded:
        if size / 2 > surplus:
            break
        surplus -= size
        dropped.add((name, key))
    kept = {name: [d for d in documents if (name, d.key) not in dropped] for name, documents in of_source.items()}
    return kept, len(dropped)


def _cut(
    data: Data, of_source: dict[str, list[Document]], seed: int, budget: int, sequence_length: int
) -> dict[str, list[Document]]:
    """As many random documents as the budget reads `epochs` times: whole windows of training, and the byte before them."""
    groups = [[name] for name in of_source] if data.weights else [list(of_source)]
    total, found = sum(data.weights), {}
    for number, group in enumerate(groups):
        share = data.weights[number] / total if data.weights else 1
        windows = int(budget * share / data.epochs) // sequence_length
        if windows < 1:
            a_pass = budget * share / data.epochs
            raise UserError(
                f"a pass of data.epochs={data.epochs} of budget.tokens={budget} has {a_pass:,.0f}, less than one sequence",
                f"choose at most {max(int(budget * share) // sequence_length, 1)} epochs, or a larger budget",
            )
        found |= _filled({name: of_source[name] for name in group}, windows * sequence_length + sequence_length, seed, data)
    return found


def _filled(of_source: dict[str, list[Document]], wanted: int, seed: int, data: Data) -> dict[str, list[Document]]:
    """Documents of random keys whose text, joined, has exactly `wanted` bytes, in the order that they had; the last is cut."""
    at = {name: {document.key: place for place, document in enumerate(documents)} for name, documents in of_source.items()}
    chosen: dict[str, dict[int, Document]] = {name: {} for name in of_source}
    left = wanted + len(SEPARATOR)
    for key in in_random_order([key for places in at.values() for key in places], seed, "epochs"):
        for name in of_source:
            if key in at[name] and left > len(SEPARATOR):
                document = of_source[name][at[name][key]]
                text = document.text[: left - len(SEPARATOR)]
                chosen[name][at[name][key]] = Document(key, text, document.noise)
                left -= len(text) + len(SEPARATOR)
    if left > len(SEPARATOR):
        raise UserError(
            f"a pass of data.epochs={data.epochs} takes {wanted:,} bytes of train, and {' and '.join(of_source)} "
            f"{'have' if len(of_source) > 1 else 'has'} {wanted - left + len(SEPARATOR):,}",
            "choose more epochs, a smaller budget.tokens, or more of data.sources",
        )
    return {name: [documents[place] for place in sorted(documents)] for name, documents in chosen.items()}


def _strands(data: Data, of_source: dict[str, list[Document]]) -> list[Strand]:
    """One of all text, or as many as are mixed or follow each other. With weights noise stays in its source."""
    parts = dict(of_source)
    if data.order == "staged" and not data.weights:
        spoilt = [document for documents in of_source.values() for document in documents if document.noise]
        clean = {name: [d for d in documents if not d.noise] for name, documents in of_source.items()}
        parts = ({NOISE: spoilt} if spoilt else {}) | {name: documents for name, documents in clean.items() if documents}
    elif not data.weights:
        parts = {"all": [document for documents in of_source.values() for document in documents]}
    texts = {name: np.frombuffer(joined(documents), np.uint8) for name, documents in parts.items()}
    shares = dict(zip(texts, data.weights)) if data.weights else {name: len(text) for name, text in texts.items()}
    total = sum(shares.values())
    return [Strand(name, text, shares[name] / total) for name, text in texts.items() if shares[name]]
