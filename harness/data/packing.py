"""The batch of a step over tokens, a pure function of (train, seed, step) like that over bytes in `batches.py`.

An endless stream is cut into windows of S targets, one after the other: neighbours share a token, the last target of one being
the first input of the next. A step takes the next windows, as many as its tokens fill. Only the stream differs:

`DocumentBatches`: every epoch brings all documents once, in an order of its own keyed by (seed, epoch), an end-of-text before
each. All epochs are equally long, so that the epoch of a position is found by a division. A window may hold the end of one
document and the beginning of the next.

`StreamBatches`: the files as they are, in order, whatever the seed, as published speedruns on FineWeb read them; after the
last token comes the first again. There is no table of documents: end-of-text stands in the files.

`documents` says which token of a batch is of which document, for masking (`data.document_mask`).
"""

from functools import lru_cache

import numpy as np
import torch

from harness.data.batches import most_sequences, rank_slice
from harness.data.joined import Joined
from harness.errors import UserError
from harness.keyed import generator
from harness.plan.steps import Steps


class WindowBatches:
    """Windows of a stream. Shapes: B sequences of this rank, S sequence length. A subclass says what the stream is."""

    def __init__(self, epoch_tokens: int, steps: Steps, sequence_length: int):
        """Raises: UserError when a step is not a whole number of sequences or longer than an epoch."""
        largest = most_sequences(steps, sequence_length) * sequence_length
        if epoch_tokens < largest + 1:
            raise UserError(
                f"train has {epoch_tokens:,} tokens, a step takes {largest:,} and one more",
                "take more data, or fewer tokens a step",
            )
        self.epoch_tokens, self.steps, self.sequence_length = epoch_tokens, steps, sequence_length

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs_BS, targets_BS) of a step counted from 0, int64, contiguous; targets are the inputs one token later.

        Of the n sequences of the global batch rank r of w gets [r n / w, (r + 1) n / w). Raises: UserError when w does not
        divide n.
        """
        start, stop = self._span(step, rank, world)
        tokens = self._over_epochs(self._tokens, start, stop + 1).astype(np.int64)
        shape = (-1, self.sequence_length)
        return torch.from_numpy(tokens[:-1].copy()).view(shape), torch.from_numpy(tokens[1:].copy()).view(shape)

    def scored(self, step: int) -> int:
        """Targets of a step over all ranks: every token has one."""
        return self.steps.tokens(step)

    def documents(self, step: int, rank: int = 0, world: int = 1) -> torch.Tensor:
        """int64 (B, S): which document each input is of (its end-of-text included), by a number that no other document of the
        batch has. Where two inputs differ, masking must keep one from looking at the other."""
        start, stop = self._span(step, rank, world)
        return torch.from_numpy(self._owners(start, stop)).view(-1, self.sequence_length)

    def epochs_after(self, steps: int) -> float:
        """How often train has been read after so many steps."""
        return self.steps.before(steps) / self.epoch_tokens

    def _span(self, step: int, rank: int, world: int) -> tuple[int, int]:
        first, share = rank_slice(self.steps, self.sequence_length, step, rank, world)
        return first * self.sequence_length, (first + share) * self.sequence_length

    def _over_epochs(self, read, start: int, stop: int) -> np.ndarray:
        """`read(epoch, a, b)` of the epochs that positions start .. stop - 1 of the endless stream lie in, joined."""
        pieces = []
        while start < stop:
            epoch, begin = divmod(start, self.epoch_tokens)
            end = min(self.epoch_tokens, begin + stop - start)
            pieces.append(read(epoch, begin, end))
            start += end - begin
        return np.concatenate(pieces)

    def _tokens(self, epoch: int, start: int, stop: int) -> np.ndarray:
        raise NotImplementedError

    def _owners(self, start: int, stop: int) -> np.ndarray:
        """int64: the document of each of these positions of the endless stream."""
        raise NotImplementedError


class StreamBatches(WindowBatches):
    def __init__(self, train: Joined, vocab_size: int, end_of_text: int, steps: Steps, sequence_length: int):
        super().__init__(len(train), steps, sequence_length)
        self.train, self.vocab_size, self.end_of_text = train, vocab_size, end_of_text

    def _tokens(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Raises: UserError for a token that the tokenizer does not know: then the files are of another one."""
        tokens = self.train.read(start, stop)
        if (largest := int(tokens.max())) >= self.vocab_size:
            raise UserError(
                f"train holds token {largest}, the track's tokenizer ends at {self.vocab_size - 1}",
                "name files that were made with that tokenizer",
            )
        return tokens

    def _owners(self, start: int, stop: int) -> np.ndarray:
        return np.cumsum(self._over_epochs(self._tokens, start, stop) == self.end_of_text)


class DocumentBatches(WindowBatches):
    def __init__(self, train: Joined, offsets: np.ndarray, end_of_text: int, seed: int, steps: Steps, sequence_length: int):
        """`train`: the documents' tokens without end-of-text; document d is train[offsets[d]] to train[offsets[d + 1]]."""
        super().__init__(len(train) + len(offsets) - 1, steps, sequence_length)
        self.train, self.offsets, self.end_of_text, self.seed = train, offsets, end_of_text, seed

    def _tokens(self, epoch: int, start: int, stop: int) -> np.ndarray:
        order, starts = self._epoch(epoch)
        place = int(np.searchsorted(starts, start, "right")) - 1
        out = np.empty(stop - start, np.uint16)
        at = start
        while at < stop:
            begin, end = int(starts[place]), min(int(starts[place + 1]), stop)
            if at == begin:
                out[at - start] = self.end_of_text
                at += 1
            document = int(self.offsets[order[place]])
            out[at - start : end - start] = self.train.read(document + at - begin - 1, document + end - begin - 1)
            at, place = end, place + 1
        return out

    def _owners(self, start: int, stop: int) -> np.ndarray:
        return self._over_epochs(self._epoch_owners, start, stop)

    def _epoch_owners(self, epoch: int, start: int, stop: int) -> np.ndarray:
        starts = self._epoch(epoch)[1]
        return epoch * (len(starts) - 1) + np.searchsorted(starts, np.arange(start, stop), "right").astype(np.int64) - 1

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of an epoch, and where in it each of its documents starts (one more start than documents)."""
        order = document_order(self.seed, epoch, len(self.offsets) - 1)
        return order, _starts(self.offsets, order)


@lru_cache(maxsize=2)  # only speed: a step needs one epoch, or two where it spans them
def document_order(seed: int, epoch: int, documents: int) -> np.ndarray:
    """The stable argsort of as many raw 64-bit words of Philox keyed by (seed, "document order", epoch); int64, read-only.

    Raw words are the same in every numpy release; `permutation` is not promised to be (NEP 19).
    """
    order = np.argsort(generator(seed, "document order", epoch).bit_generator.random_raw(documents), kind="stable")
    order.flags.writeable = False
    return order


def _starts(offsets: np.ndarray, order: np.ndarray) -> np.ndarray:
    lengths = np.diff(offsets)[order] + 1  # and its end-of-text
    return np.concatenate([[0], np.cumsum(lengths)])
