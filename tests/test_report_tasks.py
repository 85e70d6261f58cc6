"""Scores on tasks in reports: the figure, the end table, the leaderboard, and what of them the evidence must bear out."""

import json
from itertools import combinations

import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from report_factory import edit_record, write_run
from task_records import TASKS, result, skills, write_task_run
from test_report_figures import drawn_texts

from harness.__main__ import main
from harness.errors import UserError
from harness.record.evaluations import Evaluation
from harness.report import style
from harness.report.board.gather import gather
from harness.report.board.publish import publish
from harness.report.integrity import check
from harness.report.run import tasks as figure_tasks
from harness.report.run.draw import draw_all
from harness.report.run.table import end_table
from harness.report.run.tasks import draw_tasks
from harness.report.run_data import load_run
from harness.report.task_scores import by_task, figures, in_one_line, of_groups, table


@pytest.fixture(name="drawn")
def drawn_fixture(tmp_path, monkeypatch):
    """The figure as matplotlib holds it, and its file."""
    figures, save = [], style.save
    monkeypatch.setattr(figure_tasks.style, "save", lambda fig, path: figures.append(fig) or save(fig, path))

    def draw(*results):
        path = draw_tasks([(name, Evaluation(**found)) for name, found in results], tmp_path / "tasks.png")
        return figures[-1], path

    return draw


def panels(fig):
    return {ax.get_title(loc="left").partition(":")[0]: ax for ax in fig.axes if ax.get_visible()}


def said(fig):
    return " ".join(" ".join(text.get_text() for text in fig.texts).split())


def points(ax, colour):
    """(y, filled) of a run's marks, in the order of difficulty."""
    marks = [
        line
        for line in ax.lines
        if line.get_marker() == "o" and colour in (line.get_markeredgecolor(), line.get_markerfacecolor())
    ]
    return [(float(line.get_ydata()[0]), line.get_markerfacecolor() == colour) for line in marks]


def test_each_task_has_a_panel_with_its_scores_at_every_difficulty(drawn):
    found = result()
    fig, path = drawn(("ours", found))
    assert list(panels(fig)) == list(TASKS) and imread(path).shape[1] == style.WIDTH_IN * style.DPI
    for name, ax in panels(fig).items():
        measure = "kl" if TASKS[name][2] else "exact_match"
        rows = [row for row in found["scores"] if row["task"] == name]
        marks = points(ax, style.BLUE)
        assert [filled for _, filled in marks] == [row["trained"] for row in rows]
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [str(row["difficulty"]) for row in rows]
        assert ax.get_yscale() == ("log" if measure == "kl" else "linear")
        if name == "scrambled":  # whose divergence is below the scale
            assert {y for y, _ in marks} == {figure_tasks.LEAST_KL / 1.4}
        else:
            assert [y for y, _ in marks] == [row[measure] for row in rows]
    words = said(fig)
    assert "256 test instances" in words and "left out: copy of 32: up to 91 tokens" in words and "Wilson" in words


def test_intervals_are_wilsons_of_shares_and_two_errors_of_divergences(drawn):
    found = result()
    fig, _ = drawn(("ours", found))
    bars = {name: [tuple(line.get_ydata()) for line in ax.lines] for name, ax in panels(fig).items()}
    for row in found["scores"]:
        if row["task"] == "mano":
            assert tuple(row["interval"]) in bars["mano"]
        if row["task"] == "ngram":
            low, high = row["kl"] - 1.96 * row["kl_error"], row["kl"] + 1.96 * row["kl_error"]
            assert any(bar == pytest.approx((low, high), rel=1e-4) for bar in bars["ngram"] if len(bar) == 2)


def test_what_is_known_without_a_network_is_drawn_and_named(drawn):
    fig, _ = drawn(("ours", result()))
    names = {name: [text.get_text().strip() for text in ax.texts] for name, ax in panels(fig).items()}
    assert set(names["mano"]) == {"chance 0.0435", "Bayes optimum 1", "10-gram 0.01"}
    assert "3-gram 0.02" in names["ngram"] and "2-gram 3.1" in names["ngram"]
    assert len([name for name in names["lano"] if "-gram" in name]) == 9 and "Bayes optimum 0" in names["lano"]
    lines = {name: [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines] for name, ax in panels(fig).items()}
    assert (list(range(7)), [0.02] * 7) in lines["ngram"] and ([0, 1], [0.5 * 0.7**4, 0.6 * 0.7**4]) in lines["lano"]
    assert ([3.6, 4.4], [1 / 23, 1 / 23]) in lines["mano"]  # known at training's hardest difficulty alone


