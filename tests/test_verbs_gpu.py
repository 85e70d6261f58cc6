"""The sequence of GPU stages: order, resumption, failures, the limit. What a stage runs are verbs with tests of their own."""

import json

import pytest

import harness.verbs.gpu as gpu
from harness.__main__ import main
from harness.verbs.gpu import Stage


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
    monkeypatch.setattr(
        gpu,
        "STAGES",
        (Stage("a", (), ("stage_good {out}",)), Stage("b", (), ("stage_bad",)), Stage("c", (), ("stage_good {out}",))),
    )
    return tmp_path


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
    monkeypatch.setattr(gpu, "STAGES", (Stage("slow", (), ("stage_slow",)),))
    assert main(["gpu", "limit=1", f"out={stages / 'out'}"]) == 1
    assert "ran past 1 s" in capsys.readouterr().out


@pytest.mark.slow
def test_every_word_of_every_stage_is_one_that_its_verb_reads():
    """The real lines are never run here: at least their verbs exist and their plans compose."""
    from harness.__main__ import VERBS
    from harness.plan.compose import compose

    for stage in gpu.STAGES:
        for line in (*stage.real, *stage.toy):
            module, verb, *words = line.format(out="x").split()
            if module in ("pytest", "harness.bench.random_tokens"):
                continue
            assert module == "harness" and verb in VERBS
            own = ("set=", "rounds=", "out=", "kills=", "table=", "data.shards=")
            compose([word for word in words if "=" in word and not word.startswith(own)])


@pytest.mark.parametrize("words, said", [(["kernel"], "kernels"), (["limit=soon"], "limit=soon"), (["oot=x"], "out")])
def test_mistakes_are_explained(words, said, capsys):
    assert main(["gpu", *words]) == 2
    assert said in capsys.readouterr().err
