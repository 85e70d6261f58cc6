"""precision.png: every layer is on every panel, what is zero or no number is shown as such, and panels without figures are
left out."""

import json
import math

import pytest
from report_factory import sign, write_run

from harness.report import style
from harness.report.run.precision import draw_precision, has_precision
from harness.report.run_data import load_run

pytestmark = pytest.mark.slow

LOW = {"steps": 64, "validations": (), "precision": "nvfp4", "execution": "emulated", "lane": "tiny-moe-16e-nvfp4"}


@pytest.fixture(name="drawn")
def drawn_fixture(tmp_path, monkeypatch):
    """drawn(edit, **words): the figure of a run whose windows' `precision` went through `edit`."""

    def draw(edit=None, **words):
        folder = write_run(tmp_path / "run", **LOW | words)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            if edit and "precision" in row:
                edit(row["precision"])
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sign(folder)
        run = load_run(folder)
        with style.styled():
            draw_precision(run, folder / "precision.png")
        return figures[-1]

    figures = []
    save = style.save
    monkeypatch.setattr(style, "save", lambda fig, path: figures.append(fig) or save(fig, path))
    return draw


def titled(fig):
    return {ax.get_title("left"): ax for ax in fig.axes if ax.get_title("left")}


def said(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_every_layer_has_its_line_and_its_own_values(drawn):
    panels = titled(drawn())
    assert list(panels) == [
        "weight codes flipped: up", "weight codes flipped: down", "router gradient RMS", "weights", "activations", "gradients",
        "weight-gradient factors",
    ]  # fmt: skip
    up, router, weights = (panels[name] for name in ("weight codes flipped: up", "router gradient RMS", "weights"))
    assert len(up.lines) == len(weights.lines) == 4 and len(router.lines) == 8
    assert up.get_yscale() == router.get_yscale() == "log"
    assert list(up.lines[1].get_xdata()) == [16, 32, 48, 64]
    assert up.lines[1].get_ydata()[0] == pytest.approx(100 * 0.05 * (1.02 - 0.25) / 2)
    assert router.lines[1].get_linestyle() != router.lines[0].get_linestyle() and router.lines[1].get_ydata()[0] == 1e-7


def test_of_a_group_the_worst_tensor_is_drawn_and_named(drawn):
    def spoil(precision):
        precision["tensors"]["2"]["hidden"]["snr_db"] = 3.0

    panels = titled(drawn(spoil))
    assert list(panels["activations"].lines[2].get_ydata()) == [3.0] * 4
    assert said(panels["activations"]) == ["worst: input"]  # in three layers of four


def test_windows_without_a_flip_are_triangles_on_the_axis_and_not_lost_on_the_log_scale(drawn):
    def freeze(precision):
        precision["flips"]["0"]["up"] = 0.0

    up = titled(drawn(freeze))["weight codes flipped: up"]
    (triangles,) = [line for line in up.lines if line.get_marker() == "v"]
    assert list(triangles.get_xdata()) == [16, 32, 48, 64] and math.isnan(up.lines[0].get_ydata()[0])


def test_what_is_no_number_leaves_a_gap_and_a_panel_without_any_says_so(drawn):
    def spoil(precision):
        for i, of_layer in enumerate(precision["tensors"].values()):
            for name, figures in of_layer.items():
                if name.startswith("weight"):
                    figures |= {"snr_db": math.nan if i else math.inf, "saturation": 0.0}

    fig = drawn(spoil)
    assert said(titled(fig)["weights"]) == ["every tensor zero or exact"]
    saturated = next(ax for ax in fig.axes if ax.get_ylabel().startswith("saturated"))
    assert said(saturated) == ["0 throughout"]


def test_a_dense_fp8_run_has_no_router_and_no_factors(drawn):
    panels = titled(drawn(experts=0, precision="fp8", execution="native"))
    assert "router gradient RMS" not in panels and "weight-gradient factors" not in panels and "gradients" in panels


def test_operands_and_layers_kept_high_leave_the_rest(drawn):
    def keep(precision):
        precision["flips"] = {layer: {} for layer in precision["flips"]}
        precision["router_grad_rms"] = precision["smallest_step"] = {}
        del precision["tensors"]["0"]
        for of_layer in precision["tensors"].values():
            for name in [name for name in of_layer if name != "hidden"]:
                del of_layer[name]

    fig = drawn(keep)
    assert list(titled(fig)) == ["activations"] and len(titled(fig)["activations"].lines) == 3
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["layer 1", "2", "3"]


def test_title_and_caption_say_format_execution_lane_seed_and_plan(drawn):
    fig = drawn()
    text = " ".join(" ".join(t.get_text() for t in fig.texts).split())
    for part in ("tiny-moe-16e-nvfp4", "nvfp4 (emulated)", "seed 1 (n = 1), plan"):
        assert part in text


def test_bf16_has_nothing_to_draw(tmp_path):
    assert not has_precision(load_run(write_run(tmp_path / "run", steps=16, validations=())))