def test_dense_and_moe_stand_in_one_figure_and_the_same_scores_give_the_same_file(drawn):
    both = ("physics-dense seed 1", result(0.8)), ("physics-moe-16e seed 1", result(0.95))
    fig, path = drawn(*both)
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert legend[:2] == ["physics-dense seed 1", "physics-moe-16e seed 1"] and "counted n-grams" in legend
    ours, theirs = (points(panels(fig)["depo"], colour) for colour in (style.BLUE, style.ORANGE))
    assert len(ours) == len(theirs) == 6 and all(a < b for (a, _), (b, _) in list(zip(ours, theirs))[1:])
    before = path.read_bytes()
    drawn(*both)
    assert path.read_bytes() == before
    left, bottom, right, top = fig.get_tightbbox().extents
    assert left >= 0 and bottom >= 0 and right <= style.WIDTH_IN and top <= fig.get_size_inches()[1]
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in drawn_texts(fig)]  # without their leaders
    for (a, box_a), (b, box_b) in combinations(boxes, 2):
        across, down = (min(a1, b1) - max(a0, b0) for (a0, a1), (b0, b1) in zip(box_a.get_points().T, box_b.get_points().T))
        assert across <= 1 or down <= 5, f"{a!r} overlaps {b!r}"


def test_scores_on_other_instances_never_share_the_figure(drawn):
    with pytest.raises(UserError, match="cannot share"):
        drawn(("a", result()), ("b", result(sha256="cd" * 32)))


def test_a_partial_score_is_labelled(drawn):
    fig, _ = drawn(("ours", result(n=16)))
    assert "partial: 16 of 256 instances" in said(fig)


def test_a_runs_figures_and_table_have_its_tasks_and_its_twins_beside_them(tmp_path, monkeypatch):
    twin = write_task_run(tmp_path / "dense", 0.8, lane="tiny-dense", twin=None, experts=0)
    run = write_task_run(tmp_path / "moe", 0.95)
    asked = []
    monkeypatch.setattr(
        "harness.report.run.draw.draw_tasks", lambda results, path: asked.append([name for name, _ in results]) or path
    )
    assert draw_all(run, twin)[-1].name == "tasks.png" and draw_all(run)[-1].name == "tasks.png"
    other = write_task_run(tmp_path / "other", found=result(sha256="cd" * 32), lane="tiny-dense", twin=None, experts=0)
    draw_all(run, other)
    assert asked == [["tiny-moe-16e seed 1", "tiny-dense seed 1"], ["tiny-moe-16e seed 1"], ["tiny-moe-16e seed 1"]]
    lines = " ".join(end_table(load_run(run), None).split())
    of_mano = [row for row in result(0.95)["scores"] if row["task"] == "mano"]
    share = sum(row["exact_match"] for row in of_mano if row["trained"]) / 5
    beyond = sum(row["exact_match"] for row in of_mano if not row["trained"]) / 2
    assert f"mano {share:.3f} ({beyond:.3f})" in lines and "KL from the exact distribution" in lines
    assert "scrambled 0.0002 (0.0002)" in lines and "left out copy of 32" in lines
    assert check(load_run(run)) == []


def test_a_run_without_tasks_is_drawn_as_before(tmp_path):
    run = write_run(tmp_path / "run", steps=32, validations=(), experts=0)
    assert "tasks.png" not in [path.name for path in draw_all(run)] and "tasks " not in end_table(load_run(run), None)


def test_what_could_not_be_scored_is_said_and_not_drawn(tmp_path):
    run = write_task_run(tmp_path / "run", experts=0)
    edit_record(run, evaluations={"tasks": {"failed": "the model gives an instance of copy nan nats"}})
    assert "tasks.png" not in [path.name for path in draw_all(run)]
    assert "not scored: the model gives an instance of copy nan nats" in end_table(load_run(run), None)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"evaluations__tasks__scores__0__exact_match": 0.5}, "depo of 1: exact_match is 0.5, 256 of 256 gives 1.0"),
        ({"evaluations__tasks__scores__0__interval": [0.5, 1.0]}, "depo of 1: interval from is 0.5"),
        ({"evaluations__tasks__scores__0__interval": [0.9852164213, 0.99]}, "interval"),
        ({"evaluations__tasks__scores__0__right": 257}, "depo of 1: 257 right"),
        ({"evaluations__tasks__scores__1__difficulty": 1}, "depo of 1 is there twice"),
        ({"evaluations__tasks__scores__0__task": "copy"}, "has not the tasks of plan.yaml"),
    ],
)
def test_an_edited_score_is_found(tmp_path, changes, words):
    run = write_task_run(tmp_path / "run", experts=0)
    edit_record(run, **changes)
    assert any(words in sentence for sentence in check(load_run(run)))


