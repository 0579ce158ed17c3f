"""The one data set class: images and people of a COCO-format annotation file, for every skeleton."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from duopose.datasets.annotations import People
from duopose.datasets.ignore_mask import decode_mask, encode_regions
from duopose.datasets.image_files import ImageSource, read_image
from duopose.datasets.transforms import Augmentation, augment
from duopose.errors import UserError
from duopose.skeletons import Skeleton
from duopose.types import Sample

Key = int | tuple[int, int]  # index, or (epoch, index)


@dataclass
class CocoFormatDataset(Dataset[Sample]):
    """Samples addressed by (epoch, index).

    With `augmentation` an item is an augmented square (input frame) whose random choices follow from (seed, epoch, index)
    alone: the same for any number of workers, in any order, after a resume. Without it an item is the image as it is.
    """

    people: People
    images: ImageSource
    skeleton: Skeleton
    annotation_path: str  # the truth that an evaluator reads
    augmentation: Augmentation | None = None
    max_people: int = 30
    seed: int = 0
    _codes: dict[int, dict[str, Any] | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.people)

    @property
    def image_ids(self) -> list[int | str]:
        """Ids of the images, in the items' order."""
        return self.people.image_ids

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        sample = self.load(index)
        if self.augmentation is None:
            return sample
        rng = np.random.default_rng([self.seed, epoch, index])
        return augment(sample, rng, self.augmentation, self.skeleton.flip_index, self.max_people)

    def load(self, index: int) -> Sample:
        """The image as it is, with all its labelled people, the largest first (image frame).

        Raises UserError where the file is missing, unreadable, or of another size than the annotations say.
        """
        image_id, (width, height) = self.people.image_ids[index], self.people.sizes[index].tolist()
        image = self.read(index)
        if image.shape[:2] != (height, width):
            raise UserError(
                f"image {self.people.names[index]} (id {image_id}) is {image.shape[1]} x {image.shape[0]} pixels, {self.annotation_path} "
                f"says {width} x {height}; was it resized or turned? tools/check_data.py lists all such images"
            )
        mask = decode_mask(self._region_code(index), width, height)
        return Sample(
            image=image, keypoints=self.people.of_image(index), mask=mask, image_id=image_id
        )

    def read(self, index: int) -> np.ndarray:
        """The image alone, (H, W, 3) uint8 RGB."""
        return read_image(self.images, self.people.names[index], self.people.image_ids[index])

    def _region_code(self, index: int) -> dict[str, Any] | None:
        """The left-out region, kept after the first time: a few hundred bytes an image."""
        if index not in self._codes:
            width, height = self.people.sizes[index].tolist()
            try:
                self._codes[index] = encode_regions(self.people.regions[index], width, height)
            except (TypeError, ValueError, KeyError) as error:
                where = f"image id {self.people.image_ids[index]} in {self.annotation_path}"
                raise UserError(
                    f"{where}: a 'segmentation' cannot be used ({error}); tools/check_data.py lists all such ones"
                ) from error
        return self._codes[index]
