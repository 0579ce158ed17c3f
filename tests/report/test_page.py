"""Reports opened in headless Chromium: nothing on the console, nothing loaded, all drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.report.chromium import Chromium, find_chromium
from tests.report.made_case import random_case

from duopose.report.analysis import analyse
from duopose.report.document import report_html
from duopose.report.report_sources import SourceOptions, open_source

# Width of every figure, whether its lines and bars have an extent, and whether images are decoded.
FIGURES = "[...document.querySelectorAll('figure svg')].map(svg => {"
FIGURES += "const box = svg.getBBox(); return [box.width, box.height,"
FIGURES += "svg.querySelectorAll('path').length, svg.querySelectorAll('text').length]})"
IMAGES = "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
COLOURS = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
COLOURS += "getComputedStyle(document.querySelector('figure svg text')).fill]"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is absent (Debian: apt-get install chromium)")
    chromium = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def brightness(colour: str) -> float:
    """Mean of the channels of 'rgb(r, g, b)'."""
    channels = colour[colour.index("(") + 1 : -1].split(",")[:3]
    return float(np.mean([float(channel) for channel in channels]))


def check_page(browser: Chromium, page: Path, figures: int, images: int, out: Path) -> None:
    """Both colour schemes, a narrow window and print."""
    for is_dark in (False, True):
        browser.open(page, dark=is_dark)
        assert browser.complaints() == []
        assert browser.requested() == [page.absolute().as_uri()]

        drawn = browser.evaluate(FIGURES)
        assert len(drawn) == figures
        assert all(width > 100 and height > 100 for width, height, _, _ in drawn)
        assert all(paths > 5 and texts > 5 for _, _, paths, texts in drawn)
        assert browser.evaluate(IMAGES) == [True] * images

        ground, ink, figure_ink = (brightness(colour) for colour in browser.evaluate(COLOURS))
        assert (ground < ink) == is_dark
        assert abs(ground - ink) > 150
        assert abs(ground - figure_ink) > 150
        assert browser.evaluate(OVERFLOW) <= 0
        browser.screenshot(out / f"{'dark' if is_dark else 'light'}.png")

    browser.open(page, dark=False, width=420)
    assert browser.evaluate(OVERFLOW) <= 0
    browser.pdf(out / "page.pdf")
    assert (out / "page.pdf").stat().st_size > 10_000


def test_report_with_images_of_two_sources(browser: Chromium, tmp_path: Path) -> None:
    case = random_case()
    annotations, results = case.write(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for record in case.images:
        cv2.imwrite(
            str(folder / record["file_name"]), noise.integers(0, 255, (120, 160, 3), np.uint8)
        )

    options = SourceOptions(annotations=str(annotations), images=str(folder))
    analyses = [analyse(open_source(results, options)) for _ in range(2)]
    page = tmp_path / "report.html"
    page.write_text(report_html(analyses, 4))
    check_page(browser, page, figures=6, images=12, out=tmp_path)


def test_report_of_real_detections(browser: Chromium, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "evaluation"
    options = SourceOptions(annotations=str(folder / "coco_250_gt.json"))
    analysis = analyse(open_source(folder / "coco_250_detections.json", options))
    assert analysis.ap == pytest.approx(0.37855, abs=1e-5)
    assert analysis.metrics.values["ARL"] == pytest.approx(0.53451, abs=1e-5)

    page = tmp_path / "report.html"
    page.write_text(report_html([analysis], 20))
    check_page(browser, page, figures=5, images=0, out=tmp_path)
