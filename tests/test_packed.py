"""Files opened: a log reads the same plain and packed, and a packed one can neither lie nor fill the memory."""

import hashlib
import lzma
import tracemalloc

import pytest
from golden_runs import MOE, golden_fixture  # noqa: F401
from report_factory import write_run

from harness.__main__ import main
from harness.errors import UserError
from harness.packed import MOST_TIMES, lies_at, put_kept
from harness.reading import MOST_BYTES, file_hash, is_there, read_bytes
from harness.record import mlflow_sink
from harness.record.read import read_rows
from harness.report.integrity import check
from harness.report.run_data import load_run

CONTENT = b'{"kind": "step"}\n' * 100


@pytest.fixture(name="log")
def log_fixture(tmp_path):
    """The name of a log that lies packed."""
    path = tmp_path / "metrics.jsonl"
    path.with_name("metrics.jsonl.xz").write_bytes(lzma.compress(CONTENT))
    return path


def refused(log, content: bytes) -> str:
    log.with_name("metrics.jsonl.xz").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_bytes(log)
    with pytest.raises(UserError):
        file_hash(log)
    assert f"git checkout -- {log}.xz" in error.value.remedy
    return error.value.problem


@pytest.fixture(name="run", scope="module")
def run_fixture(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("opening") / "runs" / "tiny-moe-16e" / "1-plan")


def test_a_packed_log_reads_and_hashes_as_the_plain_one(log):
    assert is_there(log) and lies_at(log).name == "metrics.jsonl.xz"
    assert read_bytes(log) == CONTENT and file_hash(log) == hashlib.sha256(CONTENT).hexdigest()


def test_a_plain_log_stands_before_a_packed_one_beside_it(log):
    log.write_bytes(b"plain")
    assert lies_at(log) == log and read_bytes(log) == b"plain" and file_hash(log) == hashlib.sha256(b"plain").hexdigest()


def test_what_is_no_log_is_not_looked_for_packed(tmp_path):
    (tmp_path / "record.json.xz").write_bytes(lzma.compress(b"{}"))
    assert not is_there(tmp_path / "record.json")
    with pytest.raises(UserError, match="record.json is missing"):
        read_bytes(tmp_path / "record.json")


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_fills_the_memory(log):
    bomb = lzma.compress(bytes(300 << 20), preset=1)
    assert len(bomb) < 100_000
    tracemalloc.start()
    said = refused(log, bomb)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"metrics.jsonl.xz cannot be read: unpacked it has more than {MOST_TIMES * len(bomb):,} bytes" in said
    assert most < 3 * MOST_TIMES * len(bomb) < MOST_BYTES


def test_the_bound_of_a_reader_is_one_of_unpacked_bytes(log):
    with pytest.raises(UserError, match=r"unpacked it has more than 1,699 bytes"):
        read_bytes(log, most=len(CONTENT) - 1)
    assert read_bytes(log, most=len(CONTENT)) == CONTENT


def test_a_packed_log_that_asks_for_a_huge_window_is_refused(log):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 128 << 20}]
    assert "truncated or corrupt (Memory usage limit" in refused(log, lzma.compress(CONTENT, filters=filters))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda packed: b"", "its packed content is cut off"),
        (lambda packed: packed[:-1], "its packed content is cut off"),
        (lambda packed: packed[:30] + bytes([packed[30] ^ 1]) + packed[31:], "truncated or corrupt"),
        (lambda packed: packed + b"x", "goes on after its end"),
        (lambda packed: packed + packed, "goes on after its end"),
        (lambda packed: packed + bytes(2 << 20), "goes on after its end"),
        (lambda packed: CONTENT, "truncated or corrupt"),
        (lambda packed: lzma.compress(CONTENT, lzma.FORMAT_ALONE), "truncated or corrupt"),
    ],
)  # fmt: skip
def test_a_damaged_packed_log_is_named(log, change, words):
    said = refused(log, change(lzma.compress(CONTENT)))
    assert said.startswith(f"{log}.xz is ") and words in said


def test_a_log_is_kept_packed_and_anything_else_as_it_is(run, tmp_path):
    kept = [put_kept(run / name, tmp_path) for name in ("metrics.jsonl", "plan.yaml")]
    assert [path.name for path in kept] == ["metrics.jsonl.xz", "plan.yaml"]
    assert read_rows(tmp_path / "metrics.jsonl") == read_rows(run / "metrics.jsonl")
    (again := tmp_path / "again").mkdir()
    assert put_kept(tmp_path / "metrics.jsonl", again).read_bytes() == kept[0].read_bytes()


def test_what_could_not_be_read_packed_is_kept_plain(tmp_path):
    (there := tmp_path / "there").mkdir()
    (tmp_path / "metrics.jsonl").write_bytes(b" " * 1_000_000)
    assert put_kept(tmp_path / "metrics.jsonl", there).name == "metrics.jsonl"


def test_a_row_that_is_wrong_is_named_with_the_file_as_it_lies(log):
    log.with_name("metrics.jsonl.xz").write_bytes(lzma.compress(b"{broken\n{}\n"))
    with pytest.raises(UserError, match=r"metrics\.jsonl\.xz is corrupt in line 1"):
        read_rows(log)


@pytest.fixture(name="packed")
def packed_fixture(golden, tmp_path):
    """runs/LANE/1-golden as it is in results/."""
    folder = tmp_path / "results" / MOE[0] / "1-golden"
    folder.mkdir(parents=True)
    for path in golden(MOE[0]).iterdir():
        put_kept(path, folder)
    assert not (folder / "metrics.jsonl").exists()
    return folder


def test_evidence_holds_packed_and_an_edit_of_it_is_found(packed):
    assert check(load_run(packed)) == []
    path = packed / "metrics.jsonl.xz"
    lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
    lines[5] = b" " + lines[5]
    path.write_bytes(lzma.compress(b"".join(lines)))
    assert [s for s in check(load_run(packed)) if "metrics.jsonl was changed" in s]


@pytest.mark.parametrize(
    "words", [("doctor",), pytest.param(("show",), marks=pytest.mark.slow), ("verify", "steps=0"), ("report", "--out", "out")]
)
def test_verbs_say_of_a_packed_record_what_they_say_of_a_plain_one(packed, words, monkeypatch, capsys):
    monkeypatch.chdir(packed.parents[2])
    verb, *more = words
    folder = "results" if verb == "report" else str(packed.relative_to(packed.parents[2]))

    def said() -> tuple[int, str]:
        status = main([verb, folder, *more])
        return status, capsys.readouterr().out.replace("\r", "")

    first = said()
    (packed / "metrics.jsonl").write_bytes(read_bytes(packed / "metrics.jsonl"))
    assert first == said() and first[0] == 0


def test_the_mlflow_sink_reads_a_packed_record(packed):
    run, plain = mlflow_sink._Folder(packed), packed / "metrics.jsonl"
    plain.write_bytes(read_bytes(plain))
    assert run.key and run.key == mlflow_sink._Folder(packed).key and len(list(run.points())) > 1000
