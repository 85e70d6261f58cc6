"""Writes a leaderboard's files, each whole or not at all."""

from pathlib import Path

from harness.errors import UserError
from harness.files import replace_atomically
from harness.report import style
from harness.report.board.figure import draw_board
from harness.report.board.gather import Leaderboard, slug
from harness.report.board.holders_figure import draw_holders
from harness.report.board.markdown import leaderboard_markdown
from harness.report.board.page import render_page

OWN_FIGURES = ("leaderboard-*.png", "holders-*.png")


def publish(leaderboard: Leaderboard, out: Path) -> list[Path]:
    """LEADERBOARD.md, index.html and the figures of every board, into `out`. Figures of boards that are gone are removed.

    Raises:
        UserError: the folder cannot be written.
    """
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        drawn = []
        with style.styled():
            for board in leaderboard.boards:
                drawn.append(draw_board(board, figures / f"leaderboard-{slug(board)}.png"))
                if board.history:
                    drawn.append(draw_holders(board, figures / f"holders-{slug(board)}.png"))
        for stale in {path for pattern in OWN_FIGURES for path in figures.glob(pattern)} - set(drawn):
            stale.unlink()
        pages = {"LEADERBOARD.md": leaderboard_markdown, "index.html": render_page}
        for name, render in pages.items():
            replace_atomically(out / name, [render(leaderboard, out).encode()])
        return [*(out / name for name in pages), *drawn]
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error}", "free some space, or choose another folder with --out") from error
