"""The whole report: sources in, one html file out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from duopose import __version__
from duopose.evaluate.metrics import format_number
from duopose.files import write_atomically
from duopose.report.analysis import Analysis, analyse
from duopose.report.elements import Html, element, joined, navigation, page, paragraph, text
from duopose.report.error_sections import calibration, costs, joint_errors, training
from duopose.report.image_section import worst
from duopose.report.metric_sections import groups, overview, precision_recall, protocols
from duopose.report.report_sources import Source
from duopose.report.theme import SERIES, STYLE

TITLE_OF_SECTION = re.compile(r'<section id="([\w-]+)"><h2>(.*?)</h2>', re.DOTALL)
WORST_IMAGES = 20


def write_report(
    path: Path, sources: list[Source], number_of_images: int = WORST_IMAGES, title: str = ""
) -> list[Analysis]:
    """Analyse every source and write the page, completely or not at all.

    number_of_images: of the worst images to show. UserError where a source cannot be scored.
    """
    analyses = [analyse(source) for source in sources]
    content = report_html(analyses, number_of_images, title)
    # Names of files that are not UTF-8 hold surrogates.
    write_atomically(path, content.encode(errors="backslashreplace"))
    return analyses


def report_html(analyses: list[Analysis], number_of_images: int, title: str = "") -> str:
    """The page; it contains everything that it shows."""
    title = title or "Pose report: " + ", ".join(one.label for one in analyses)
    sections = [
        overview(analyses),
        precision_recall(analyses),
        groups(analyses),
        joint_errors(analyses),
        costs(analyses),
        calibration(analyses),
        worst(analyses, number_of_images),
        training(analyses),
        protocols(analyses),
    ]
    body = joined([_header(title, analyses, sections), *sections, _footer()])
    return page(title, STYLE, body)


def _header(title: str, analyses: list[Analysis], sections: list[Html]) -> Html:
    names = [TITLE_OF_SECTION.match(one) for one in sections]
    links = [(found[1], found[2]) for found in names if found]
    parts = [element("h1", text(title)), _summary(analyses), navigation(links)]
    return element("header", joined(parts))


def _summary(analyses: list[Analysis]) -> Html:
    """The headline of each source in large print, with the colour that it has in the figures."""
    boxes = []
    for index, one in enumerate(analyses):
        headline = one.metrics.headline
        value = format_number(one.metrics.values.get(headline), headline)
        content = [
            element("span", text(one.label)),
            element("b", text(f"{headline} {value}")),
            element("span", text(_counts(one))),
        ]
        boxes.append(element("div", joined(content), f"source{index % len(SERIES)}"))
    return element("div", joined(boxes), "summary")


def _counts(analysis: Analysis) -> str:
    images = len(analysis.scoring.image_ids)
    people = int(analysis.matches.num_people.sum())
    image_word = "image" if images == 1 else "images"
    person_word = "person" if people == 1 else "people"
    return f"{images} {image_word}, {people} {person_word}"


def _footer() -> Html:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    sentence = f"Made by tools/report.py of duopose {__version__}, {now}."
    return element("footer", paragraph(sentence))
