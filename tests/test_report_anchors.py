"""Published figures: the file is checked whole, and figures of different protocols are never put together."""

import pytest
import yaml

from harness.errors import UserError
from harness.plan.lanes import ANCHORS, lane_names
from harness.record.results import KINDS
from harness.report.anchors import anchors_for, anchors_of_lane, read_anchors, the_protocol

GOOD = {"id": "a", "protocol": "p", "metric": "bpb", "value": 1.5, "kind": "published", "source": "a paper"}


def write(tmp_path, *anchors, **sections):
    path = tmp_path / "anchors.yaml"
    content = {"protocols": {"p": "what it is", "q": "another"}, "anchors": list(anchors), "spreads": [], "kernels": []}
    path.write_text(yaml.safe_dump(content | sections))
    return path


def test_every_anchor_of_the_repository_has_a_known_protocol_a_kind_and_a_source_of_its_own():
    published = read_anchors()
    assert len(published.anchors) > 50 and published.spreads and published.kernels
    for anchor in published.anchors:
        assert anchor.protocol in published.protocols and anchor.kind in KINDS
        assert anchor.source not in ("same", "as above")


def test_every_protocol_of_the_repository_has_an_anchor():
    assert all(anchors_for(protocol) for protocol in read_anchors().protocols)


def test_the_anchors_file_is_no_lane():
    assert ANCHORS.exists() and "anchors" not in lane_names()


def test_anchors_of_a_protocol_are_only_that_protocols(tmp_path):
    path = write(tmp_path, GOOD, GOOD | {"id": "b", "protocol": "q"}, GOOD | {"id": "c", "metric": "word_perplexity"})
    assert [anchor.id for anchor in anchors_for("p", path=path)] == ["a", "c"]
    assert [anchor.id for anchor in anchors_for("p", "bpb", path)] == ["a"]
    assert {anchor.protocol for anchor in anchors_for("wikitext-lmeval")} == {"wikitext-lmeval"}


def test_anchors_of_a_lane_come_by_protocol_and_only_that_lanes(tmp_path):
    ours = GOOD | {"lane": "moe-64e"}
    path = write(tmp_path, ours, ours | {"id": "b", "protocol": "q"}, GOOD | {"id": "c"}, ours | {"id": "d"})
    found = {protocol: [anchor.id for anchor in anchors] for protocol, anchors in anchors_of_lane("moe-64e", path).items()}
    assert found == {"p": ["a", "d"], "q": ["b"]} and anchors_of_lane("dense", path) == {}


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(UserError, match="did you mean wikitext-lmeval"):
        anchors_for("wikitext-lm-eval")


@pytest.mark.parametrize("key, other", [("protocol", "q"), ("metric", "loss")])
def test_a_mixed_list_is_refused_by_name(tmp_path, key, other):
    mixed = read_anchors(write(tmp_path, GOOD, GOOD | {"id": "b"}, GOOD | {"id": "c", key: other})).anchors
    with pytest.raises(UserError, match=f"not one {key}: a .*, c .{other}"):
        the_protocol(mixed)
    assert the_protocol(mixed[:2]) == "p"


def test_an_empty_list_has_no_protocol():
    with pytest.raises(UserError, match="there are none"):
        the_protocol([])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"protocol": "o"}, "unknown protocol 'o'"),
        ({"lane": "moe-64"}, "unknown lane 'moe-64': did you mean moe-64e?"),
        ({"kind": "measured"}, "kind is 'measured', expected published or recomputed or derived"),
        ({"source": ""}, "source is ''"),
        ({"value": "1.5"}, "value is '1.5', expected a finite number"),
        ({"value": True}, "value is True"),
        ({"n": 1.5}, "n is 1.5, expected a whole number of 1 or more"),
        ({"sourc": "x"}, "unknown field 'sourc': did you mean source?"),
        ({"target": 3.28}, "target is 3.28, expected an object"),
    ],
)
def test_a_wrong_entry_is_named_with_what_is_wrong(tmp_path, change, said):
    with pytest.raises(UserError) as caught:
        read_anchors(write(tmp_path, GOOD, GOOD | {"id": "bad"} | change))
    assert "anchors, bad: " + said in str(caught.value)


@pytest.mark.parametrize("key", sorted(GOOD.keys() - {"id"}))
def test_a_missing_field_is_named(tmp_path, key):
    with pytest.raises(UserError, match=f"anchors, a: {key} is missing"):
        read_anchors(write(tmp_path, {name: value for name, value in GOOD.items() if name != key}))


def test_one_id_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="two anchors are called a"):
        read_anchors(write(tmp_path, GOOD, GOOD))


def test_a_kernel_figure_without_its_whole_shape_is_refused(tmp_path):
    row = {"library": "x", "shape": {"T": 1}, "forward": 1.0, "backward": 2.0, "source": "s"}
    with pytest.raises(UserError, match="kernels, number 1: its shape has"):
        read_anchors(write(tmp_path, GOOD, kernels=[row]))


@pytest.mark.parametrize("text", ["protocols: {", "[]", "anchors: []", "\xff"])
def test_a_damaged_file_is_a_clear_error(tmp_path, text):
    path = tmp_path / "anchors.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"anchors\.yaml"):
        read_anchors(path)
    with pytest.raises(UserError, match="is missing"):
        read_anchors(tmp_path / "nowhere.yaml")