def test_an_edited_evaluations_file_is_found(tmp_path):
    run = write_task_run(tmp_path / "run", experts=0)
    written = json.loads((run / "evaluations.json").read_text())
    written["tasks"]["right"]["mano"]["8"] = "1" * 256
    (run / "evaluations.json").write_text(json.dumps(written))
    assert any("evaluations.json was changed" in sentence for sentence in check(load_run(run)))


@pytest.mark.parametrize(
    "tasks, words",
    [
        ({"protocol": "x", "sha256": "ab" * 4}, "tasks.scores is missing"),
        ({**{k: v for k, v in result().items() if k != "right"}, "scores": []}, "evaluations.tasks.scores is empty"),
    ],
)
def test_scores_of_another_shape_are_named(tmp_path, tasks, words):
    run = write_task_run(tmp_path / "run", experts=0)
    edit_record(run, evaluations={"tasks": tasks})
    with pytest.raises(UserError, match=words):
        load_run(run)


def test_the_leaderboard_has_a_column_a_task_with_means_over_seeds(tmp_path):
    for seed, skill in enumerate(skills(3), 1):
        write_task_run(tmp_path / "runs" / f"moe-{seed}", skill, seed=seed)
    write_task_run(tmp_path / "runs" / "dense", 0.5, lane="tiny-dense", twin=None, experts=0)
    board = gather([tmp_path / "runs"])
    assert board.holds
    publish(board, tmp_path / "out")
    markdown, page = ((tmp_path / "out" / name).read_text() for name in ("LEADERBOARD.md", "index.html"))
    head, _, *rows = markdown[markdown.index("| lane | depo, exact match |") :].splitlines()[:4]
    assert head.split(" | ")[1:] == [
        "depo, exact match", "brevo, exact match", "mano, exact match", "copy, exact match", "lano, KL", "ngram, KL",
        "scrambled, KL |",
    ]  # fmt: skip
    (moe,) = [row for row in rows if "tiny-moe-16e" in row]
    assert moe.count("±") == 2 * len(TASKS) and "in parentheses beyond the difficulties of training" in markdown
    assert "<h4>Tasks</h4>" in page and "<th>mano, exact match</th>" in page


def test_a_leaderboard_without_tasks_has_no_table_of_them(tmp_path):
    write_run(tmp_path / "runs" / "run", steps=32, validations=(), experts=0)
    publish(gather([tmp_path / "runs"]), tmp_path / "out")
    assert "Tasks" not in (tmp_path / "out" / "LEADERBOARD.md").read_text() + (tmp_path / "out" / "index.html").read_text()


def test_compare_draws_both_sides_tasks(tmp_path, capsys):
    a = write_task_run(tmp_path / "a", 0.8, lane="tiny-dense", twin=None, experts=0)
    b = write_task_run(tmp_path / "b", 0.95)
    assert main(["compare", str(a), str(b), "--out", str(tmp_path / "out")]) == 0
    assert "tasks.png" in capsys.readouterr().out and (tmp_path / "out" / "tasks.png").read_bytes().startswith(b"\x89PNG")
    c = write_run(tmp_path / "c", steps=32, validations=())
    assert main(["compare", str(a), str(c), "--out", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none" / "tasks.png").exists()


def test_the_measure_is_divergence_only_where_no_answer_is_certain():
    found = {task.name: task for task in by_task(Evaluation(**result()))}
    assert {name: task.measure for name, task in found.items() if task.measure == "kl"} == dict.fromkeys(
        ("lano", "ngram", "scrambled"), "kl"
    )
    certain = result(tasks=("ngram",))
    for row in certain["scores"]:
        row["entropy"] = 0.0  # each pair has one successor
    (task,) = by_task(Evaluation(**certain))
    assert task.measure == "exact_match"


def test_tables_say_every_difficulty_and_what_is_beyond():
    found = Evaluation(**result())
    lines = table(found)
    assert len(lines) == 1 + len(found.scores) + 1 and lines[-1].endswith("copy of 32: up to 91 tokens, the model reads 64")
    assert sum("beyond training" in line for line in lines) == sum(len(beyond) for _, beyond, _ in TASKS.values())
    (line,) = [line for line in lines if line.split()[:2] == ["ngram", "64"]]
    assert "±" in line and line.endswith("beyond training")
    told = figures(found)
    assert told["lano KL"] == pytest.approx(0.04) and "copy exact match, beyond" in told
    assert [name for name, _ in in_one_line(found)] == ["tasks", "KL", "left out"]


def test_a_group_without_scores_has_no_row():
    header, rows = of_groups([("a", []), ("b", [Evaluation(**result(tasks=("mano",)))])])
    assert header == ["lane", "mano, exact match"] and [row[0] for row in rows] == ["b"]
    assert of_groups([("a", [])]) == ([], [])
