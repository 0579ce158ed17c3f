"""The data set class: images and people of a COCO-format annotation file, for any skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import Dataset

from duopose.datasets.annotations import AnnotatedPeople
from duopose.datasets.ignore_mask import RunLengthCode, decode_mask, encode_regions
from duopose.datasets.mosaic import NUM_TILES, compose_mosaic
from duopose.datasets.split_files import ImageSource, read_image
from duopose.datasets.transforms import Augmentation, augment
from duopose.errors import BadSample, UserError
from duopose.skeletons import Skeleton
from duopose.types import Sample

MAX_NAMED = 3  # missing files that a message names
MAX_SKIPPED_IN_A_ROW = 100  # more images that cannot be used are no accident
SampleKey = int | tuple[int, int]  # index, or (epoch, index)


@dataclass
class CocoFormatDataset(Dataset[Sample]):
    """Samples addressed by (epoch, index).

    With `augmentation` an item is an augmented square (input frame). Its random choices depend on
    (seed, epoch, index) alone: they are the same for any number of workers, in any order and after
    a resume. Without `augmentation` an item is the unchanged image (image frame).
    """

    people: AnnotatedPeople
    images: ImageSource
    skeleton: Skeleton
    annotation_path: str  # the ground truth that an evaluator reads
    augmentation: Augmentation | None = None
    max_people: int = 30
    seed: int = 0
    mosaic: float = 0.0  # probability that an augmented item is a mosaic with three other images
    notice: str = ""  # about the annotations, for the log
    skip_bad: bool = False  # DATASET.ON_BAD_SAMPLE skip
    _region_codes: dict[int, RunLengthCode | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.people)

    @property
    def image_ids(self) -> list[int | str]:
        """Ids of the images, in the order of the items."""
        return self.people.image_ids

    def __getitem__(self, key: SampleKey) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        sample = self.load_usable(index)
        if self.augmentation is None:
            return sample

        rng = np.random.default_rng([self.seed, epoch, index])
        flip_index = self.skeleton.flip_index
        samples = [sample]
        if self.mosaic and rng.random() < self.mosaic:
            others = rng.integers(len(self), size=NUM_TILES - 1).tolist()
            samples += [self.load_usable(other) for other in others]
            made = compose_mosaic(samples, rng, self.augmentation, flip_index, self.max_people)
        else:
            made = augment(sample, rng, self.augmentation, flip_index, self.max_people)
        return replace(made, skipped=tuple(text for one in samples for text in one.skipped))

    def load_usable(self, index: int) -> Sample:
        """`load`; with `skip_bad` the next image of the list that can be used, in its place.

        Which one depends on the data alone, so that a resumed run sees the same images. UserError
        where MAX_SKIPPED_IN_A_ROW images in a row cannot be used.
        """
        if not self.skip_bad:
            return self.load(index)
        skipped: list[str] = []
        for following in range(index, index + min(len(self), MAX_SKIPPED_IN_A_ROW)):
            try:
                sample = self.load(following % len(self))
            except BadSample as error:
                skipped.append(str(error))
                continue
            return replace(sample, skipped=tuple(skipped)) if skipped else sample
        raise UserError(
            f"{len(skipped)} images of {self.annotation_path} in a row cannot be used, the last: "
            f"{skipped[-1]}"
        )

    def load(self, index: int) -> Sample:
        """The unchanged image with all its labelled people, largest first (image frame).

        BadSample where the file or a record of the image cannot be used.
        """
        image_id = self.people.image_ids[index]
        width, height = self.people.sizes[index].tolist()
        image = self.read(index)
        mask = decode_mask(self._region_code(index), width, height)
        keypoints = self.people.of_image(index)
        return Sample(image=image, keypoints=keypoints, mask=mask, image_id=image_id)

    def check_files(self) -> str:
        """UserError where image files are missing, by one listing of the folder or zip.

        With `skip_bad` the sentence is returned as a notice, '' where no file is missing.
        """
        missing = set(self.images.missing(self.people.file_names))
        if not missing:
            return ""
        pairs = zip(self.people.image_ids, self.people.file_names, strict=True)
        named = [f"{name} (id {image_id})" for image_id, name in pairs if name in missing]
        more = " ..." if len(named) > MAX_NAMED else ""
        message = (
            f"{len(named)} of the {len(self)} images of {self.annotation_path} are not in "
            f"{self.images.path}: {', '.join(named[:MAX_NAMED])}{more}; tools/check_data.py lists "
            "all of them"
        )
        if self.skip_bad and len(named) < len(self):
            return message
        raise UserError(message)

    def choose(self, ids: Sequence[str], number: int) -> list[int]:
        """Indices of the given image ids; without ids, of the `number` images with most people.

        UserError for ids that are not in the data set.
        """
        if not ids:
            num_people = np.diff(self.people.first)
            return np.argsort(-num_people, kind="stable")[:number].tolist()

        index_of = {str(image_id): index for index, image_id in enumerate(self.image_ids)}
        unknown = [image_id for image_id in ids if image_id not in index_of]
        if unknown:
            raise UserError(
                f"{self.annotation_path} has no annotated images with the ids "
                f"{', '.join(unknown)}; an example of an id is {self.image_ids[0]}"
            )
        return [index_of[image_id] for image_id in ids]

    def read(self, index: int) -> np.ndarray:
        """The image alone, (H, W, 3) uint8 RGB.

        BadSample where the file is missing, unreadable, or its size differs from the annotations'.
        """
        name = self.people.file_names[index]
        image_id = self.people.image_ids[index]
        image = read_image(self.images, name, image_id)

        width, height = self.people.sizes[index].tolist()
        if image.shape[:2] != (height, width):
            raise BadSample(
                f"image {name} (id {image_id}) is {image.shape[1]} x {image.shape[0]} pixels, "
                f"but {width} x {height} in {self.annotation_path}; was it resized or rotated? "
                "tools/check_data.py lists all such images"
            )
        return image

    def _region_code(self, index: int) -> RunLengthCode | None:
        """The ignored region, cached: a few hundred bytes an image."""
        if index in self._region_codes:
            return self._region_codes[index]

        width, height = self.people.sizes[index].tolist()
        try:
            code = encode_regions(self.people.ignored_regions[index], width, height)
        except (TypeError, ValueError, KeyError) as error:
            raise BadSample(
                f"image id {self.people.image_ids[index]} in {self.annotation_path}: "
                f"a 'segmentation' cannot be used ({error}); tools/check_data.py lists all of them"
            ) from error

        self._region_codes[index] = code
        return code
