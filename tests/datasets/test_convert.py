"""Files of labelling programs to COCO format and back to the truth; hostile and wrong files."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.datasets.labelled_formats import (
    BOX,
    KEYPOINTS,
    SIZES,
    TRUTH,
    write_cvat,
    write_deeplabcut,
    write_images,
    write_labelme,
    write_yolo,
)

from duopose.coco_annotations import RequiredField
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.records import check_skeleton
from duopose.datasets.check.splits import Rules, check_split
from duopose.datasets.prepare.skeleton_draft import draft_skeleton, draft_text, guess_flip_pairs
from duopose.datasets.split_files import FolderImages
from duopose.skeletons import get_skeleton, skeleton_from_dict

PROJECT = Path(__file__).resolve().parents[2]
AREA = RequiredField("area", "OKS divides by it")
convert: Callable[[list[str]], int] = runpy.run_path(str(PROJECT / "tools" / "convert.py"))["main"]


def run(*words: object, code: int = 0) -> None:
    assert convert([str(word) for word in words]) == code


def people_by_image(content: dict[str, Any]) -> dict[str, list[list[tuple[float, ...]]]]:
    """Image name -> people -> x, y, visibility of KEYPOINTS."""
    names = content["categories"][0]["keypoints"]
    files = {image["id"]: image["file_name"] for image in content["images"]}
    found: dict[str, list] = {name: [] for name in files.values()}
    for annotation in content["annotations"]:
        flat = annotation["keypoints"]
        points = [tuple(flat[3 * k : 3 * k + 3]) for k in range(len(names))]
        found[files[annotation["image_id"]]].append([points[names.index(n)] for n in KEYPOINTS])
    return found


def expected(people: Sequence[int] = (0, 1), visible: bool = False) -> dict[str, list]:
    """`visible`: the format does not know hidden keypoints."""
    found: dict[str, list] = {name: [] for name in SIZES}
    for (image, person), points in TRUTH.items():
        if person in people:
            seen = [(x, y, 2 if visible and v else v) for x, y, v in points]
            found[image].append(seen)
    return found


def assert_same_people(content: dict[str, Any], truth: dict[str, list]) -> None:
    found = people_by_image(content)
    assert found.keys() == truth.keys()
    for name, people in truth.items():
        assert len(found[name]) == len(people)
        for points, true_points in zip(found[name], people, strict=True):
            for point, true_point in zip(points, true_points, strict=True):
                assert point == pytest.approx(true_point, abs=1e-3)


def assert_accepted(out: Path, skeleton_path: Path, images: Path) -> None:
    """tools/check_data.py finds no problem, with the draft as it is."""
    skeleton = get_skeleton(str(skeleton_path))
    report = check_split("train", out, FolderImages(images), Rules(skeleton, AREA, 30))
    skeleton_findings = Findings("skeleton")
    check_skeleton(skeleton, skeleton_findings)
    assert not report.findings.problems and not skeleton_findings.problems


# ---- there and back ----


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "coco" / "train.json"


def draft_of(out: Path) -> Path:
    return out.with_name("train_skeleton.yaml")


def test_labelme_there_and_back(tmp_path: Path, out: Path) -> None:
    folder = write_labelme(tmp_path / "labels")
    run("labelme", folder, "--out", out)

    content = json.loads(out.read_bytes())
    assert_same_people(content, expected())
    run("labelme", tmp_path, "--images", folder, "--out", tmp_path / "again.json")  # beside COCO
    first = content["annotations"][0]
    assert first["bbox"] == list(BOX) and first["area"] == 265
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    assert_accepted(out, draft_of(out), folder)


@pytest.mark.parametrize("with_skeletons", [True, False], ids=["skeletons", "points"])
def test_cvat_there_and_back(tmp_path: Path, out: Path, with_skeletons: bool) -> None:
    write_images(tmp_path / "images")
    run("cvat", write_cvat(tmp_path / "annotations.xml", with_skeletons), "--out", out)

    content = json.loads(out.read_bytes())
    assert content["categories"][0]["keypoints"] == KEYPOINTS
    assert_same_people(content, expected())
    assert_accepted(out, draft_of(out), tmp_path / "images")


@pytest.mark.parametrize("values", [2, 3])
def test_yolo_there_and_back(tmp_path: Path, out: Path, values: int) -> None:
    source = write_yolo(tmp_path / "yolo", values=values)
    run("yolo", source, "--out", out, "--keypoints", *KEYPOINTS)

    content = json.loads(out.read_bytes())
    assert_same_people(content, expected(visible=values == 2))
    assert content["annotations"][0]["bbox"] == pytest.approx(list(BOX), abs=1e-3)
    draft = yaml.safe_load(draft_of(out).read_text())
    assert draft["flip_pairs"] == [KEYPOINTS[1:3], KEYPOINTS[3:]]
    assert_accepted(out, draft_of(out), tmp_path / "yolo" / "images" / "train")


@pytest.mark.parametrize("animals", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("index_columns", [1, 3])
def test_deeplabcut_there_and_back(
    tmp_path: Path, out: Path, animals: bool, index_columns: int
) -> None:
    source = write_deeplabcut(tmp_path / "session", animals, index_columns)
    run("deeplabcut", source, "--out", out)

    people = (0, 1) if animals else (0,)
    assert_same_people(json.loads(out.read_bytes()), expected(people, visible=True))
    assert_accepted(out, draft_of(out), tmp_path / "session")


def test_deeplabcut_project_keeps_the_folders_of_videos(tmp_path: Path, out: Path) -> None:
    write_deeplabcut(tmp_path / "labeled-data" / "one", animals=False)
    write_deeplabcut(tmp_path / "labeled-data" / "two", animals=False, index_columns=3)
    run("deeplabcut", tmp_path / "labeled-data", "--out", out)
    names = [image["file_name"] for image in json.loads(out.read_bytes())["images"]]
    assert names == ["one/a.png", "one/b.png", "two/a.png", "two/b.png"]


# As DeepLabCut's published example project openfield-Pranav-2018-10-30 begins.
OPENFIELD = """scorer,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav,Pranav
bodyparts,snout,snout,leftear,leftear,rightear,rightear,tailbase,tailbase
coords,x,y,x,y,x,y,x,y
labeled-data/m4s1/a.png,49.6,30.1,41.2,20.0,55.5,25.5,,
"""


def test_deeplabcuts_published_layout(tmp_path: Path, out: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "CollectedData_Pranav.csv").write_text(OPENFIELD)
    run("deeplabcut", tmp_path, "--out", out)
    (mouse,) = json.loads(out.read_bytes())["annotations"]
    assert mouse["keypoints"] == [49.6, 30.1, 2, 41.2, 20, 2, 55.5, 25.5, 2, 0, 0, 0]
    draft = yaml.safe_load(draft_of(out).read_text())
    assert draft["flip_pairs"] == [["leftear", "rightear"]] and draft["torso"] == ["tailbase"]


# A label line as in Ultralytics' coco8-pose (17 keypoints, class 0).
COCO8_YAML = """path: coco8-pose
train: images/train
kpt_shape: [17, 3]
flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
names:
  0: person
