"""The CORE figure: what it shows, what it says, and that it needs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from harness.errors import UserError
from harness.record.schema import Evaluation
from harness.report import style
from harness.report.run import core as figure_core
from harness.report.run.core import draw_core

REFERENCES = [{"label": "reference", "core_v1": 0.1139}, {"label": "known", "core_v1": 0.2, "tasks": {"pick": 0.1}}]


def result(shift=0.0, n=100, partial=None):
    """As `harness.evaluate.core.result.result` gives it."""
    rows = [
        {"label": label, "type": "schema", "shots": 10, "n": n, "correct": 50, "accuracy": 0.5, "baseline_v1": 0.25,
         "baseline_v2": 0.2, "centered_v1": value + shift, "centered_v2": 0.3, "interval": [value - 0.1, value + 0.1]}
        for label, value in (("pick", 0.3), ("resolve", -0.1), ("finish", 0.05))
    ]  # fmt: skip
    return Evaluation(core_v1=0.0833 + shift, interval_v1=(0.02, 0.14), core_v2=0.0712, interval_v2=(0.01, 0.1),
                      partial=partial, tasks=rows)  # fmt: skip


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The figure as matplotlib holds it, and its file."""
    figures = []
    save = style.save
    monkeypatch.setattr(figure_core.style, "save", lambda fig, path: figures.append(fig) or save(fig, path))

    def draw(*arguments):
        path = draw_core(*arguments, tmp_path / "core.png")
        return figures[-1], path

    return draw


def words(fig):
    """Every text of the figure."""
    found = [text.get_text() for text in fig.texts]
    for ax in fig.axes:
        found += [text.get_text() for text in [*ax.texts, *ax.get_yticklabels(), *ax.get_xticklabels(), ax.title]]
        found += [ax.get_title(loc="left"), ax.get_xlabel()]
    return " ".join(found).replace("\n", " ").replace(figure_core.FIGURE_SPACE, " ")


def test_it_shows_every_task_the_means_and_the_published_figures(drawn):
    fig, path = drawn([("ours", result())], REFERENCES)
    said = words(fig)
    for word in ("ours", "0.0833", "pick  10    100", "resolve", "finish", "reference", "0.1139", "known"):
        assert word in said, word
    assert "baselines v1 (with v2: ours 0.0712)" in said and "of reference only the mean is on record" in said
    assert imread(path).shape[1] == style.WIDTH_IN * style.DPI


def test_marks_and_intervals_stand_at_the_recorded_values(drawn):
    fig, _ = drawn([("ours", result())], [])
    lines = [tuple(line.get_xdata()) for line in fig.axes[1].lines]
    for value in (0.3, -0.1, 0.05):
        assert (value,) in lines and (value - 0.1, value + 0.1) in lines
    assert "published" not in words(fig)


def test_a_partial_score_is_labelled(drawn):
    fig, _ = drawn([("ours", result(partial="partial: the first 12 examples of each task at most"))], REFERENCES)
    assert "partial: the first 12 examples" in words(fig) and "published figures, of all examples" in words(fig)


def test_two_models_are_told_apart_and_the_same_input_gives_the_same_file(drawn):
    fig, path = drawn([("a", result()), ("b", result(0.1))], REFERENCES)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b", "known"]
    before = path.read_bytes()
    drawn([("a", result()), ("b", result(0.1))], REFERENCES)
    assert path.read_bytes() == before


def test_results_of_other_examples_never_share_the_figure(drawn):
    with pytest.raises(UserError, match="cannot share"):
        drawn([("a", result()), ("b", result(n=12))], [])


@pytest.mark.process
def test_it_imports_no_torch():
    code = "import harness.report.run.core, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
