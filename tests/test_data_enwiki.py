"""enwiki2015 from its public source, in miniature."""

import hashlib
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small_tokens import own_cache_fixture  # noqa: F401

from harness.data import enwiki
from harness.errors import UserError
from harness.plan.lanes import read_track
from harness.plan.schema import File

BODY = "\nFirst line of {0}.\n\n" + "long enough " * 20 + "\n"


def source(folder):
    """Four wiki files of 40 articles, with what the rules are about in them, and a file beside them."""
    ids = iter(range(1, 1000))
    for name in ("text/AA/wiki_02", "text/AA/wiki_09", "text/AA/wiki_10", "text/AB/wiki_00"):
        docs = []
        for i in (next(ids) for _ in range(40)):
            body = "short" if i % 10 == 3 else BODY.format(i)
            docs.append(f'<doc id="{i}" url="http://x?curid={i}" title="A &amp; B &quot;{i}&quot;">\n{body}\n</doc>\n')
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(docs), encoding="utf-8", newline="\n")
    (folder / "text/AA/wiki_xx.md").write_text("no part of it")


def expected(excluded):
    """The rules once more, by hand: [(split number, line)]."""
    out, kept = [], 0
    for i in range(1, 161):
        if i % 10 == 3 or i in excluded:
            continue
        kept += 1
        entry = {"id": i, "title": f'A & B "{i}"', "text": BODY.format(i).strip("\n")}
        part = "val" if kept % 100 == 0 else sum(i >= first for first in (1, 41, 81, 121)) - 1
        out.append((part, json.dumps(entry, ensure_ascii=False) + "\n"))
    return out


@pytest.fixture(name="files")
def files_fixture(own_cache, monkeypatch):
    source(own_cache / "source")
    excluded = own_cache / "excluded.tsv"
    excluded.write_text("id\thits\n5\t1\n77\t2\n")
    monkeypatch.setattr(enwiki, "EXCLUDED", excluded)
    monkeypatch.setattr(enwiki, "FIRST_IDS", (1, 41, 81, 121))
    found = []
    for part in (0, 1, 2, 3, "val"):
        text = "".join(line for which, line in expected({5, 77}) if which == part).encode()
        found.append(File("val" if part == "val" else "train", f"{part}.jsonl", "", hashlib.sha256(text).hexdigest()))
    return found


def rebuilt(files):
    return [enwiki.rebuilt(file).read_text() for file in files]


def test_a_folder_is_rebuilt_bit_for_bit(files, own_cache):
    enwiki.rebuild(files, str(own_cache / "source"))
    for text, part in zip(rebuilt(files), (0, 1, 2, 3, "val")):
        assert text == "".join(line for which, line in expected({5, 77}) if which == part)
    assert rebuilt(files)[4].count("\n") == 1


def archive(own_cache):
    path = own_cache / "source.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("AB/wiki_00", "AA/wiki_10", "AA/wiki_09", "AA/wiki_02", "AA/wiki_xx.md"):
            tar.add(own_cache / "source/text" / name, f"repo-1c0f/text/{name}")
    return path


def test_an_archive_and_its_url_give_the_same(files, own_cache):
    path = archive(own_cache)
    enwiki.rebuild(files, str(path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(own_cache)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    texts = rebuilt(files)
    for file in files:
        enwiki.rebuilt(file).unlink()
    enwiki.rebuild(files, f"http://127.0.0.1:{server.server_port}/source.tar.gz")
    server.shutdown()
    assert rebuilt(files) == texts


def test_a_source_that_gives_other_text_is_named_and_set_aside(files, own_cache):
    path = own_cache / "source/text/AA/wiki_09"
    path.write_text(path.read_text().replace("long enough", "wrong", 1))
    with pytest.raises(UserError, match="does not give the text of 1.jsonl: expected sha256"):
        enwiki.rebuild(files, str(own_cache / "source"))
    assert not enwiki.rebuilt(files[1]).exists()
    assert enwiki.rebuilt(files[1]).with_name(enwiki.rebuilt(files[1]).name + ".bad").exists()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no archive"])
def test_a_broken_archive_is_named_and_leaves_nothing(files, own_cache, damage):
    path = archive(own_cache)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="cannot read .*source.tar.gz.*\n.*LANE=tiny-moe-16e"):
        enwiki.rebuild(files, str(path))
    assert not any(enwiki.rebuilt(file).exists() for file in files)


def test_a_folder_without_the_files_is_named(files, own_cache):
    (own_cache / "empty").mkdir()
    with tarfile.open(own_cache / "empty.tar.gz", "w:gz") as tar:
        tar.add(own_cache / "empty", "empty")
    for name in ("empty", "empty.tar.gz"):
        with pytest.raises(UserError, match=f"{name} holds no files named wiki_NN"):
            enwiki.rebuild(files, str(own_cache / name))


def test_the_committed_list_names_1001_articles_and_the_track_its_files():
    assert len(enwiki.excluded_ids()) == 1001
    files = read_track("wiki").tokens.files
    assert [file.split for file in files] == ["train"] * 4 + ["val"]
    assert all(len(file.sha256) == len(file.text_sha256) == 64 for file in files)
    assert len(enwiki.FIRST_IDS) == 4
