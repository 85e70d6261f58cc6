"""WikiText against lm_eval itself: its task file, its preprocessing, its HFLM, its metrics, over our pages of the text.

The task's data set is on the hub; here the task reads the pages from a file. The cut into pages is checked apart, against
published figures that depend on it.
"""

import json
import math
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from conftest import CONTEXT
from lm_eval.models.huggingface import HFLM

from harness.data.tokenizer import gpt2
from harness.evaluate.hub_model import load_hub_model
from harness.evaluate.wikitext import count_words, detokenize, merge, pages, share

TASK = Path(lm_eval.__file__).parent / "tasks" / "wikitext" / "wikitext.yaml"


@pytest.fixture(scope="module")
def theirs(folder, text, tmp_path_factory):
    """lm_eval's results and, page by page, its samples."""
    rows = tmp_path_factory.mktemp("pages") / "pages.jsonl"
    rows.write_text("".join(json.dumps({"page": page}) + "\n" for page in pages(text)))
    task = rows.with_name("wikitext_here.yaml")
    task.write_text(json.dumps({"include": str(TASK), **_from_file(rows)}))
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=16)
    assert model.max_length == CONTEXT
    found = lm_eval.simple_evaluate(model, tasks=[str(task)], bootstrap_iters=0)
    return found["results"]["wikitext"], sorted(found["samples"]["wikitext"], key=lambda sample: sample["doc_id"])


def _from_file(rows: Path) -> dict[str, Any]:
    """All that is changed in the task: where its pages come from."""
    data = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"test": str(rows)}}}
    return data | {"training_split": None, "validation_split": None}


@pytest.fixture(scope="module")
def ours(folder, text):
    model = load_hub_model(str(folder), gpt2())
    return merge([share(model, gpt2(), text)], model.context)


def test_the_pages_have_the_bytes_and_words_behind_published_figures(text):
    raw = pages(text)
    # EleutherAI/wikitext_document_level, dataset_infos.json, wikitext-2-raw-v1, test: each row is its text and a 4-byte offset.
    assert len(raw) == 62 and sum(len(page.encode()) + 4 for page in raw) == 1_290_775
    # Llama-2-7B in lm-evaluation-harness issue 806: the logarithms of the two perplexities are to each other as bytes to words.
    word_perplexity, byte_perplexity = 8.792073612124492, 1.5015845643537054
    ratio = sum(len(page.encode()) for page in raw) / sum(map(count_words, raw))
    assert ratio == pytest.approx(math.log(word_perplexity) / math.log(byte_perplexity), rel=1e-14)


def test_every_page_is_given_to_the_model_as_the_same_text(theirs, text):
    given = [sample["arguments"][0][0] for sample in theirs[1]]
    assert given == [detokenize(page) for page in pages(text)]


def test_every_page_gets_the_same_nats(theirs, ours):
    expected = [-float(sample["resps"][0][0]) for sample in theirs[1]]
    difference = [abs(a - b) / b for a, b in zip(ours.nats_P.tolist(), expected, strict=True)]
    print(f"largest relative difference of {len(difference)} pages: {max(difference):.2e}; {sum(expected):.6f} nats in all")
    assert max(difference) < 1e-6


@pytest.mark.parametrize("metric", ["bits_per_byte", "byte_perplexity", "word_perplexity"])
def test_the_three_figures_are_the_same(theirs, ours, metric):
    print(f"{metric}: lm_eval {theirs[0][f'{metric},none']!r}, ours {getattr(ours, metric)!r}")
    assert getattr(ours, metric) == pytest.approx(theirs[0][f"{metric},none"], rel=1e-6)
