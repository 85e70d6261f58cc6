"""Words of a record in Markdown: rendered they are themselves, whatever they hold. CommonMark with GitHub's tables and
strikethrough is rendered by markdown-it; what GitHub alone makes of a text is looked for in the text that is left."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.report.markup import code, head, heading, href, item, link, paragraph, row, text
from harness.terminal import one_line

OURS = ("<!-- -->", "<span>", "</span>")  # what divides a text for GitHub and shows nothing
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join")  # escaped characters stay apart
BARE_LINK = re.compile(r"(?:^|[\s*_~(])(?:www\.|https?://|ftp://)", re.IGNORECASE)  # GFM 6.9, in a text as it is written
LIVE = re.compile(r"(?<!\w)@\w|\w@[\w-]+\.\w|#\d|\bGH-\d|:(?!\d\d:)[\w+-]+:")  # GitHub's filters, in a text as it is rendered

HOSTILE = (
    "<script>alert(2)</script>", "<b", "<!-- x", "</span>", "[c](javascript:alert(1))", "![i](x.png)", "[r]: http://a.b",
    "[", "]", "(", ")", "](", "[^1]", "[ ] ", "[1,2]", "`", "``", "\\", "\\#", "\\|", "|", "|---|",
    "*", "**", "_", "__", "~", "~~", "~~s~~", "_e_", "x_e_",
    "#", "# ", "- ", "+ ", "1. ", "2) ", "> ", "---", "===", "    ", "\t", "\n", "\n\n", "\r",
    "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\ud800", "&lt;", "&#64;", "&",
    "@you", "a@b.com", "#12", "GH-3", ":+1:", "$x$", "http://a.b", "www.a.b", "<http://a.b>", "mailto:a@b.c",
    "!", "a", "B2", " ", "a_b", "-0.5", "e\u0301", "±",
)  # fmt: skip
WORDS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join))


def rendered(markdown: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(the blocks by kind, for each inline part its text and the kinds of everything else in it). Errors: AssertionError where
    GitHub would make a link of a text, or more."""
    tokens = MARKDOWN.parse(markdown)
    blocks = [token.type for token in tokens if token.type != "inline" and token.nesting >= 0]
    return blocks, [_inline(token.children) for token in tokens if token.type == "inline"]


def _inline(children: list) -> tuple[str, list[str]]:
    said, others, written, nodes = "", [], [""], [""]  # what the parser saw unescaped; the text nodes it made
    for child in children:
        if child.type in ("text", "text_special"):
            nodes[-1] += child.content
            said += child.content
            written += [""] if child.type == "text_special" else []
            written[-1] += child.content if child.type == "text" else ""
            continue
        written.append("")
        nodes.append("")
        said += child.content if child.type == "code_inline" else ""
        others += [] if child.type == "code_inline" or child.content in OURS else [child.type]
    assert not [piece for piece in written if BARE_LINK.search(piece)]
    assert not [node for node in nodes if LIVE.search(node) or ("$" in node and node != "$")]
    return said, others


def shown(value: str, alone: list[str] | None = None) -> list[tuple[str, list[str]]]:
    """One inline part that is the value and nothing else; none of an empty value."""
    return [(one_line(value), alone or [])] if one_line(value) else []


@pytest.mark.parametrize("piece", HOSTILE, ids=map(repr, HOSTILE))
def test_a_hostile_piece_reads_as_itself_anywhere_in_a_text(piece):
    for value in (piece, f"a {piece}x{piece} b", f"{piece}x {piece}"):
        assert rendered(paragraph(text(value)))[1] == shown(value)
        table = "\n".join([*head(("a", "b")), row([text(value), code(value)])])
        assert rendered(table)[1][2:] == [(one_line(value), [])] * 2


@given(WORDS)
def test_a_text_reads_as_itself_in_a_paragraph_an_item_and_a_heading(value):
    filled = bool(one_line(value))
    assert rendered(paragraph(text(value))) == (["paragraph_open"] * filled, shown(value))
    blocks, parts = rendered(item(text(value)))
    assert blocks == ["bullet_list_open", "list_item_open", *["paragraph_open"] * filled] and parts == shown(value)
    assert rendered(heading(2, text(value)))[0] == ["heading_open"]
    assert [part for part in rendered(heading(2, text(value)))[1] if part[0]] == shown(value)


@given(st.lists(WORDS, min_size=1, max_size=4), st.data())
def test_a_row_has_the_cells_it_was_given_each_reading_as_itself(values, data):
    makers = [data.draw(st.sampled_from((text, code))) for _ in values]
    table = "\n".join([*head(["h"] * len(values)), row(make(value) for make, value in zip(makers, values)), "", "after"])
    blocks, parts = rendered(table)
    assert blocks.count("td_open") == len(values) and blocks[-1] == "paragraph_open"
    assert parts[len(values) : -1] == [(one_line(value), []) for value in values]


@given(WORDS, WORDS, WORDS)
@example("an image!", "[", "]")
def test_texts_side_by_side_make_nothing_of_each_other(first, second, third):
    made = f"{text(first)}{link(second, 'a/b')}{text(third)}({text(first)})"
    (inline,) = [token for token in MARKDOWN.parse(paragraph(made)) if token.type == "inline"]
    tags = [(child.type, child.attrs.get("href")) for child in inline.children if child.tag and child.type != "html_inline"]
    assert tags == [("link_open", "a/b"), ("link_close", None)]
    said = "".join(child.content for child in inline.children if child.content not in OURS)
    assert one_line(said) == one_line(f"{one_line(first)}{one_line(second)}{one_line(third)}({one_line(first)})")


@given(WORDS)
def test_a_code_span_reads_as_itself(value):
    blocks, parts = rendered(f"x {code(value)} y")
    assert parts == [(f"x {one_line(value)} y", [])]


@given(st.lists(st.text(min_size=1).filter(lambda name: "/" not in name and "\0" not in name), min_size=1, max_size=3))
@example(["javascript:alert(1)", "1"])
@example(["a?b#c", "d%20e", " ", '"><script>'])
@example(["\udcff"])
def test_a_link_to_a_folder_is_a_relative_path_to_it(names):
    names = [name for name in names if name not in (".", "..")] or ["x"]
    try:
        folder = Path("/top", *names)
        bytes(folder)
    except UnicodeEncodeError:  # half a surrogate pair: no file has such a name
        return
    made = href(folder, Path("/top"))
    parts = urlsplit(made)
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", made) and not (parts.scheme or parts.netloc or parts.query or parts.fragment)
    assert Path("/top", unquote(made, errors="surrogateescape")) == folder
    (inline,) = [token for token in MARKDOWN.parse(link("x", made)) if token.type == "inline"]
    assert inline.children[0].attrs["href"] == made


@pytest.mark.parametrize(
    "ordinary",
    [
        "cpu, Intel(R) Xeon(R) Processor, AVX512 AMX, 2 threads, torch 2.13.0+cpu", "cpu-amx_bf16-2t", "1.6074 ± 0.0035", "-",
        "optim.muon.lr=0.02 model.num_experts=16 plan 3f9c1a2e", "validation.steps=[64,128] instead of [].",
        "p = 0.02, not below 0.01; a -> b; 60% & more", "runs/tiny-moe-16e/1-e37871e2@8", "12:30:45", "C#",
    ],
)  # fmt: skip
def test_ordinary_words_are_left_as_they_are(ordinary):
    assert text(ordinary) == ordinary.replace("C#", "C\\#")
