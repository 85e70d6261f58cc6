"""`make grade`: from the words of a plan to a file of grades that a plan of the same words takes."""

import hashlib
import json
import re

import pytest

from harness.__main__ import main
from harness.data import corpora, texts
from harness.data.batches import Batches
from harness.data.corpora.bytes import Corpus
from harness.data.draws import Draws
from harness.data.texts.document import Document, Text, joined
from harness.plan.compose import compose
from harness.plan.fingerprint import plan_hash
from harness.plan.steps import Steps

WORDS = [b"%d%s" % (number, word) for number in range(20) for word in (b"the", b"people", b"of", b"these", b"states")]


def documents(split: str, count: int) -> tuple[Document, ...]:
    draws = Draws(1, split)
    return tuple(Document(f"{split}-{number}", b" ".join(draws.one_of(WORDS) for _ in range(60))) for number in range(count))


TRAIN, VAL = documents("train", 80), documents("val", 10)
NOISE = ["data.noise=[boilerplate,random_bytes]", "data.noise_share=0.25"]


@pytest.fixture(name="words")
def words_fixture(monkeypatch):
    """The words of a lane whose text is that above."""
    monkeypatch.setitem(texts.READERS, "sotu", texts.Reader(lambda source: Text(TRAIN, VAL), lambda source: "nothing to do"))
    stated = {"train": joined(TRAIN), "val": joined(VAL)}
    return ["lane=sotu-dense", "unranked=true"] + [
        word
        for split, content in stated.items()
        for word in (f"track.{split}_bytes={len(content)}", f"track.{split}_sha256='{hashlib.sha256(content).hexdigest()}'")
    ]


def loaded(words) -> Corpus:
    return corpora.load_for(compose(words).plan)


def test_the_words_it_prints_leave_the_noise_out(words, tmp_path, capsys):
    path = tmp_path / "grades.jsonl"
    assert main(["grade", *words, *NOISE, f"out={path}", "seed=3"]) == 0
    said = capsys.readouterr().out
    assert "80 passages of train" in said and "data.quality_keep=0.75" in said
    for kind in ("boilerplate", "random_bytes"):
        cells = re.findall(r"(\d\.\d{3}) \((\d\.\d{3}) to (\d\.\d{3})\)", next(x for x in said.splitlines() if kind in x))
        assert len(cells) == 4 and all(low <= value <= high for value, low, high in cells)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["source"], line["document"]) for line in lines] == [("sotu", document.key) for document in TRAIN]
    named = next(line for line in said.splitlines() if "data.quality_sha256" in line).split()
    facts = loaded([*words, *NOISE, "seed=3", *named]).turned.facts
    without = loaded([*words, *NOISE, "seed=3"]).turned.facts
    assert facts["noise_bytes"] < without["noise_bytes"] / 2 and facts["graded_out"] > 10


def test_grades_of_another_seed_are_of_other_noise(words, tmp_path, capsys):
    path = tmp_path / "grades.jsonl"
    assert main(["grade", *words, *NOISE, f"out={path}", "by=repetition"]) == 0
    named = capsys.readouterr().out.splitlines()[-1].split()
    asked = [*words, *NOISE, *named, "seed=2", "budget.tokens=4096"]
    assert main(["speedrun", *asked, f"run.folder={tmp_path}"]) == 2
    assert "has no grade of 80 of 80 documents" in capsys.readouterr().err


def test_the_grades_of_several_seeds_joined_serve_all_of_them_under_one_plan(words, tmp_path, capsys):
    files = [tmp_path / f"{seed}.jsonl" for seed in (1, 2)]
    for seed, path in enumerate(files, 1):
        assert main(["grade", *words, *NOISE, f"out={path}", f"seed={seed}"]) == 0
        assert f"with the same noise and seed={seed}:" in capsys.readouterr().out
    both = b"".join(path.read_bytes() for path in files)
    (tmp_path / "both.jsonl").write_bytes(both)
    named = [f"data.quality={tmp_path / 'both.jsonl'}", f"data.quality_sha256='{hashlib.sha256(both).hexdigest()}'"]
    plans = [compose([*words, *NOISE, *named, "data.quality_keep=0.75", f"seed={seed}"]).plan for seed in (1, 2)]
    assert plan_hash(plans[0]) == plan_hash(plans[1])
    alone = hashlib.sha256(files[1].read_bytes()).hexdigest()
    of_one = [f"data.quality={files[1]}", f"data.quality_sha256='{alone}'", "data.quality_keep=0.75", "seed=2"]
    found = [corpora.load_for(plan).turned.facts for plan in plans]
    assert found[1] == loaded([*words, *NOISE, *of_one]).turned.facts != found[0]


