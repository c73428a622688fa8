"""Pieces of HTML pages that need no other file."""

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; }
th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; }
svg { max-width: 100%; height: auto; }
.holds { color: #17692f; font-weight: 600; }
.does-not-hold { color: #a3231b; font-weight: 600; }
.undecided, .unfinished { color: #77600a; font-weight: 600; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 12px; }
"""


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def svg(figure: "Figure") -> str:
    """A figure, as part of a page."""
    from matplotlib import rc_context  # drawing has imported it by now; it takes most of a second

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tutelage"}), io.StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        text = file.getvalue()
    return text[text.index("<svg") :]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML already."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
