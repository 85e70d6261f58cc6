"""Writes a leaderboard's files, each whole or not at all."""

from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.report import style
from harness.report.board.figure import draw_board
from harness.report.board.gather import Leaderboard, slug
from harness.report.board.history import FOLDER as HISTORY
from harness.report.board.history import history_json
from harness.report.board.holders_figure import draw_holders
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page

OWN = ("figures/leaderboard-*.png", "figures/holders-*.png", f"{HISTORY}/*.json")


def publish(leaderboard: Leaderboard, out: Path) -> list[Path]:
    """LEADERBOARD.md, index.html, and figures and history of every board, into `out`; those of boards that are gone go.

    Raises:
        UserError: the folder cannot be written.
    """
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        (out / HISTORY).mkdir(exist_ok=True)
        drawn, told = [], []
        with style.styled():
            for board in leaderboard.boards:
                drawn.append(draw_board(board, figures / f"leaderboard-{slug(board)}.png"))
                if board.history:
                    drawn.append(draw_holders(board, figures / f"holders-{slug(board)}.png"))
                    told.append(out / HISTORY / f"{slug(board)}.json")
                    replace_atomically(told[-1], [history_json(board, told[-1].parent)])
        for stale in {path for pattern in OWN for path in out.glob(pattern)} - {*drawn, *told}:
            stale.unlink()
        pages = {"LEADERBOARD.md": leaderboard_markdown, "index.html": render_page}
        for name, render in pages.items():
            replace_atomically(out / name, [render(leaderboard, out).encode()])
        return [*(out / name for name in pages), *drawn, *told]
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error}", "free some space, or choose another folder with --out") from error