def test_without_noise_there_is_nothing_to_rank_a_grader_by(words, tmp_path, capsys):
    assert main(["grade", *words, "by=compression", f"out={tmp_path / 'g.jsonl'}"]) == 0
    said = capsys.readouterr().out
    assert "AUC" not in said and "by compression" in said and "by perplexity" not in said and "data.quality_keep=0.8" in said


def test_where_all_is_noise_there_is_nothing_clean_to_rank_a_grader_by(words, tmp_path, capsys):
    noise = ["data.noise=[boilerplate,random_bytes]", "data.noise_share=1"]
    assert main(["grade", *words, *noise, f"out={tmp_path / 'g.jsonl'}"]) == 0
    said = capsys.readouterr().out
    assert "AUC" not in said and "data.quality_keep=0.8" in said


@pytest.mark.parametrize(
    "more, said",
    [(["by=taste"], "by must be one of compression, perplexity, repetition, worst_rank"),
     (["data.noise_share=0.2"], "data.noise_share=0.2 of no noise"),
     (["out="], "out must be a path"),
     (["track.train_bytes=7"], "train of track sotu has the wrong length: expected 7 bytes")],
)  # fmt: skip
def test_words_that_cannot_be_graded_by_are_refused(words, more, said, capsys, tmp_path):
    assert main(["grade", *words, *more]) == 2
    assert said in capsys.readouterr().err


def test_a_track_of_tokens_is_refused(capsys):
    assert main(["grade", "lane=dense"]) == 2
    assert "which is no track of bytes" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused(words, tmp_path, capsys):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "full").touch()
    assert main(["grade", *words, "by=repetition", f"out={tmp_path / 'g'}"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_plan_without_such_dials_reads_all_of_train_as_it_is(words):
    found = loaded(words)
    batches = found.batches(1, Steps.even(64), 16)
    assert type(batches) is Batches and batches.train is found.train and found.train.tobytes() == joined(TRAIN)
    assert found.turned is None and found.beside == {} and found.parts == {} and "turned" not in found.facts()


def test_noise_is_scored_beside_val_the_same_whatever_is_trained_on(words):
    kinds = ["data.noise=[duplicated,random_bytes]"]
    alone, planted, other = (loaded([*words, *kinds, *more]) for more in ([], ["data.noise_share=0.5"], ["seed=2"]))
    assert alone.turned is None and planted.turned is not None
    assert alone.beside.keys() == {"noise-duplicated", "noise-random_bytes"}
    for name, text in alone.beside.items():
        assert (text == planted.beside[name]).all() and (text == other.beside[name]).all()
    copies = alone.beside["noise-duplicated"].tobytes().split(b"\n\n")
    assert len(copies) == len(VAL) and set(copies) <= {document.text for document in TRAIN}  # as they are planted
    assert len(alone.beside["noise-random_bytes"]) == len(joined(VAL))


def test_the_record_says_what_was_read(words):
    found = loaded([*words, *NOISE, "data.deduplicate=true", "data.epochs=8", "budget.tokens=32768"])
    facts = found.facts()
    assert facts["train_bytes"] == len(joined(TRAIN)) and facts["turned"]["documents"] == 80
    assert found.train_length == facts["turned"]["read_bytes"] == len(found.turned.strands[0].text)
    assert facts["turned"]["duplicates"] == 0 and facts["turned"]["shares"] == {"all": 1.0}
