"""The page: whole, self-contained, safe with hostile names; what belongs to a source is found."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from tests.report.made_case import Case, joints, random_case

from duopose.config import config_text, load_config
from duopose.errors import UserError
from duopose.evaluate.metrics import Metrics, write_metrics
from duopose.report.analysis import analyse, with_label
from duopose.report.document import report_html
from duopose.report.elements import image, table, text
from duopose.report.report_sources import Source, SourceOptions, distinct_labels, open_source
from duopose.report.svg import draw_grid
from duopose.report.theme import SERIES

HOSTILE = '"><script>alert(1)</script>$x_{$&amp;'


class Tags(HTMLParser):
    """Names of the elements, and the addresses in their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def source(case: Case, folder: Path, label: str = "made") -> Source:
    annotations, results = case.write(folder)
    options = SourceOptions(annotations=str(annotations))
    return with_label(open_source(results, options), label)


def test_page_has_every_section_and_loads_nothing(tmp_path: Path) -> None:
    page = report_html([analyse(source(random_case(), tmp_path))], 20)
    tags = Tags(page)

    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections == [
        "metrics", "curves", "groups", "joints", "costs", "calibration", "images", "protocol",
    ]  # fmt: skip
    assert tags.names.count("svg") == 6
    assert "script" not in tags.names
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    assert len(set(tags.ids)) == len(tags.ids)
    assert {address[1:] for address in tags.addresses if address[0] == "#"} <= set(tags.ids)
    outside = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[\w/]+"', "", page)
    assert "http://" not in outside and "https://" not in outside


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    case = random_case(6)
    one = source(case, tmp_path, HOSTILE)
    one.protocol[HOSTILE] = HOSTILE
    page = report_html([analyse(one), analyse(with_label(one, "b"))], 20, HOSTILE)
    assert "script" not in Tags(page).names
    assert page.count("&lt;script&gt;") >= 4
    assert text("<&'\"") == "&lt;&amp;&#x27;&quot;"
    assert "<b>" not in table(["<b>"], [["<b>", "<b>"]])
    with pytest.raises(AssertionError):
        image("https://example.org/a.png", "", "")


def test_figures_take_the_colours_of_the_page() -> None:
    def panel(axes: Axes) -> None:
        axes.bar([0], [1], color=SERIES[0])

    svg = draw_grid([panel], "a <figure>")
    assert 'aria-label="a &lt;figure&gt;"' in svg
    assert "var(--series0)" in svg and "currentColor" in svg
    assert not re.search(r"#01\d{4}|font-family|<style|<metadata", svg)


def test_one_image_without_anything_found(tmp_path: Path) -> None:
    case = Case()
    case.add_person(case.add_image(), joints())
    page = report_html([analyse(source(case, tmp_path))], 20)
    assert "AP 0.000" in page
    assert "no detections at all" in page


def test_two_sources_show_what_differs(tmp_path: Path) -> None:
    first = source(random_case(), tmp_path / "a", "a")
    worse = random_case()
    for entry in worse.entries[::2]:
        entry["keypoints"] = (np.array(entry["keypoints"]) + 3).tolist()
    second = source(worse, tmp_path / "b", "b")
    first.protocol["flip"] = True
    second.protocol["flip"] = False
    first.protocol["only_first"] = 3

    analyses = [analyse(first), analyse(second)]
    page = report_html(analyses, 20)
    differing = page[page.index("What differs") :]
    assert re.search(r"flip</th>\s*<td>True</td>\s*<td>False", differing)
    assert "only_first" not in differing[: differing.index("</table>")]
    difference = (analyses[1].ap or 0) - (analyses[0].ap or 0)
    assert difference < 0
    assert f"<td>{difference:+.3f}</td>" in page


def test_images_of_different_sets_are_not_compared(tmp_path: Path) -> None:
    first = source(random_case(5), tmp_path / "a", "a")
    second = source(random_case(6), tmp_path / "b", "b")
    page = report_html([analyse(first), analyse(second)], 20)
    assert "different images" in page


def test_run_folder_gives_settings_log_and_ground_truth(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    found = open_source(run, SourceOptions())
    assert found.results == run / "results" / "results.json"
    assert found.annotations.path.name == "person_keypoints_val2017.json"
    assert found.training_log == run / "metrics.csv"
    assert found.images is not None
    assert found.protocol["benchmark"] == "coco"
    # The folder of results alone leads to the same run.
    assert open_source(run / "results", SourceOptions()).training_log == run / "metrics.csv"

    one = analyse(with_label(found, "run"))
    assert "have changed" in " ".join(one.notes)  # the made metrics.json states AP 1
    page = report_html([one], 3)
    assert '<section id="training"' in page


def test_only_the_evaluated_images_are_scored(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["DATASET.LIMIT", "4"])
    found = open_source(run, SourceOptions())
    assert found.image_ids == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["nothing", "unfinished", "lonely", "empty"])
def test_a_missing_part_is_named(tmp_path: Path, kind: str) -> None:
    run = make_run(tmp_path)
    expected = {
        "nothing": "does not exist",
        "unfinished": "has no results.json",
        "lonely": "--annotations",
        "empty": "neither",
    }
    path = run
    if kind == "nothing":
        path = tmp_path / "absent"
    elif kind == "unfinished":
        shutil.rmtree(run / "results")
    elif kind == "lonely":
        path = tmp_path / "other.json"
        path.write_text("[]")
    else:
        path = tmp_path / "empty"
        path.mkdir()
    with pytest.raises(UserError, match=re.escape(expected[kind])):
        open_source(path, SourceOptions())


def test_labels_are_the_shortest_different_ends() -> None:
    assert distinct_labels([Path("/x/demo")]) == ["demo"]
    assert distinct_labels([Path("/x/a/demo"), Path("/x/b/demo")]) == ["a/demo", "b/demo"]
    assert distinct_labels([Path("/x/demo"), Path("/x/demo")]) == ["demo (1)", "demo (2)"]


def make_run(folder: Path, settings: list[str] | None = None) -> Path:
    """A run folder below output/ and its data below data/, found from the run."""
    case = random_case(8)
    annotations, results = case.write(folder / "data" / "annotations")
    (folder / "data" / "images" / "val2017").mkdir(parents=True)
    run = folder / "output" / "coco" / "model" / "name"
    (run / "results").mkdir(parents=True)
    shutil.move(results, run / "results" / "results.json")

    cfg = load_config(None, ["DATASET.ROOT", "data", *(settings or [])])
    (run / "config.yaml").write_text(config_text(cfg))
    (run / "metrics.csv").write_text(
        "step,epoch,kind,name,value\n10,1,train,loss,0.5\n20,2,train,loss,0.25\n20,2,val,AP,0.5\n"
    )
    write_metrics(run / "results" / "metrics.json", Metrics({"AP": 1.0}), {"benchmark": "coco"})
    assert annotations.is_file()
    return run
