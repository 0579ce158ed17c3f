"""The site of the pages builds without a warning, and its pages need nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.chromium import Chromium, find_chromium

PROJECT = Path(__file__).resolve().parents[2]
# Tags that fetch what they name, and the attributes that name it. An <a> is only a link.
FETCHING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "object": ("data",),
}
FAR = re.compile(r"^\s*(?:https?:)?//")
FAR_IN_CSS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//")


class Resources(HTMLParser):
    """Collects the addresses that a page fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        names = FETCHING.get(tag, ())
        self.found += [value for name, value in attrs if name in names and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages."""
    pytest.importorskip("material", reason="mkdocs-material is absent: pip install duopose[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_has_the_pages(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    sources = (PROJECT / "docs").rglob("*.md")
    names = {path.relative_to(PROJECT / "docs").with_suffix(".html").as_posix() for path in sources}
    names = {name.replace("README", "index") for name in names}
    outside = {"index.html", "quickstart.html", "contributing.html", "data.html", "models.html"}
    assert names | outside <= pages
    assert (site / "experiments" / "sample" / "six_keypoints.yaml").is_file()
    assert (site / "quickstart.ipynb").is_file()
    assert not list(site.rglob("*.py"))


def test_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert [url for url in Resources(text).found if FAR.match(url)] == [], page
        assert not FAR_IN_CSS.search(text), page
    for sheet in site.rglob("*.css"):
        assert not FAR_IN_CSS.search(sheet.read_text()), sheet


def test_the_check_of_resources_can_fail() -> None:
    text = '<a href="https://a"><script src="https://b"></script><link href="//c"><img src="d">'
    assert [url for url in Resources(text).found if FAR.match(url)] == ["https://b", "//c"]
    assert FAR_IN_CSS.search("a{background:url('https://e')}")


@pytest.mark.slow
def test_opens_in_a_browser_offline(site: Path, tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("chromium is not installed")
    browser = Chromium(program, tmp_path)
    try:
        for name in ("index.html", "architecture.html", "method.html"):
            browser.open(site / name, dark=False)
            time.sleep(1)  # scripts that run after loading
            assert browser.evaluate("document.images.length ? document.images[0].width : 1") > 0
            assert [url for url in browser.requested() if not url.startswith("file:")] == []
            assert browser.complaints() == []
    finally:
        browser.close()
