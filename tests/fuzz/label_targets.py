"""Files of labelling programs, as tools/convert.py reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.datasets.labelled_formats import (
    write_cvat,
    write_deeplabcut,
    write_images,
    write_labelme,
    write_yolo,
)
from tests.fuzz.annotation_targets import json_maker
from tests.fuzz.byte_changes import XML_WORDS, changed_bytes, changed_numbers
from tests.fuzz.fuzz_target import Target
from tests.fuzz.record_targets import table_maker
from tests.fuzz.settings_targets import yaml_maker

from duopose.datasets.prepare.cvat_xml import read_cvat
from duopose.datasets.prepare.deeplabcut import read_deeplabcut
from duopose.datasets.prepare.label_files import ReadOptions
from duopose.datasets.prepare.labelled_people import LabelledSet
from duopose.datasets.prepare.labelled_to_coco import to_coco
from duopose.datasets.prepare.labelme import read_labelme
from duopose.datasets.prepare.skeleton_draft import draft_skeleton, draft_text
from duopose.datasets.prepare.yolo_pose import read_yolo_pose
from duopose.errors import path_errors_as_user_errors

OPTIONS = ReadOptions()


def convert(labelled: LabelledSet) -> None:
    """As tools/convert.py: people in COCO's format, and the draft of a skeleton."""
    skeleton = draft_skeleton("mine", labelled.keypoints, labelled.flip_pairs)
    made = to_coco(labelled, skeleton, 0.0)
    json.dumps(made.content, allow_nan=False)
    draft_text(skeleton, "source", labelled.flip_pairs is not None)


def placed_use(place: Path, read: Callable[[], LabelledSet]) -> Callable[[Path], None]:
    """Puts the case where the reader looks for it, and converts."""

    def use(path: Path) -> None:
        place.write_bytes(path.read_bytes())
        with path_errors_as_user_errors():  # as in tools/convert.py
            convert(read())

    return use


def labelme_target(folder: Path) -> Target:
    """A json of labelme."""
    root = write_labelme(folder / "labels")
    place = root / "a.json"
    text = place.read_bytes()
    use = placed_use(place, lambda: read_labelme(root, None, OPTIONS))
    return Target("labelme", ".json", text, json_maker(json.loads(text)), use)


def cvat_target(folder: Path) -> Target:
    """The xml of CVAT."""
    texts = [write_cvat(folder / "a.xml").read_bytes()]
    texts.append(write_cvat(folder / "a.xml", with_skeletons=False).read_bytes())
    use = placed_use(folder / "a.xml", lambda: read_cvat(folder / "a.xml", OPTIONS))

    def make(rng: Random) -> bytes:
        text = rng.choice(texts)
        if rng.random() < 0.6:
            return changed_numbers(text, rng)
        return changed_bytes(text, rng, XML_WORDS)

    return Target("cvat", ".xml", texts[0], make, use)


def yolo_target(folder: Path) -> Target:
    """The labels of one image; those of the other and data.yaml stay."""
    source = write_yolo(folder / "yolo")
    place = folder / "yolo" / "labels" / "train" / "a.txt"
    text = place.read_bytes()
    use = placed_use(place, lambda: read_yolo_pose(source, None, "train", OPTIONS))
    return Target("yolo-labels", ".txt", text, table_maker(text), use)


def yolo_yaml_target(folder: Path) -> Target:
    """data.yaml."""
    source = write_yolo(folder / "yolo")
    text = source.read_bytes()
    use = placed_use(source, lambda: read_yolo_pose(source, None, "train", OPTIONS))
    return Target("yolo-yaml", ".yaml", text, yaml_maker([text]), use)


def deeplabcut_target(folder: Path) -> Target:
    """The csv of DeepLabCut."""
    source = write_deeplabcut(folder / "video", animals=True)
    write_images(folder / "video")
    text = source.read_bytes()
    use = placed_use(source, lambda: read_deeplabcut(source, None, OPTIONS))
    return Target("deeplabcut", ".csv", text, table_maker(text), use)
