"""Synthetic data to time with: people, batches, network outputs, an image folder with annotations.

Everything follows from a seed, and no download is needed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import orjson
import torch

from duopose.coco_annotations import Record, read_annotation_file
from duopose.datasets.annotations import collect_people
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.sample_data.body import pose_body
from duopose.datasets.sample_data.figure import Canvas, draw_figure, random_look
from duopose.datasets.split_files import FolderImages
from duopose.datasets.transforms import Augmentation
from duopose.oracle.simulated_people import FalsePeaks, SimulatedPeople
from duopose.skeletons import COCO, Skeleton
from duopose.types import STRIDES, Batch, NetworkOutput

# ---- keypoints ----

# Distance from the top of the head as a fraction of the height of a standing person, by a word of
# the joint's name. Rough proportions; only timing and tests use them.
FRACTION_OF_HEIGHT = {
    "shoulder": 0.2,
    "elbow": 0.35,
    "wrist": 0.48,
    "hip": 0.52,
    "knee": 0.75,
    "ankle": 0.97,
    "pelvis": 0.52,
    "thorax": 0.2,
    "neck": 0.16,
}
FRACTION_OF_HEIGHT_HEAD = 0.07  # face and head joints
# Distance from the middle line as a fraction of the height; joints of the head have a quarter.
SIDE_OFFSET = {"left": 0.1, "right": -0.1}


def synthetic_people(
    count: int, width: int, height: int, skeleton: Skeleton, seed: int = 0
) -> np.ndarray:
    """(count, K, 3) x, y, visibility of standing people in an image of width x height pixels.

    All joints are visible and inside the image. People are 0.25 to 0.6 of the image's height.
    """
    generator = np.random.default_rng(seed)
    template = np.array([_standing_position(name) for name in skeleton.keypoints])
    person_height = generator.uniform(0.25, 0.6, count) * height
    middle = generator.uniform([0.1, 0.1], [0.9, 0.6], (count, 2)) * [width, height]
    variation = generator.normal(0, 0.03, (count, *template.shape))

    from_middle = template + variation - [0, 0.5]
    position = middle[:, None] + person_height[:, None, None] * from_middle
    position = np.clip(position, 0, [width - 1, height - 1])
    visibility = np.full((*position.shape[:2], 1), 2.0)
    return np.concatenate([position, visibility], axis=2)


def _standing_position(name: str) -> tuple[float, float]:
    """x from the middle line, y from the top of the head, of a person of height 1."""
    y = FRACTION_OF_HEIGHT_HEAD
    for word, fraction in FRACTION_OF_HEIGHT.items():
        if word in name:
            y = fraction

    x = 0.0
    for word, side_offset in SIDE_OFFSET.items():
        if word in name:
            x = side_offset
    is_head = y == FRACTION_OF_HEIGHT_HEAD
    return (x / 4 if is_head else x), y


def with_false_peaks(
    people: SimulatedPeople, per_joint: int, width: int, height: int, seed: int = 0
) -> SimulatedPeople:
    """The people with `per_joint` false peaks of each joint type, at random positions.

    Their tags lie between those of the people.
    """
    generator = np.random.default_rng(seed)
    num_people, num_channels = people.labelled.shape
    joint = np.repeat(np.arange(num_channels - 1), per_joint)
    position = generator.uniform([0, 0], [width - 1, height - 1], (len(joint), 2))
    tag = generator.uniform(-0.5, num_people - 0.5, len(joint))
    score = generator.uniform(0.3, 1, len(joint))

    false_peaks = FalsePeaks(joint, position, score, np.broadcast_to(tag, (2, len(joint))))
    return replace(people, false_peaks=false_peaks)


# ---- batches and outputs ----


def synthetic_batch(
    skeleton: Skeleton, num_images: int, people: int, size: int, device: str = "cpu", seed: int = 0
) -> Batch:
    """Images of size x size noise; nothing is masked.

    The keypoints of a person are scattered around a random point, over 40 to 200 pixels. All that
    are inside the image are labelled, which is more than real annotations have.
    """
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(num_images, people, 1, 2, generator=generator) * size
    radius = 20 + 80 * torch.rand(num_images, people, 1, 1, generator=generator)
    shape = (num_images, people, skeleton.num_keypoints, 2)
    from_middle = 2 * torch.rand(shape, generator=generator) - 1
    position = middle + from_middle * radius

    on_image = (position > -0.5) & (position < size - 0.5)
    is_labelled = on_image.all(dim=-1, keepdim=True)
    keypoints = torch.cat([position * is_labelled, 2.0 * is_labelled], dim=-1)

    image_shape = (num_images, 3, size, size)
    images = torch.randint(0, 256, image_shape, generator=generator, dtype=torch.uint8)
    masks = []
    for stride in STRIDES:
        side = size // stride
        masks.append(torch.ones(num_images, side, side, dtype=torch.uint8, device=device))
    return Batch(images.to(device), keypoints, tuple(masks), list(range(num_images)))


def synthetic_output(
    num_joint_channels: int,
    num_offset_channels: int,
    num_images: int,
    height: int,
    width: int,
    seed: int = 1,
) -> NetworkOutput:
    """Random maps for an input of height x width pixels, in the memory layout of the network.

    num_joint_channels: of heatmaps and tags. num_offset_channels: 0 for the baseline. All maps are
    channels-last; heatmaps and tags of stride 4 are the two halves of one map.
    """
    generator = torch.Generator().manual_seed(seed)

    def random_maps(channels: int, stride: int) -> torch.Tensor:
        shape = (num_images, channels, height // stride, width // stride)
        maps = 0.1 * torch.randn(shape, generator=generator)
        return maps.contiguous(memory_format=torch.channels_last)

    heatmaps_and_tags = random_maps(2 * num_joint_channels, STRIDES[0])
    heatmaps = heatmaps_and_tags[:, :num_joint_channels]
    tags = heatmaps_and_tags[:, num_joint_channels:]
    fine_heatmaps = random_maps(num_joint_channels, STRIDES[1])

    offsets: tuple[torch.Tensor, ...] = ()
    if num_offset_channels:
        offsets = tuple(random_maps(num_offset_channels, stride) for stride in STRIDES)
    return NetworkOutput((heatmaps, fine_heatmaps), tags, offsets)


# ---- images ----

DRAWN_WIDTH = 640  # pixels, the most frequent size in COCO
DRAWN_HEIGHT = 480
DRAWN_PEOPLE = 10  # in each image
# A crowd region, as COCO's train2017 has them; left out of the loss.
CROWD_POLYGON = [20, 20, 200, 30, 180, 200, 30, 220]


def drawn_dataset(folder: Path, num_images: int, input_size: int) -> CocoFormatDataset:
    """A training data set of `num_images` JPEGs of ten drawn people, written into `folder`.

    Every other image has a region that is left out of the loss.
    """
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id in range(1, num_images + 1):
        image, people = _draw_image(np.random.default_rng(image_id))
        name = f"{image_id}.jpg"
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append(
            {"id": image_id, "file_name": name, "width": DRAWN_WIDTH, "height": DRAWN_HEIGHT}
        )
        if image_id % 2:
            people.append({"keypoints": [0] * 51, "segmentation": [CROWD_POLYGON]})
        for person in people:
            common = {"image_id": image_id, "iscrowd": 0, "category_id": 1, "id": len(annotations)}
            annotations.append(person | common)

    path = folder / "annotations.json"
    path.write_bytes(orjson.dumps({"images": images, "annotations": annotations}))
    people_of_images = collect_people(read_annotation_file(path), COCO)
    augmentation = Augmentation(input_size=input_size)
    return CocoFormatDataset(people_of_images, FolderImages(folder), COCO, str(path), augmentation)


def _draw_image(rng: np.random.Generator) -> tuple[np.ndarray, list[Record]]:
    """(H, W, 3) uint8 image and the annotations of its people."""
    canvas = Canvas(_noise_background(rng), np.zeros((DRAWN_HEIGHT, DRAWN_WIDTH), dtype=np.uint8))
    people: list[Record] = []
    for person in range(DRAWN_PEOPLE):
        far_corner = (DRAWN_WIDTH - 80, DRAWN_HEIGHT - 120)
        middle = np.append(rng.uniform((80, 120), far_corner), 0.0)
        height = rng.uniform(100, 260)
        body = pose_body(rng)
        joints = {name: point * height + middle for name, point in body.items()}
        draw_figure(canvas, joints, random_look(rng), height, person)

        keypoints: list[float] = []
        for name in COCO.keypoints:
            x, y = joints[name][:2].tolist()
            keypoints += [x, y, 2]
        people.append({"keypoints": keypoints, "area": height**2 / 4})

    grain = rng.normal(0, 6, canvas.image.shape)
    image = np.clip(canvas.image + grain, 0, 255)
    return image.astype(np.uint8), people


def _noise_background(rng: np.random.Generator) -> np.ndarray:
    """Grey with noise of three grain sizes, so that a JPEG decodes as slowly as a photograph."""
    total = np.full((DRAWN_HEIGHT, DRAWN_WIDTH, 3), 128.0)
    for cells in (2, 10, 50):
        noise = rng.normal(0, 40, (cells * 3, cells * 4, 3))
        size = (DRAWN_WIDTH, DRAWN_HEIGHT)
        total += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 0, 255).astype(np.uint8)
