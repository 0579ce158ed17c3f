"""HTML elements as strings. Every function escapes the text that it is given.

`Html` marks what is HTML already, so that the type checker finds text that was not escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NewType

Html = NewType("Html", str)

NOTHING = Html("")


def text(content: object) -> Html:
    """Any value as escaped text."""
    return Html(escape(str(content), quote=True))


def joined(parts: Iterable[Html]) -> Html:
    """Elements one after the other."""
    return Html("\n".join(parts))


def paragraph(content: object, css_class: str = "") -> Html:
    """A paragraph of text."""
    return element("p", text(content), css_class)


def element(name: str, content: Html, css_class: str = "") -> Html:
    """<name class="css_class">content</name>."""
    attribute = f' class="{escape(css_class)}"' if css_class else ""
    return Html(f"<{name}{attribute}>{content}</{name}>")


def heading(level: int, content: object) -> Html:
    """<h2> and so on."""
    return element(f"h{level}", text(content))


def section(name: str, title: str, parts: Iterable[Html]) -> Html:
    """A section that the navigation can name; nothing where all parts are empty."""
    content = joined(part for part in parts if part)
    if not content:
        return NOTHING
    return Html(f'<section id="{escape(name)}">{heading(2, title)}\n{content}</section>')


def navigation(sections: Sequence[tuple[str, str]]) -> Html:
    """Links to sections (name, title)."""
    links = [
        Html(f'<li><a href="#{escape(name)}">{text(title)}</a></li>') for name, title in sections
    ]
    return Html(f'<nav aria-label="Sections"><ul>{joined(links)}</ul></nav>')


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    css_class: str = "",
    main_column: int = 0,
) -> Html:
    """A table; the first cell of each row names it. main_column: shown in bold, 0: none."""
    cells = joined(Html(f'<th scope="col">{text(cell)}</th>') for cell in header)
    lines = [_row(row, main_column) for row in rows]
    content = f"<thead><tr>{cells}</tr></thead>\n<tbody>{joined(lines)}</tbody>"
    return element("div", element("table", Html(content), css_class), "scroll")


def _row(row: Sequence[object], main_column: int) -> Html:
    cells = [Html(f'<th scope="row">{text(row[0])}</th>')]
    for column, cell in enumerate(row[1:], start=1):
        css_class = ' class="main"' if column == main_column else ""
        cells.append(Html(f"<td{css_class}>{text(cell)}</td>"))
    return Html(f"<tr>{joined(cells)}</tr>")


def figure(svg: str, caption: object) -> Html:
    """A drawing of `svg.draw_grid` with its caption; nothing where there is no drawing."""
    if not svg:
        return NOTHING
    return Html(f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>")


def image(url: str, description: str, caption: str) -> Html:
    """A drawing or photograph in the page; `url` must be a data: url."""
    assert url.startswith("data:image/")
    tag = f'<img src="{escape(url, quote=True)}" alt="{text(description)}">'
    return Html(f"<figure>{tag}<figcaption>{text(caption)}</figcaption></figure>")


def details(summary: object, content: Html) -> Html:
    """Content that the reader opens."""
    if not content:
        return NOTHING
    return Html(f"<details><summary>{text(summary)}</summary>{content}</details>")


def note(content: object) -> Html:
    """A sentence that must not be overlooked."""
    return element("div", text(content), "note")


def page(title: str, style: str, body: Html) -> str:
    """A complete page that loads nothing: its policy allows only its own styles and images."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
