"""Positions and colours of drawn people."""

import numpy as np

from duopose.skeletons import COCO, MPII
from duopose.types import Poses
from duopose.visualize.draw import draw_ground_truth, draw_people, person_shades


def person(shift: float = 0.0) -> np.ndarray:
    """(17, 3) a person whose joints lie on a grid of 60 pixels, all found."""
    joint = np.arange(17)
    return np.stack(
        [30 + 60.0 * (joint % 4) + shift, 30 + 60.0 * (joint // 4), np.full(17, 0.9)], axis=1
    )


def poses(*people: np.ndarray) -> Poses:
    keypoints = np.stack(people) if people else np.zeros((0, 17, 3))
    return Poses(
        keypoints, np.linspace(0.9, 0.5, len(keypoints)), np.zeros(keypoints.shape[:2], dtype=bool)
    )


def grey(height: int = 320, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def at(image: np.ndarray, joint: int, shift: float = 0.0) -> tuple[int, ...]:
    x, y = (person(shift)[joint, :2]).astype(int)
    return tuple(image[y, x].tolist())


def test_joints_have_the_colour_of_person_and_side() -> None:
    image = draw_people(grey(), poses(person(), person(10)), COCO)
    for number, shift in enumerate((0.0, 10.0)):
        shades = person_shades(number)
        assert at(image, COCO.index("left_ankle"), shift) == shades.left
        assert at(image, COCO.index("right_ankle"), shift) == shades.right
    assert (
        at(draw_people(grey(), poses(person()), COCO), COCO.index("nose"))
        == person_shades(0).middle
    )


def test_colours_of_many_people_differ() -> None:
    colours = np.array([person_shades(number).middle for number in range(12)], dtype=float)
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(12)
    assert distances.min() > 25


def test_filled_joints_are_hollow() -> None:
    found = poses(person())
    ankle = COCO.index("left_ankle")
    found.filled[0, ankle] = True
    image = draw_people(grey(), found, COCO)
    assert at(image, ankle) == (255, 255, 255)
    assert at(image, COCO.index("right_ankle")) == person_shades(0).right


def test_joints_not_found_are_not_drawn() -> None:
    alone = person()
    alone[:, 2] = 0
    alone[0, 2] = 0.3
    image = draw_people(grey(), poses(alone), COCO)
    changed = np.argwhere((image != 128).any(-1))
    assert len(changed) and np.abs(changed - alone[0, 1::-1]).max() < 10
    assert np.array_equal(draw_people(grey(), poses(alone), COCO, threshold=0.3), grey())


def test_the_image_itself_stays() -> None:
    image = grey()
    draw_people(image, poses(person()), COCO)
    assert np.array_equal(image, grey())


def test_no_people_and_people_far_outside() -> None:
    assert np.array_equal(draw_people(grey(), poses(), COCO), grey())
    outside, endless = person(), person()
    outside[:, :2] *= 1e12
    endless[:, 0] = np.nan
    assert np.array_equal(draw_people(grey(), poses(outside, endless), COCO), grey())


def test_the_best_person_lies_on_top() -> None:
    both = Poses(
        np.stack([person(), person()]), np.array([0.1, 0.9]), np.zeros((2, 17), dtype=bool)
    )
    assert at(draw_people(grey(), both, COCO), COCO.index("left_ankle")) == person_shades(1).left


def test_hidden_joints_of_ground_truth_are_hollow() -> None:
    keypoints = person()[None]
    keypoints[..., 2] = 2
    keypoints[0, 15, 2] = 1
    image = draw_ground_truth(grey(), keypoints, COCO)
    assert at(image, 15) == (255, 255, 255) and at(image, 16) == person_shades(0).right


def test_lines_grow_with_person_and_image() -> None:
    def inked(scale: int) -> float:
        big = person()
        big[:, :2] *= scale
        return float(
            (draw_people(grey(320 * scale, 320 * scale), poses(big), COCO) != 128).any(-1).mean()
        )

    assert 0.5 < inked(4) / inked(1) < 2.0


def test_other_skeletons() -> None:
    keypoints = np.concatenate([person()[:16], np.zeros((0, 3))])
    found = Poses(keypoints[None], np.ones(1), np.zeros((1, 16), dtype=bool))
    assert (draw_people(grey(), found, MPII) != 128).any()
