"""Figures: PNGs of a sane size with something on them, nothing cut off, and nothing on an axis it must not share."""

import warnings
from dataclasses import fields
from itertools import combinations

import matplotlib.image
import pytest
from matplotlib.axis import Tick
from matplotlib.text import Text
from report_factory import edit_record, write_run

from harness.plan.schema import Multipliers
from harness.report import style
from harness.report.curves import spread
from harness.report.run.bpb import draw_bpb
from harness.report.run.draw import draw_all
from harness.report.run_data import load_run

LOW = {"lane": "tiny-moe-16e-nvfp4", "precision": "nvfp4", "execution": "emulated"}
MOE = ["bpb.png", "router_health.png", "expert_load.png", "updates.png"]
CASES = {
    "moe, dead experts": ({"dead": 3}, MOE),
    "dense": ({"lane": "tiny-dense", "twin": "tiny-moe-16e", "experts": 0}, ["bpb.png", "updates.png"]),
    "every third layer": ({"layers": 8, "leading_dense_layers": 1, "moe_every": 3, "steps": 96}, MOE),
    "256 experts": ({"experts": 256, "top_k": 8, "layers": 6, "leading_dense_layers": 1, "steps": 96, "dead": 9}, MOE),
    "one layer, two windows": ({"layers": 1, "steps": 40, "window": 32, "validations": ()}, MOE),
    "nvfp4, 12 layers": (LOW | {"layers": 12, "leading_dense_layers": 1}, [*MOE, "precision.png"]),
    "nvfp4, one window": (LOW | {"steps": 96, "window": 96, "validations": ()}, [*MOE, "precision.png"]),
    "fp8, dense": ({"lane": "tiny-dense-fp8", "experts": 0, "precision": "fp8"}, ["bpb.png", "updates.png", "precision.png"]),
    "one step": ({"steps": 1, "validations": (), "reasons": ("partial: 4,096 bytes, scoring capped " + "x " * 99,)}, MOE),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_is_drawn(tmp_path, case, monkeypatch):
    changes, names = CASES[case]
    folder = write_run(tmp_path / "run", **changes)
    save = style.save
    monkeypatch.setattr(style, "save", lambda fig, path: assert_nothing_is_cut_off_or_overlaps(fig, save(fig, path)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a layout collapses or an axis has no extent
        paths = draw_all(folder)
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(names)
    for path in paths:
        pixels = matplotlib.image.imread(path)[..., :3]
        height, width = pixels.shape[:2]
        assert width == style.WIDTH_IN * style.DPI and 3 <= height / style.DPI <= 13
        for top, bottom in ((0.1, 0.5), (0.5, 0.85)):  # the panels, not only the title, hold ink
            band = pixels[int(top * height) : int(bottom * height)]
            assert (band.min(-1) < 0.9).mean() > 0.003


def assert_nothing_is_cut_off_or_overlaps(fig, path):
    left, bottom, right, top = fig.get_tightbbox().extents
    assert left >= 0 and bottom >= 0, f"{path.name}: cut off by {left, bottom} inches"
    assert right <= style.WIDTH_IN and top <= fig.get_size_inches()[1], f"{path.name}: ends at {right, top} inches"
    boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(fig)]
    assert len(boxes) > 10
    for (a, box_a), (b, box_b) in combinations(boxes, 2):
        across = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        down = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert across <= 1 or down <= 5, f"{path.name}: {a!r} overlaps {b!r}"
    return path


def drawn_texts(fig):
    """Everything but tick labels beyond the limits of their axis, which are objects but are not drawn."""
    of_ticks = {id(text) for tick in fig.findobj(Tick) for text in (tick.label1, tick.label2)}
    texts = [t for t in fig.findobj(Text) if id(t) not in of_ticks and (t.axes is None or t in named(t.axes))]
    for ax in fig.axes:
        for at, axis in enumerate((ax.xaxis, ax.yaxis)):
            low, high = sorted(axis.get_view_interval())
            texts += [t for t in axis.get_ticklabels(which="both") if ax.get_visible() and low <= t.get_position()[at] <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def named(ax):
    """The texts of a panel beside its tick labels: titles, axis labels, annotations."""
    if ax is None or not ax.get_visible():
        return []
    return [*(child for child in ax.get_children() if isinstance(child, Text)), ax.xaxis.label, ax.yaxis.label]


@pytest.mark.slow
def test_every_parameter_group_is_drawn_in_a_colour_of_its_own():
    assert style.GROUPS.keys() == {group.name for group in fields(Multipliers)}
    assert len(set(style.GROUPS.values())) == len(style.GROUPS)


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    folder = write_run(tmp_path / "run", steps=32, validations=(), experts=0)
    first = [path.read_bytes() for path in draw_all(folder)]
    assert first == [path.read_bytes() for path in draw_all(folder)]
    assert not list(folder.glob(".*.part"))


def bpb_figure(monkeypatch, run_folder, twin_folder):
    figures = []
    monkeypatch.setattr(style, "save", lambda fig, path: figures.append(fig) or path)
    run = load_run(run_folder)
    with style.styled():
        draw_bpb(run, load_run(twin_folder) if twin_folder else None, run.folder / "bpb.png")
    return figures[0]


def curves(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def words(fig):
    return " ".join(" ".join(text.get_text() for text in fig.texts).split())


@pytest.fixture
def moe(tmp_path):
    return write_run(tmp_path / "moe")


@pytest.fixture
def dense(tmp_path):
    return write_run(tmp_path / "dense", lane="tiny-dense", twin="tiny-moe-16e", experts=0, step_s=0.2, seed=2)


def test_a_twin_of_the_same_class_is_on_both_panels(moe, dense, monkeypatch):
    fig = bpb_figure(monkeypatch, moe, dense)
    assert all("tiny-dense" in curves(ax) for ax in fig.axes)
    assert "tiny-dense is one run, seed 2" in words(fig)


def test_a_twin_of_another_class_is_never_on_the_seconds_panel(moe, dense, monkeypatch):
    edit_record(dense, hardware_class="cuda-h100")
    fig = bpb_figure(monkeypatch, moe, dense)
    by_tokens, by_seconds = fig.axes
    assert "tiny-dense" in curves(by_tokens) and "tiny-dense" not in curves(by_seconds)
    assert "its seconds are left out: the hardware classes differ; it ran on cuda-h100" in words(fig)


def test_a_twin_is_not_on_the_seconds_panel_of_an_emulated_format(dense, tmp_path, monkeypatch):
    low = write_run(tmp_path / "low", **LOW | {"steps": 64, "validations": ()})
    by_tokens, by_seconds = (fig := bpb_figure(monkeypatch, low, dense)).axes
    assert "tiny-dense" in curves(by_tokens) and "tiny-dense" not in curves(by_seconds)
    assert "its seconds are left out: nvfp4 is emulated" in words(fig)


def test_a_twin_scored_on_other_data_is_on_no_panel(moe, dense, monkeypatch):
    edit_record(dense, data__val_sha256="00" * 32)
    fig = bpb_figure(monkeypatch, moe, dense)
    assert not any("tiny-dense" in curves(ax) for ax in fig.axes)
    assert "the curve of tiny-dense is left out: its val data has another hash" in words(fig)


def test_the_validations_the_loss_in_bits_and_the_crossing_are_where_they_belong(moe, monkeypatch):
    by_tokens, by_seconds = bpb_figure(monkeypatch, moe, None).axes
    metrics = load_run(moe).record.metrics
    assert [tuple(p) for p in curves(by_tokens)["tiny-moe-16e"].get_xydata()] == [
        (p["tokens"], p["slice_bpb"]) for p in metrics.curve
    ]
    crossing = next(line for label, line in curves(by_seconds).items() if label.startswith("target passed"))
    assert crossing.get_xydata().tolist() == [[metrics.time_to_target_s, 1.6624]]
    loss = curves(by_seconds)["training loss"].get_xydata()
    assert loss[-1, 0] == pytest.approx(metrics.curve[-1]["train_s"])
    assert loss[-1, 1] == pytest.approx(metrics.slice_bpb, abs=0.15)
    low, high = by_tokens.get_ylim()
    assert low < 1.4086 and 2.2092 < high < 4  # every line is in view, the first steps are not


def test_a_partial_run_is_labelled_and_has_no_classical_lines(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", steps=16, validations=(), reasons=("partial: 65,536 bytes",))
    fig = bpb_figure(monkeypatch, folder, None)
    assert "unranked: partial: 65,536 bytes" in words(fig)
    assert "xz" not in "".join(text.get_text() for text in fig.findobj(Text))


def test_the_caption_names_seed_n_class_plan_and_protocol(moe, monkeypatch):
    text = words(bpb_figure(monkeypatch, moe, None))
    plan = load_run(moe).record.plan_hash[:8]
    for part in ("seed 1 (n = 1)", "cpu-amx_bf16-2t", f"plan {plan}", "Track tiny, bf16", "first 262,144 bytes of val"):
        assert part in text


@pytest.mark.parametrize("wanted", [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.2, 0.21, 0.25, 0.8, 0.81], [0.3]])
def test_labels_are_spread_apart_in_order_and_stay_near(wanted):
    placed = spread(wanted, 0.06)
    assert all(b - a >= 0.06 - 1e-9 for a, b in zip(placed, placed[1:]))
    assert sum(placed) == pytest.approx(sum(wanted))
    assert max(abs(a - b) for a, b in zip(placed, wanted)) <= 0.06 * len(wanted) / 2


def test_a_legend_takes_fewer_columns_rather_than_leave_the_figure():
    with style.styled():
        fig = style.plain_figure("title", 2, "caption", "")
        ax = fig.subplots()
        for number in range(6):
            ax.plot([0, 1], label=f"tiny-moe-16e-nvfp4, plan {number} (n = 3)")
        style.add_legend(fig, ax)
        legend = fig.legends[0]
        assert len(fig.legends) == 1 and 1 < legend._ncols < 6 and legend.get_window_extent().x1 <= fig.bbox.x1
