import errno
import hashlib
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import harness.files
from harness.data import artifact
from harness.errors import UserError

CONTENT = bytes(range(256)) * 8192  # 2 MiB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = b"something else"
WRONG_SHA256 = hashlib.sha256(WRONG).hexdigest()
NAME = "corpus/a file.bin"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPEEDRUN_MIRROR", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    (folder / "corpus").mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(folder))
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Starts a local server whose every answer is `body` under a Content-Length of `announced`; makes it the mirror."""
    servers, asked = [], []

    def start(body, announced=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(announced or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("SPEEDRUN_MIRROR", f"http://127.0.0.1:{server.server_port}/data/")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def not_asked():
    raise AssertionError("this source should not have been asked")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once_and_then_found_in_the_cache(cache):
    path = artifact.fetch(NAME, SHA256, [lambda: [CONTENT[:1000], CONTENT[1000:]]])
    assert path.read_bytes() == CONTENT
    assert path.name == SHA256 + ".bin"
    assert artifact.fetch(NAME, SHA256, [not_asked]) == path
    assert files(path.parent) == [path.name]


def test_a_mirror_folder_is_asked_before_the_public_sources(mirror):
    assert artifact.fetch(NAME, SHA256, [not_asked]).read_bytes() == CONTENT


def test_an_http_mirror_serves_by_quoted_name(serve):
    asked = serve(CONTENT)
    assert artifact.fetch(NAME, SHA256, [not_asked]).read_bytes() == CONTENT
    assert asked == ["/data/corpus/a%20file.bin"]


def test_a_truncating_http_mirror_gives_way_to_the_public_source(serve, cache):
    serve(CONTENT[:100_000], announced=len(CONTENT))
    with pytest.raises(UserError, match=f"broke off after 100,000 of {len(CONTENT):,} bytes"):
        artifact.fetch(NAME, SHA256)
    assert files(cache / "artifacts") == []
    assert artifact.fetch(NAME, SHA256, [lambda: [CONTENT]]).read_bytes() == CONTENT


def test_an_http_mirror_that_shortens_silently_is_caught_by_its_hash(serve):
    serve(CONTENT[:100_000])
    with pytest.raises(UserError, match="wrong sha256"):
        artifact.fetch(NAME, SHA256)


def test_an_unreachable_mirror_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setenv("SPEEDRUN_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        artifact.fetch(NAME, SHA256)
    assert "http://127.0.0.1:9/corpus/a%20file.bin" in str(error.value)
    assert "SPEEDRUN_MIRROR" in error.value.remedy


def test_a_wrong_hash_names_file_expected_and_found_and_sets_the_file_aside(mirror, cache):
    (mirror / NAME).write_bytes(WRONG)
    with pytest.raises(UserError) as error:
        artifact.fetch(NAME, SHA256)
    for part in (NAME, SHA256, WRONG_SHA256):
        assert part in str(error.value)
    assert files(cache / "artifacts") == [f"{SHA256}.bin.bad"]
    assert (cache / "artifacts" / f"{SHA256}.bin.bad").read_bytes() == WRONG


def test_a_bad_file_in_the_cache_is_set_aside_and_fetched_again(mirror):
    path = artifact.fetch(NAME, SHA256)
    path.write_bytes(WRONG)
    assert artifact.fetch(NAME, SHA256).read_bytes() == CONTENT
    assert files(path.parent) == [path.name, path.name + ".bad"]


def test_no_source_at_all_says_where_to_put_the_file():
    with pytest.raises(UserError, match="no source has .*" + SHA256):
        artifact.fetch(NAME, SHA256)


def test_a_source_that_breaks_off_leaves_nothing_behind(cache):
    def breaks():
        yield CONTENT[:1000]
        raise ConnectionResetError("gone")

    with pytest.raises(UserError, match="ConnectionResetError: gone"):
        artifact.fetch(NAME, SHA256, [breaks])
    assert files(cache / "artifacts") == []


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None]}, 3, "text"])
def test_a_json_result_is_computed_once_per_name_and_key(value):
    calls = []
    for name, key in (("x", 1), ("x", 1), ("x", 2), ("y", 1)):
        assert artifact.derived(name, {"key": key}, lambda: calls.append(1) or value) == value
    assert len(calls) == 3


def test_an_array_comes_back_with_its_dtype_read_only():
    first = artifact.derived("x", 1, lambda: np.arange(6, dtype=np.uint16).reshape(2, 3))
    again = artifact.derived("x", 1, not_asked)
    for array in (first, again):
        assert array.dtype == np.uint16 and array.tolist() == [[0, 1, 2], [3, 4, 5]] and not array.flags.writeable


def test_the_first_answer_has_the_type_of_the_later_ones():
    assert artifact.derived("x", 1, lambda: (1, 2)) == artifact.derived("x", 1, not_asked) == [1, 2]


def flip_last(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-3], flip_last, lambda c: b"\xff" + c, lambda c: b"[]\n"])
@pytest.mark.parametrize("value", [[1, 2, 3], np.arange(3)], ids=["json", "array"])
def test_a_corrupt_cache_file_is_set_aside_and_recomputed(cache, damage, value):
    artifact.derived("x", 1, lambda: value)
    (path,) = (cache / "derived").iterdir()
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert list(artifact.derived("x", 1, lambda: value)) == list(value)
    assert path.with_name(path.name + ".bad").read_bytes() == damaged
    assert list(artifact.derived("x", 1, not_asked)) == list(value)


def test_two_that_miss_at_the_same_time_both_get_the_result(cache):
    both_miss = threading.Barrier(2)

    def build():
        both_miss.wait(timeout=10)
        return [1, 2, 3]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: artifact.derived("x", 1, build), range(2)))
    assert results == [[1, 2, 3]] * 2
    assert len(files(cache / "derived")) == 1
    assert artifact.derived("x", 1, not_asked) == [1, 2, 3]


def test_an_unwritable_cache_names_the_folder_and_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "file"))
    for attempt in (lambda: artifact.derived("x", 1, lambda: 1), lambda: artifact.fetch(NAME, SHA256, [lambda: [CONTENT]])):
        with pytest.raises(UserError) as error:
            attempt()
        assert str(tmp_path / "file") in error.value.problem and "SPEEDRUN_CACHE" in error.value.remedy


def test_a_full_disk_is_an_error_that_leaves_no_partial_file(cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        artifact.derived("x", 1, lambda: 1)
    assert files(cache / "derived") == []


def test_a_file_is_whole_or_untouched_when_its_writer_fails(tmp_path):
    def fails():
        yield b"new"
        raise RuntimeError("stopped")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(RuntimeError):
        artifact.write_atomically(tmp_path / "file", fails())
    assert files(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_what_a_killed_process_left_half_written_is_swept_when_stale(tmp_path, monkeypatch):
    (tmp_path / ".old.tmp").write_bytes(b"half")
    artifact.write_atomically(tmp_path / "a", [b"x"])
    assert ".old.tmp" in files(tmp_path)
    monkeypatch.setattr(harness.files, "STALE_S", -1)
    artifact.write_atomically(tmp_path / "a", [b"x"])
    assert files(tmp_path) == ["a"]