"""


def test_ultralytics_published_layout_gets_cocos_names(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "coco8-pose"
    write_images(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    line = "0 0.5 0.5 0.4 0.6 " + "0.25 0.5 2.000000 " + "0.000000 0.000000 0.000000 " * 16
    (folder / "labels" / "train" / "a.txt").write_text(line + "\n")
    (tmp_path / "coco8-pose.yaml").write_text(COCO8_YAML)

    run("yolo", tmp_path / "coco8-pose.yaml", "--out", out, "--skeleton", "coco")
    (person,) = json.loads(out.read_bytes())["annotations"]
    assert person["keypoints"][:3] == [20, 30, 2] and person["num_keypoints"] == 1
    assert not draft_of(out).exists()


# ---- people without groups, keypoints outside, skeletons ----


def labelme_file(path: Path, shapes: Sequence[tuple[str, str, Any]]) -> None:
    records = [
        {"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes
    ]
    content = {"shapes": records, "imagePath": "a.png", "imageWidth": 80, "imageHeight": 60}
    path.write_text(json.dumps(content))


def test_points_without_groups_belong_to_the_box_around_them(tmp_path: Path, out: Path) -> None:
    boxes = [
        ("person", "rectangle", [[0, 0], [20, 20]]),
        ("person", "rectangle", [[40, 0], [70, 30]]),
    ]
    points = [("nose", "point", [[50, 10]]), ("nose", "point", [[10, 10]])]
    labelme_file(tmp_path / "a.json", [*boxes, *points])
    run("labelme", tmp_path, "--out", out)
    first, second = json.loads(out.read_bytes())["annotations"]
    assert first["keypoints"] == [10, 10, 2] and first["bbox"] == [0, 0, 20, 20]
    assert second["keypoints"] == [50, 10, 2] and second["bbox"] == [40, 0, 30, 30]

    labelme_file(tmp_path / "a.json", [*boxes, *points, ("nose", "point", [[30, 10]])])
    run("labelme", tmp_path, "--out", out, "--overwrite", "--draft", tmp_path / "d.yaml", code=2)


def test_regions_polygons_and_keypoints_outside(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    triangle = [[10, 10], [30, 10], [10, 30]]
    shapes = [
        ("nose", "point", [[12, 12]]), ("left_hand", "point", [[200, 12]]),
        ("person", "polygon", triangle), ("car", "polygon", triangle), ("x", "circle", triangle),
    ]  # fmt: skip
    labelme_file(tmp_path / "a.json", shapes)
    run("labelme", tmp_path, "--out", out, "--shift", -0.5)
    (person,) = json.loads(out.read_bytes())["annotations"]
    assert person["keypoints"] == [11.5, 11.5, 2, 0, 0, 0]
    assert person["area"] == 200 and person["segmentation"] == [[9.5, 9.5, 29.5, 9.5, 9.5, 29.5]]
    assert capsys.readouterr().out.count("notice:") == 2


def test_a_skeleton_gives_names_and_order_and_refuses_others(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelme_file(
        tmp_path / "a.json", [("pelvis", "point", [[9, 9]]), ("head_top", "point", [[5, 5]])]
    )
    six = PROJECT / "docs" / "examples" / "six_keypoints.yaml"
    run("labelme", tmp_path, "--out", out, "--skeleton", six)
    (person,) = json.loads(out.read_bytes())["annotations"]
    assert person["keypoints"][:3] == [5, 5, 2] and person["keypoints"][-3:] == [9, 9, 2]

    labelme_file(tmp_path / "a.json", [("head_topp", "point", [[9, 9]])])
    run("labelme", tmp_path, "--out", out, "--skeleton", six, "--overwrite", code=2)
    assert "'head_top'" in capsys.readouterr().err


def test_nothing_is_replaced(tmp_path: Path, out: Path) -> None:
    folder = write_labelme(tmp_path / "labels")
    run("labelme", folder, "--out", out)
    run("labelme", folder, "--out", out, code=2)  # the json exists
    run("labelme", folder, "--out", out, "--overwrite", code=2)  # the draft exists
    draft_of(out).write_text(draft_of(out).read_text().replace("name: train", "name: mine"))
    run("labelme", folder, "--out", out, "--overwrite", "--skeleton", draft_of(out))
    assert get_skeleton(str(draft_of(out))).name == "mine"


def test_cvat_points_of_a_whole_person_need_names(tmp_path: Path, out: Path) -> None:
    body = '<points label="person" occluded="0" points="1,2;3,4" group_id="0"/>'
    source = cvat_file(tmp_path, body)
    run("cvat", source, "--out", out, code=2)
    run("cvat", source, "--out", out, "--keypoints", "nose", "tail")
    assert json.loads(out.read_bytes())["annotations"][0]["keypoints"] == [1, 2, 2, 3, 4, 2]


def cvat_file(folder: Path, body: str, name: str = "a.png", start: str = "") -> Path:
    path = folder / "annotations.xml"
    image = f'<image id="0" name="{name}" width="80" height="60">{body}</image>'
    path.write_text(f'<?xml version="1.0"?>{start}<annotations>{image}</annotations>')
    return path


# ---- wrong and hostile files: one sentence that names the file ----

NOSE = '<points label="nose" points="1,2"/>'
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
HEADER = "scorer,s,s\nbodyparts,nose,nose\n"
YOLO = "train: images\nnames: [person]\n"
WRONG_FILES = {
    "labelme.json": [
        "{", "[]", '{"images": []}', '{"shapes": [1]}', '{"shapes": []}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [[1]]}], "imagePath": "a"}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [[1, 2], [3, 4]]}]}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [[1, 1e300]]}]}',
        '{"shapes": [{"label": "a\\nb", "shape_type": "point", "points": [[1, 1]]}]}',
        '{"shapes": [{"label": "n", "shape_type": "point", "points": [[1, 1]]}], "imagePath": 3}',
        '{"shapes": [], "imagePath": ".."}',
        '{"shapes": [], "imagePath": "missing.png"}',
    ],
    "cvat.xml": [
        "", "<a", "<a/>", "<annotations><track/></annotations>",
        f"{BOMB}<annotations><image>&b;</image></annotations>",
        f"{EXTERNAL}<annotations><image>&a;</image></annotations>",
        f'<annotations><image name="../a.png" width="8" height="6">{NOSE}</image></annotations>',
        f'<annotations><image name="/a.png" width="8" height="6">{NOSE}</image></annotations>',
        f'<annotations><image name="a.png" width="x" height="6">{NOSE}</image></annotations>',
        '<annotations><image name="a" width="8" height="6"/></annotations>',
        '<annotations><image name="a" width="8" height="6"><points label="n" points="1"/></image>'
        "</annotations>",
        '<annotations><image name="a" width="8" height="6"><points label="n" points="nan,1"/>'
        "</image></annotations>",
    ],
    "data.yaml": [
        "{", "a: 1", "a: &a [*a]", "!!python/object/apply:os.system [ls]", "kpt_shape: 3",
        "kpt_shape: [1000000000, 3]", f"kpt_shape: [2, 3]\n{YOLO}", f"kpt_shape: [2, 4]\n{YOLO}",
        "kpt_shape: [2, 3]\ntrain: /etc\nnames: [person]",
        "kpt_shape: [2, 3]\ntrain: ../../etc\nnames: [person]",
        "kpt_shape: [2, 3]\ntrain: images\nnames: [cat, dog]",
        f"kpt_shape: [2, 3]\nflip_idx: [0, 5]\n{YOLO}",
    ],
    "deeplabcut.csv": [
        "", "a,b\n1,2\n", "scorer,s\n", HEADER, f"{HEADER}coords,x,y\n",
        f"{HEADER}coords,x\na.png,1,2\n", f"{HEADER}coords,y,x\na.png,1,2\n",
        f"{HEADER}coords,x,y\na.png,1\n", f"{HEADER}coords,x,y\na.png,1,x\n",
        f"{HEADER}coords,x,y\n/etc/passwd,1,2\n", f"{HEADER}coords,x,y\n../a.png,1,2\n",
        f"{HEADER}coords,x,y\nmissing.png,1,2\n",
        "scorer,s,s,s\nbodyparts,n,n,n\ncoords,x,y,likelihood\n0,1,2,0.9\n",
    ],
}  # fmt: skip
CASES = [(name, index) for name, texts in WRONG_FILES.items() for index in range(len(texts))]


@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_wrong_file_is_one_sentence(
    tmp_path: Path, out: Path, name: str, index: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images")
    write_images(tmp_path)
    source = tmp_path / name
    source.write_text(WRONG_FILES[name][index])
    kind = {"data.yaml": "yolo"}.get(name, name.split(".", maxsplit=1)[0])
    run(kind, source, "--out", out, code=2)

    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    says_nothing_is_labelled = "has a labelled keypoint" in message
    assert name in message or says_nothing_is_labelled
    assert not out.parent.exists()


def test_a_document_type_in_another_encoding_is_refused(tmp_path: Path, out: Path) -> None:
    text = f'<?xml version="1.0" encoding="utf-16"?>{BOMB}<annotations>&b;</annotations>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    run("cvat", tmp_path / "a.xml", "--out", out, code=2)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("0 0.5 0.5", "line 2"),
        ("0 0.5 0.5 0.2 0.2" + " 0.1 0.1 7" * 5, "line 2"),
        ("0 50 50 20 20" + " 10 10 2" * 5, "line 2"),
        ("0 x 0.5 0.2 0.2" + " 0.1 0.1 2" * 5, "line 2"),
    ],
)
def test_a_wrong_line_of_yolo(
    tmp_path: Path, out: Path, line: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_yolo(tmp_path / "yolo")
    label = tmp_path / "yolo" / "labels" / "train" / "b.txt"
    label.write_text(f"{label.read_text()}\n{line}\n")
    run("yolo", source, "--out", out, code=2)
    message = capsys.readouterr().err
    assert "b.txt" in message and part in message and message.count("\n") == 1


# ---- the draft ----


@pytest.mark.parametrize(
    "pair",
    ["left_eye right_eye", "EyeLeft EyeRight", "LEye REye", "lEye rEye", "l_eye r_eye",
     "eye.L eye.R", "leftear rightear", "eye_L2 eye_R2", "LEFT_EYE RIGHT_EYE"],
)  # fmt: skip
def test_flip_pairs_are_guessed(pair: str) -> None:
    left, right = pair.split()
    assert guess_flip_pairs([right, "nose", "lip", "tail", left]) == [(left, right)]


def test_cocos_names_give_cocos_skeleton() -> None:
    coco = get_skeleton("coco")
    draft = draft_skeleton("x", coco.keypoints)
    assert set(draft.flip_pairs) == set(coco.flip_pairs)
    assert (draft.torso, draft.parents, draft.centre_only, draft.sigmas) == (
        coco.torso, coco.parents, coco.centre_only, coco.sigmas,
    )  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ["left_wrist", "right_wrist", "left_elbow", "left_shoulder", "right_shoulder"],  # no elbow
        ["keypoint_1", "keypoint_2"],
        ["yes", "no", "1", "a: b", "#x", "left [", "right [", "'", "ключ", "- a"],
        ["left_toe", "right_toe", "left_hip", "right_hip"],
        ["left_hip", "left", "right", "l_hip", "r_hip"],
    ],
)
def test_any_names_give_a_usable_draft(names: list[str]) -> None:
    skeleton = draft_skeleton("mine", names)
    text = draft_text(skeleton, "a\nb.xml")
    read = skeleton_from_dict(yaml.safe_load(text), "draft")
    assert read == skeleton and read.keypoints == tuple(names)
    assert text.count("confirm") >= 3 and all("\r" not in line for line in text)


# ---- the page ----


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("data/mine")
    write_labelme(mine / "labelme")
    write_cvat(mine / "annotations.xml")
    write_yolo(mine)
    write_deeplabcut(mine / "labeled-data" / "session", animals=True)

    page = (PROJECT / "docs" / "own_data.md").read_text().splitlines()
    commands = [line.split() for line in page if line.startswith("    python tools/convert.py")]
    assert [words[2] for words in commands] == ["labelme", "cvat", "yolo", "deeplabcut"]
    for index, words in enumerate(commands):
        run(*words[2:], "--overwrite", "--draft", f"{index}.yaml")
