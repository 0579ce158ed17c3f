"""A trained model from its file, ready for images.

    import duopose
    model = duopose.load("model_best.pth")   # without a name: the model in models/
    people = model("street.jpg")

A model file carries its weights, its settings and its skeleton; nothing else is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, overload

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from duopose.config import config_from_text
from duopose.config.load import override_keys
from duopose.datasets.build import build_image_limits
from duopose.decode.calibration import Calibration
from duopose.errors import BadSample, UserError, counted
from duopose.evaluate.results import to_entries
from duopose.inference.image_inputs import ImageLike, named, to_rgb_array
from duopose.inference.predictor import Predictor, PreparedImage, group_by_key, prepare_image
from duopose.network import LoadReport, build_network, load_weights, read_model_file
from duopose.network.build import open_exported_network
from duopose.network.exported_file import (
    ExportReport,
    is_exported,
    read_exported_file,
    read_weight_file,
)
from duopose.network.model_file import default_model_file
from duopose.runtime import pick_device
from duopose.skeletons import Skeleton, skeleton_from_dict
from duopose.types import ImageResult, Poses
from duopose.visualize.draw import draw_people


class ModelSettings(NamedTuple):
    """Settings and skeleton of a model file."""

    cfg: CfgNode
    skeleton: Skeleton


def load(
    path: str | Path | None = None,
    device: str | torch.device = "auto",
    settings: Sequence[Any] = (),
) -> Model:
    """The model in a file that training wrote (model_best.pth) or tools/export.py (model.onnx).

    path: by default the model in models/ (`network.model_file.default_model_file`).
    device: auto (CUDA if there is one, else CPU; for exported files the CPU), cpu, cuda, cuda:1,
        mps or a torch.device.
    settings: KEY, VALUE, KEY, VALUE ... that differ from the file's, for example
        ("TEST.PRESET", "clean", "TEST.FLIP_TEST", False).
    Raises UserError if the file is missing or no Duopose model file, or a setting is wrong.
    """
    if path is None:
        path = default_model_file()
    if device == "auto" and is_exported(path):
        device = "cpu"
    torch_device = _torch_device(device)
    cfg, skeleton = read_model_settings(path, settings)
    return Model.from_config(cfg, skeleton, path, torch_device)


def read_model_settings(path: str | Path, overrides: Sequence[Any] = ()) -> ModelSettings:
    """The settings in a model file with KEY VALUE overrides, and its skeleton.

    The skeleton is the one in the file, so that the yaml named by DATASET.SKELETON is not needed.
    Raises UserError if the file is no Duopose model file or a setting is wrong.
    """
    file = read_exported_file(path) if is_exported(path) else read_model_file(path)
    skeleton = skeleton_from_dict(file.skeleton, str(path))
    if "DATASET.SKELETON" in override_keys(overrides):
        raise UserError(
            f"DATASET.SKELETON: a model file has its own skeleton ({path}: '{skeleton.name}'); "
            "remove the setting"
        )
    cfg = config_from_text(file.config, overrides, source=str(path), skeleton=skeleton)
    return ModelSettings(cfg, skeleton)


def read_calibration(path: str | Path) -> Calibration | None:
    """The calibration in a weight file; None where it has none.

    UserError if it cannot be used with this version.
    """
    extra = read_weight_file(path).get("extra")
    content = extra.get("calibration") if isinstance(extra, dict) else None
    if content is None:
        return None
    try:
        return Calibration.from_dict(content)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: its calibration cannot be used ({error}); repeat tools/calibrate.py, "
            "or set TEST.CALIBRATION off"
        ) from error


@dataclass(frozen=True, eq=False)
class People:
    """The people found in one image, best first."""

    keypoints: np.ndarray  # (P, K, 3) x, y, score in the image's pixels; 0, 0, 0 if not found
    scores: np.ndarray  # (P,) by which people are ranked
    filled: np.ndarray  # (P, K) bool: no peak of its own, filled in from tags and offsets
    skeleton: Skeleton
    image: ImageLike | None = None  # as given to the model
    # (P, K) standard deviation of x and of y in the image's pixels, 0 if not found; None where the
    # model is not calibrated
    sigma: np.ndarray | None = None
    person_threshold: float = 0.0  # TEST.PERSON_THRESHOLD; people with a lower score are not drawn
    track_ids: np.ndarray | None = None  # (P,) int, the same person in each frame; None: no video

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoints' names, K of them."""
        return self.skeleton.keypoints

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        best = ", ".join(f"{score:.2f}" for score in self.scores[:3])
        more = ", ..." if len(self) > 3 else ""
        count = counted(len(self), "person", "people")
        image = f", image '{self.image}'" if isinstance(self.image, (str, Path)) else ""
        scores = f", scores {best}{more}" if len(self) else ""
        return f"People({count}, {len(self.names)} keypoints ({self.skeleton.name}){scores}{image})"

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """COCO results, one dict per person: image_id, category_id, keypoints, score."""
        poses = Poses(self.keypoints, self.scores, self.filled)
        result = ImageResult(image_id, poses)
        return to_entries([result])

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values that json can write."""
        return {
            "image": str(self.image) if isinstance(self.image, (str, Path)) else None,
            "skeleton": self.skeleton.name,
            "names": list(self.names),
            "keypoints": self.keypoints.tolist(),
            "scores": self.scores.tolist(),
            "filled": self.filled.tolist(),
            "sigma": None if self.sigma is None else self.sigma.tolist(),
            "track_ids": None if self.track_ids is None else self.track_ids.tolist(),
        }

    def to_supervision(self) -> Any:
        """The same people as `supervision.KeyPoints`.

        xy (P, K, 2), keypoint_confidence (P, K), detection_confidence (P,), class_id (P,) all 0,
        visible (P, K) where a joint was found; in `data` filled, and sigma and tracker_id where
        known. UserError where the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                "people.to_supervision() needs the package supervision 0.29 or newer: "
                "pip install 'duopose[supervision]'"
            ) from error

        data: dict[str, Any] = {"filled": self.filled}
        if self.sigma is not None:
            data["sigma"] = self.sigma.astype(np.float32)
        if self.track_ids is not None:
            data["tracker_id"] = self.track_ids
        return supervision.KeyPoints(
            xy=self.keypoints[..., :2].astype(np.float32),
            class_id=np.zeros(len(self), dtype=int),
            keypoint_confidence=self.keypoints[..., 2].astype(np.float32),
            detection_confidence=self.scores.astype(np.float32),
            visible=self.keypoints[..., 2] > 0,
            data=data,
        )

    def draw(
        self,
        image: ImageLike | None = None,
        min_score: float | None = None,
        min_joint_score: float = 0.0,
    ) -> np.ndarray:
        """The image with its people on it, (H, W, 3) uint8 RGB.

        image: by default the one given to the model; a path is read again.
        min_score: people with a lower score are left out; by default TEST.PERSON_THRESHOLD.
        min_joint_score: joints with at most this score are left out, too.
        """
        canvas_source = self.image if image is None else image
        if canvas_source is None:
            raise UserError("there is no image to draw on; give one: people.draw(image)")
        canvas = to_rgb_array(canvas_source)

        if min_score is None:
            min_score = self.person_threshold
        chosen = self.scores >= min_score
        poses = Poses(self.keypoints[chosen], self.scores[chosen], self.filled[chosen])
        ids = None if self.track_ids is None else self.track_ids[chosen]
        return draw_people(canvas, poses, self.skeleton, min_joint_score, ids)


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its settings and skeleton; call it on images."""

    predictor: Predictor
    cfg: CfgNode  # frozen
    skeleton: Skeleton
    load_report: LoadReport | ExportReport  # which tensors of the weight file were loaded

    @staticmethod
    def from_config(
        cfg: CfgNode, skeleton: Skeleton, weights: str | Path, device: torch.device
    ) -> Model:
        """The model of the settings with the weights of a file, every tensor of which must fit.

        The file's calibration is used where there is one and TEST.CALIBRATION is auto.
        """
        network, report = _read_network(cfg, skeleton, weights, device)
        calibration = read_calibration(weights) if cfg.TEST.CALIBRATION == "auto" else None
        predictor = Predictor.from_config(cfg, network, skeleton, device, calibration)
        return Model(predictor, cfg, skeleton, report)

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoints' names, K of them."""
        return self.skeleton.keypoints

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.predictor.device

    def __repr__(self) -> str:
        name = self.cfg.MODEL.NAME
        keypoints = f"{len(self.names)} keypoints ({self.skeleton.name})"
        input_size = self.cfg.DATASET.INPUT_SIZE
        path = self.load_report.path
        return f"Model({name}, {keypoints}, input {input_size}, {self.device}, '{path}')"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str], too
        self, images: ImageLike, batch_size: int | None = None
    ) -> People: ...

    @overload
    def __call__(
        self, images: Sequence[ImageLike], batch_size: int | None = None
    ) -> list[People]: ...

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], batch_size: int | None = None
    ) -> People | list[People]:
        """The people in an image, or in each image of a list.

        images: a path, an array (H, W, 3) uint8 RGB, a PIL image, or a list of these (see
            `to_rgb_array`). The EXIF orientation is ignored, as in training and evaluation.
        batch_size: images of equal input size that go through the network together; by default
            TEST.IMAGES_PER_GPU, and 1 on the CPU, where a batch is not faster.
        Raises UserError if an image cannot be read, naming its path or its index in the list.
        """
        if not isinstance(images, (list, tuple)):
            return self._predict([cast(ImageLike, images)], batch_size=1, is_list=False)[0]
        if not images:
            raise UserError("the list of images is empty; give at least one image")
        if batch_size is None:
            on_cpu = self.device.type == "cpu"
            batch_size = 1 if on_cpu else self.cfg.TEST.IMAGES_PER_GPU
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size} is not allowed; it must be greater than 0")
        return self._predict(images, batch_size, is_list=True)

    def _predict(self, images: Sequence[ImageLike], batch_size: int, is_list: bool) -> list[People]:
        """The people of each image. Images are read as they are needed, not all at once."""

        limits = build_image_limits(self.cfg)

        def prepared_images() -> Iterator[PreparedImage]:
            for index, image in enumerate(images):
                where = f"image {index} of the list" if is_list else "the image"
                pixels = to_rgb_array(image, where, limits)
                try:
                    yield prepare_image(pixels, index, self.predictor.transform)
                except BadSample as error:
                    raise UserError(f"{named(image, where)} {error}") from error

        found: dict[int, People] = {}
        for batch in group_by_key(prepared_images(), lambda one: one.input_shapes, batch_size):
            for prepared, passes in zip(batch, self.predictor.forward(batch), strict=True):
                result = self.predictor.decode(prepared, passes)
                index = int(prepared.image_id)
                found[index] = People(
                    keypoints=result.poses.keypoints,
                    scores=result.poses.scores,
                    filled=result.poses.filled,
                    skeleton=self.skeleton,
                    image=images[index],
                    sigma=result.poses.sigma,
                    person_threshold=self.cfg.TEST.PERSON_THRESHOLD,
                )
        return [found[index] for index in range(len(images))]


def _read_network(
    cfg: CfgNode, skeleton: Skeleton, path: str | Path, device: torch.device
) -> tuple[nn.Module, LoadReport | ExportReport]:
    """The network of a weight file, built from the settings, or that in an exported file."""
    if is_exported(path):
        exported = open_exported_network(cfg, skeleton, path, device)
        return exported, ExportReport(str(path), tuple(exported.channels))

    network = build_network(cfg, skeleton)
    return network, load_weights(network, path, strict=True)


def _torch_device(device: str | torch.device) -> torch.device:
    """A torch.device from its name; UserError if there is no such device."""
    name, _, index = str(device).partition(":")
    if name not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UserError(f"device '{device}' is unknown; use auto, cpu, cuda, cuda:0 or mps")
    return pick_device(name, int(index or 0))
