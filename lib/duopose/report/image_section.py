"""Section of the report: the worst images."""

from __future__ import annotations

from duopose.report.analysis import Analysis, same_images
from duopose.report.elements import (
    Html,
    element,
    heading,
    image,
    joined,
    note,
    paragraph,
    section,
)
from duopose.report.image_pairs import DrawnImage, drawn_worst_images


def worst(analyses: list[Analysis], number: int) -> Html:
    """The worst images with truth and predictions side by side."""
    if not same_images(analyses):
        parts = []
        for one in analyses:
            drawn, problems = drawn_worst_images([one], number)
            if drawn:
                parts.append(heading(3, one.label))
            parts += _image_parts(drawn, problems)
        return section("images", "Worst images", parts)

    drawn, problems = drawn_worst_images(analyses, number)
    parts = _image_parts(drawn, problems)
    if drawn:
        thresholds = ", ".join(f"{one.label} {one.mistakes.threshold:.3g}" for one in analyses)
        parts.insert(
            0,
            paragraph(
                "Images with the most mistakes: missed people and false detections, mean over the "
                "OKS thresholds. Detections from the score on that gives the best F1 at OKS .50 "
                f"({thresholds}). A detection has the colour of the person it matches; hollow "
                "joints of the truth are hidden ones.",
                "faint",
            ),
        )
    elif all(one.source.images is None for one in analyses):
        parts.append(paragraph("The images were not found; give them with --images.", "faint"))
    return section("images", "Worst images", parts)


def _image_parts(drawn: list[DrawnImage], problems: list[str]) -> list[Html]:
    parts = [_image_row(one) for one in drawn]
    if problems:
        parts.append(note(f"{len(problems)} of the images cannot be shown; {problems[0]}"))
    return parts


def _image_row(drawn: DrawnImage) -> Html:
    title = f"{drawn.name} (id {drawn.image_id})"
    mistakes = ("", *drawn.mistakes)
    figures = []
    for (name, url), sentence in zip(drawn.drawings, mistakes, strict=True):
        caption = f"{name}: {sentence}" if sentence else name
        figures.append(image(url, f"{title}, {name}", caption))
    columns = min(len(figures), 3)
    row = Html(
        f'<div class="row" style="grid-template-columns: repeat({columns}, minmax(0, 1fr))">'
        f"{joined(figures)}</div>"
    )
    return element("div", joined([heading(3, title), row]), "images")
