"""Writers of the files of labelling programs, from one truth: four keypoints of two people."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np

KEYPOINTS = ["nose", "left_hand", "right_hand", "left_shoulder", "right_shoulder"]
SIZES = {"a.png": (80, 60), "b.png": (64, 96)}  # width, height
# Image, person -> x, y, visibility of each keypoint.
TRUTH: dict[tuple[str, int], list[tuple[float, float, int]]] = {
    ("a.png", 0): [(10, 5, 2), (4.5, 20, 2), (17, 22.25, 1), (8, 12, 2), (0, 0, 0)],
    ("a.png", 1): [(50, 15, 2), (0, 0, 0), (60, 30, 2), (46, 20, 2), (55, 21, 2)],
    ("b.png", 0): [(30, 40, 2), (20, 60, 2), (44, 62, 2), (26, 48, 2), (36, 48.5, 2)],
}
BOX = (2, 3, 20, 25)  # of the first person, x, y, width, height


def named_points(image: str, person: int) -> list[tuple[str, float, float, int]]:
    """The labelled keypoints with their names."""
    pairs = zip(KEYPOINTS, TRUTH[image, person], strict=True)
    return [(name, x, y, visibility) for name, (x, y, visibility) in pairs if visibility]


def write_images(folder: Path) -> None:
    """Grey images of the right sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height) in SIZES.items():
        cv2.imwrite(str(folder / name), np.full((height, width, 3), 90, np.uint8))


def write_labelme(folder: Path) -> Path:
    """One json per image; the names in another order than KEYPOINTS."""
    write_images(folder)
    for image, (width, height) in SIZES.items():
        shapes = []
        for name, person in TRUTH:
            for label, x, y, visibility in named_points(image, person) if name == image else ():
                shape = {"label": label, "points": [[x, y]], "group_id": person}
                flags = {"occluded": visibility == 1}
                shapes.append(shape | {"shape_type": "point", "flags": flags})
        if image == "a.png":
            corners = [[22, 28], [2, 3]]
            shape = {"label": "person", "points": corners, "group_id": 0, "flags": {}}
            shapes.append(shape | {"shape_type": "rectangle"})
        content: dict[str, object] = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None,
            "imagePath": f"..\\photos\\{image}", "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        (folder / image).with_suffix(".json").write_text(json.dumps(content))
    return folder


def write_cvat(path: Path, with_skeletons: bool = True) -> Path:
    """CVAT for images 1.1, with skeletons or with points in groups."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in ["person", *KEYPOINTS]:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        if with_skeletons and name != "person":
            ET.SubElement(label, "type").text = "points"
            ET.SubElement(label, "parent").text = "person"

    for index, (image, (width, height)) in enumerate(SIZES.items()):
        size = {"width": str(width), "height": str(height)}
        parent = ET.SubElement(root, "image", {"id": str(index), "name": image} | size)
        for name, person in TRUTH:
            if name == image:
                _write_cvat_person(parent, image, person, with_skeletons)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    return path


def _write_cvat_person(parent: ET.Element, image: str, person: int, with_skeletons: bool) -> None:
    if with_skeletons:
        parent = ET.SubElement(parent, "skeleton", {"label": "person", "z_order": "0"})
    for label, (x, y, visibility) in zip(KEYPOINTS, TRUTH[image, person], strict=True):
        values = {"label": label, "occluded": str(int(visibility == 1)), "points": f"{x},{y}"}
        if with_skeletons:
            ET.SubElement(parent, "points", values | {"outside": str(int(visibility == 0))})
        elif visibility:
            ET.SubElement(parent, "points", values | {"group_id": str(person + 1)})


def write_yolo(folder: Path, lines: str = "", values: int = 3) -> Path:
    """data.yaml, images/train, labels/train; `lines` are appended to the yaml."""
    write_images(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    for image, (width, height) in SIZES.items():
        rows = []
        for name, person in TRUTH:
            if name != image:
                continue
            x, y, box_width, box_height = BOX
            numbers = [(x + box_width / 2) / width, (y + box_height / 2) / height]
            numbers += [box_width / width, box_height / height]
            for px, py, visibility in TRUTH[image, person]:
                numbers += [px / width, py / height, visibility][:values]
            rows.append(" ".join(["0", *(f"{number:.6f}" for number in numbers)]))
        (folder / "labels" / "train" / image).with_suffix(".txt").write_text("\n".join(rows))
    (folder / "data.yaml").write_text(
        f"path: ../datasets/mine\ntrain: images/train\nkpt_shape: [5, {values}]\n"
        f"flip_idx: [0, 2, 1, 4, 3]\nnames:\n  0: person\n{lines}"
    )
    return folder / "data.yaml"


def write_deeplabcut(folder: Path, animals: bool, index_columns: int = 1) -> Path:
    """CollectedData_me.csv beside its images; with several animals or with the first person."""
    write_images(folder)
    people = [0, 1] if animals else [0]
    columns = [(p, name, axis) for p in people for name in KEYPOINTS for axis in ("x", "y")]
    blank = [""] * (index_columns - 1)
    rows = [["scorer", *blank, *["me"] * len(columns)]]
    if animals:
        rows.append(["individuals", *blank, *[f"animal{p}" for p, _, _ in columns]])
    rows.append(["bodyparts", *blank, *[name for _, name, _ in columns]])
    rows.append(["coords", *blank, *[axis for _, _, axis in columns]])

    for image in SIZES:
        path = ["labeled-data", folder.name, image]
        cells = path if index_columns == 3 else ["\\".join(path)]
        for person in people:
            unlabelled: list[tuple[float, float, int]] = [(0, 0, 0)] * len(KEYPOINTS)
            truth = TRUTH.get((image, person), unlabelled)
            for x, y, visibility in truth:
                cells += [str(x), str(y)] if visibility else ["", ""]
        rows.append(cells)
    file = folder / "CollectedData_me.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file
