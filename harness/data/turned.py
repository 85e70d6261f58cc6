"""What training reads where a plan turns its data (`data.*`): documents are chosen, replaced by noise, dropped and cut.

1. `sources`: of a track of several texts, which of them; one of weight 0 is none of them.
2. `noise`: documents are replaced until `noise_share` of the bytes are noise, of the kinds in turns.
3. `deduplicate`: of documents with equal bytes the first one stays.
4. `quality`: documents go in the order of their grades, the worst first, while `quality_keep` of the bytes stay.
5. `epochs`: documents are chosen at random until they fill the budget over `epochs` passes, to a byte or two. All sources have
   the passages of a chosen key. With weights it is each source that is passed over so often, and a staged strand is read again
   for one window more than it has, since windows end where it does.

Each source is one strand of sequences, noise another one where the order is staged; `mixed.py` makes batches of strands. All
choices are keyed by the seed and the documents, so that what one dial chooses does not move what another one does. A document
is a passage (`harness/data/texts/document.py`), and what no dial changes stands in the order of the track.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from harness.data.grades import read_grades
from harness.data.noise import noisy
from harness.data.texts.document import SEPARATOR, Document, joined, passages
from harness.errors import UserError
from harness.keyed import generator
from harness.plan.schema import Data
from harness.plan.track import Source

Sources = dict[str, list[Document]]  # the documents of each, in the order of the track

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


def with_weights(data: Data, sources: Mapping[str, Source]) -> Data:
    """`data` with the weights of the track's sources where it has none of its own."""
    of_track = [sources[name].weight for name in data.sources or sources if name in sources]
    return replace(data, weights=of_track) if any(of_track) and not data.weights else data


def turns(data: Data) -> bool:
    """Whether a plan reads anything else than the whole train of its track: noise of no share is scored alone."""
    return bool(data.noise_share) or any(getattr(data, key) != getattr(Data(), key) for key in TURNED)


def turned(data: Data, texts: Mapping[str, Sequence[Document]], seed: int, budget: int, sequence_length: int) -> Turned:
    """`texts`: the documents of train of each source of the track, in its order; `budget`: tokens of the run.

    Raises: UserError for a source that the track has not, grades that are not of these documents, and a train that is too short
    for what is asked of it.
    """
    of_source, facts = ungraded(data, texts, seed)
    weights = _weights(data, texts)
    if data.quality:
        of_source, facts["graded_out"] = _best(data, of_source, seed)
    if data.epochs:
        of_source = _cut(data, of_source, weights, seed, budget, sequence_length)
    if not any(of_source.values()):
        raise UserError("nothing is left of train", "keep more of it: data.quality_keep, data.sources")
    strands = tuple(_strands(data, of_source, weights))
    kept = [document for documents in of_source.values() for document in documents]
    facts |= {
        "kept": len(kept),
        "noise_bytes": sum(len(document.text) for document in kept if document.noise),
        "read_bytes": sum(len(strand.text) for strand in strands),
        "read_sha256": sha256(b"".join(strand.text.tobytes() for strand in strands)).hexdigest(),
        "shares": {strand.name: strand.share for strand in strands},
    }
    return Turned(strands, data.order == "staged", facts)


def ungraded(data: Data, texts: Mapping[str, Sequence[Document]], seed: int) -> tuple[Sources, dict[str, Any]]:
    """The documents that grades are asked of, by source, and what the record says of them: noise is planted, duplicates are
    gone. Raises: UserError for a source that the track has not."""
    names = list(_weights(data, texts)) or _chosen(data, texts)
    of_source = {name: [p for document in texts[name] for p in passages(document)] for name in names}
    facts: dict[str, Any] = {"documents": sum(map(len, of_source.values()))}
    if data.noise_share:
        of_source = {name: _planted(data, name, documents, seed) for name, documents in of_source.items()}
    if data.deduplicate:
        of_source, facts["duplicates"] = _deduplicated(of_source)
    return of_source, facts


def _chosen(data: Data, texts: Mapping[str, Sequence[Document]]) -> list[str]:
    for name in data.sources:
        if name not in texts:
            raise UserError(f"data.sources names {name!r}, which the track has not", f"it has {', '.join(texts)}")
    return data.sources or list(texts)


def _weights(data: Data, texts: Mapping[str, Sequence[Document]]) -> dict[str, float]:
    """By source, of those that are read; none where each is read as often as it is long."""
    return {name: weight for name, weight in zip(_chosen(data, texts), data.weights) if weight}


def in_random_order(keys: Sequence[str], seed: int, *purpose: str) -> list[str]:
    """Each key once, in an order that is keyed by (seed, purpose) and by the key alone: another set of keys has these in the
    same order."""
    words = {key: generator(seed, *purpose, key).bit_generator.random_raw() for key in dict.fromkeys(keys)}
    return sorted(words, key=lambda key: (words[key], key))


