"""The sequence of GPU stages: order, resumption, failures, the limit. What a stage runs are verbs with tests of their own."""

import json

import pytest

import harness.launch.gpu.stages as gpu
from harness.__main__ import main
from harness.errors import UserError
from harness.launch.gpu.stages import Stage


@pytest.fixture(name="stages")
def stages_fixture(monkeypatch, tmp_path):
    """Three stages whose toys are small modules: a and c write a file, b fails until the file `mended` is there."""
    for name, body in {
        "good": "import sys, pathlib; p = pathlib.Path(sys.argv[1], 'ran'); "
        "p.write_text('xx' if p.exists() else 'x'); print('table')",
        "bad": f"import pathlib, sys; sys.exit(0 if pathlib.Path({str(tmp_path)!r}, 'mended').exists() else 3)",
        "slow": "import time; time.sleep(30)",
    }.items():
        (tmp_path / f"stage_{name}.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    of(
        monkeypatch,
        Stage("a", (), ("stage_good {out}",)),
        Stage("b", (), ("stage_bad",)),
        Stage("c", (), ("stage_good {out}",)),
    )
    return tmp_path


def of(monkeypatch, *found: Stage) -> None:
    monkeypatch.setattr(gpu, "stages", lambda _: found)


def test_a_failing_stage_is_named_and_the_others_go_on(stages, capsys):
    assert main(["gpu", f"out={stages / 'out'}"]) == 1
    said = capsys.readouterr().out
    assert "FAILED (exit 3)" in said and said.count("passed in") == 2 and "no CUDA device here" in said and "table" in said


def test_a_stage_that_ended_well_is_not_run_again_unless_asked(stages, capsys):
    main(["gpu", f"out={stages / 'out'}"])
    (stages / "mended").write_text("")
    assert main(["gpu", f"out={stages / 'out'}"]) == 0
    assert (stages / "out" / "a" / "ran").read_text() == "x"
    assert main(["gpu", "a", "again", f"out={stages / 'out'}"]) == 0
    assert (stages / "out" / "a" / "ran").read_text() == "xx"


def test_a_stage_of_another_source_is_run_again(stages):
    main(["gpu", "a", f"out={stages / 'out'}"])
    marker = stages / "out" / "a" / "done.json"
    marker.write_text(json.dumps({"identity": {"source_sha256": "other", "on_gpu": False}}))
    main(["gpu", "a", f"out={stages / 'out'}"])
    assert (stages / "out" / "a" / "ran").read_text() == "xx"


@pytest.mark.slow
def test_a_stage_that_runs_past_the_limit_is_stopped(stages, monkeypatch, capsys):
    of(monkeypatch, Stage("slow", (), ("stage_slow",)))
    assert main(["gpu", "limit=1", f"out={stages / 'out'}"]) == 1
    assert "ran past 1 s" in capsys.readouterr().out


@pytest.mark.slow
def test_what_all_may_take_bounds_a_stage_and_those_behind_it_are_left_out(stages, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "LEAST_S", 1.5)
    slow = Stage("slow", (), ("stage_slow",), call=1)
    of(monkeypatch, Stage("a", (), ("stage_good {out}",), call=1), slow, Stage("c", (), ("stage_good {out}",), call=1))
    assert main(["gpu", "first", "call=1", "within=4", f"out={stages / 'out'}"]) == 1
    assert "no time is left" in capsys.readouterr().out and not (stages / "out" / "c").exists()
    found = json.loads((stages / "out" / "results.json").read_text())
    assert found["a"].startswith("passed") and found["slow"].startswith("FAILED (ran past") and len(found) == 3


def test_a_stage_that_needs_one_that_failed_is_left_out_and_one_of_another_call_is_not_asked(stages, monkeypatch, capsys):
    good = ("stage_good {out}",)
    of(
        monkeypatch, Stage("b", (), ("stage_bad",), call=1), Stage("c", (), good, call=1, needs="b"),
        Stage("d", (), good, call=1), Stage("e", (), good, call=2),
    )  # fmt: skip
    assert main(["gpu", "first", "call=1", f"out={stages / 'out'}"]) == 1
    assert "left out: it needs b" in capsys.readouterr().out
    assert (stages / "out" / "d" / "ran").exists() and not (stages / "out" / "e").exists()


def test_what_a_stage_leaves_elsewhere_is_copied_to_its_folder(stages, monkeypatch):
    (stages / "left.json").write_text("{}")
    of(monkeypatch, Stage("a", (), ("stage_good {out}",), keeps=(f"{stages}/left.*", "{out}/none")))
    assert main(["gpu", f"out={stages / 'out'}"]) == 0
    assert (stages / "out" / "a" / "left.json").read_text() == "{}"


@pytest.mark.parametrize(
    "text, said",
    [
        ("stages: [{name: a, limit_s: 1, real: [x], toy: [x], needs: b}]", "needs b"),
        ("stages: [{name: a, limit_s: 1, real: [x], toy: [x]}, {name: a, limit_s: 1, real: [x], toy: [x]}]", "twice"),
        ("stages: [{name: a, limit_s: 1, real: [], toy: [x]}]", "real"),
        ("stages: [{name: a, limits: 1, real: [x], toy: [x]}]", "limit"),
    ],
)
def test_a_file_of_stages_that_cannot_be_run_is_refused(text, said, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    (tmp_path / "all.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        gpu.stages("all")


@pytest.mark.slow
def test_every_word_of_every_stage_is_one_that_its_verb_reads():
    """The real lines are never run here: at least their verbs exist and their plans compose."""
    from harness.__main__ import VERBS
    from harness.plan.compose import compose

    for stage in (*gpu.stages("all"), *gpu.stages("first")):
        for line in (*stage.real, *stage.toy):
            module, *rest = line.format(out="x", tokens=1 << 27).split()
            if module in ("pytest", "harness.bench.random_tokens", "harness.launch.gpu.imports"):
                continue
            verb, *words = rest
            assert module == "harness" and verb in VERBS
            own = ("set=", "rounds=", "out=", "kills=", "table=", "data.shards=", "loop=", "tokens=")
            compose([word for word in words if "=" in word and not word.startswith(own)])


@pytest.mark.parametrize("words, said", [(["kernel"], "kernels"), (["limit=soon"], "limit=soon"), (["oot=x"], "out"),
                                         (["first", "tune"], "alone"), (["call=1"], "first call=1")])  # fmt: skip
def test_mistakes_are_explained(words, said, capsys):
    assert main(["gpu", *words]) == 2
    assert said in capsys.readouterr().err