def _planted(data: Data, name: str, documents: list[Document], seed: int) -> list[Document]:
    """Documents with noise in the place of some, until no other one brings it nearer to `noise_share` of the bytes; of each
    kind as many documents as of the others."""
    places = {document.key: place for place, document in enumerate(documents)}
    found, planted, total = list(documents), 0, sum(len(document.text) for document in documents)
    for number, key in enumerate(in_random_order(list(places), seed, NOISE, name)):
        document = documents[places[key]]
        noise = noisy(data.noise[number % len(data.noise)], document, documents, seed)
        missing = data.noise_share * total - planted
        planted, total = planted + len(noise.text), total + len(noise.text) - len(document.text)
        if planted - data.noise_share * total > missing:
            break
        found[places[key]] = noise
    return found


def _deduplicated(of_source: Sources) -> tuple[Sources, int]:
    seen: set[bytes] = set()
    found: Sources = {}
    for name, documents in of_source.items():
        found[name] = []
        for document in documents:
            digest = sha256(document.text).digest()
            if digest not in seen:
                found[name].append(document)
            seen.add(digest)
    return found, sum(map(len, of_source.values())) - sum(map(len, found.values()))


def _best(data: Data, of_source: Sources, seed: int) -> tuple[Sources, int]:
    """Documents but for the worst graded, which hold 1 - `quality_keep` of the bytes; ties go by source and key."""
    grades = read_grades(data.quality, data.quality_sha256, of_source, seed)
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


def _cut(data: Data, of_source: Sources, weights: Mapping[str, float], seed: int, budget: int, sequence_length: int) -> Sources:
    """As many random documents as the budget reads `epochs` times: whole windows of training, and the byte before them."""
    total, found = sum(weights.values()), {}
    for group in [[name] for name in weights] or [list(of_source)]:
        sequences = round(budget * weights[group[0]] / total if weights else budget) // sequence_length
        windows = sequences // data.epochs
        if windows < 1:
            raise UserError(
                f"data.epochs={data.epochs} of budget.tokens={budget}, in which {' and '.join(group)} has {sequences} "
                f"sequences of {sequence_length}",
                f"choose at most {sequences} epochs"
                if sequences
                else "choose a larger budget.tokens, or leave that source out",
            )
        found |= _filled({name: of_source[name] for name in group}, (windows + 1) * sequence_length, seed, data.epochs)
    return found


def _filled(of_source: Sources, wanted: int, seed: int, epochs: int) -> Sources:
    """Documents of random keys, in the order that they had, whose text, joined, has `wanted` bytes; the last one chosen is cut.
    Where a separator is all that is missing, one byte follows it, which is one or two too many and fills no window."""
    at = {name: {document.key: place for place, document in enumerate(documents)} for name, documents in of_source.items()}
    chosen: dict[str, dict[int, Document]] = {name: {} for name in of_source}
    left = wanted + len(SEPARATOR)
    for key in in_random_order([key for places in at.values() for key in places], seed, "epochs"):
        for name in of_source:
            if key in at[name] and left > 0:
                document = of_source[name][at[name][key]]
                text = document.text[: max(left - len(SEPARATOR), 1)]
                chosen[name][at[name][key]] = Document(key, text, document.noise)
                left -= len(text) + len(SEPARATOR)
    if left > 0:
        raise UserError(
            f"a pass of data.epochs={epochs} takes {wanted:,} bytes of train, and {' and '.join(of_source)} "
            f"{'have' if len(of_source) > 1 else 'has'} {wanted - left:,}",
            "choose more epochs, a smaller budget.tokens, or more of data.sources",
        )
    return {name: [documents[place] for place in sorted(documents)] for name, documents in chosen.items()}


def _strands(data: Data, of_source: Sources, weights: Mapping[str, float]) -> list[Strand]:
    """One of all text, or as many as are mixed or follow each other. With weights noise stays in its source."""
    parts = dict(of_source)
    if data.order == "staged" and not weights:
        spoilt = [document for documents in of_source.values() for document in documents if document.noise]
        clean = {name: [d for d in documents if not d.noise] for name, documents in of_source.items()}
        parts = ({NOISE: spoilt} if spoilt else {}) | {name: documents for name, documents in clean.items() if documents}
    elif not weights:
        parts = {"all": [document for documents in of_source.values() for document in documents]}
    texts = {name: np.frombuffer(joined(documents), np.uint8) for name, documents in parts.items()}
    shares = weights or {name: len(text) for name, text in texts.items()}
    total = sum(shares.values())
    return [Strand(name, text, shares[name] / total) for name, text in texts.items()]
