"""Known jitters, inversions, swaps and misses give the right kinds, shares and costs."""

import numpy as np
import pytest
from tests.report.made_case import Case, joints, moved

from duopose.report.corrections import correct_each_kind
from duopose.report.joint_errors import (
    GOOD,
    INVERSION,
    JITTER,
    MISS,
    NO_PERSON,
    NO_POSITION,
    NOT_LABELLED,
    SWAP,
    detection_rate,
    find_joint_errors,
)
from duopose.report.matching import match
from duopose.skeletons import COCO

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
LEFT_WRIST = COCO.index("left_wrist")
RIGHT_WRIST = COCO.index("right_wrist")
LEFT_ANKLE = COCO.index("left_ankle")
RIGHT_ANKLE = COCO.index("right_ankle")
LEFT_KNEE = COCO.index("left_knee")
LEFT_HIP = COCO.index("left_hip")
FAR = np.array([0.0, 2000.0])  # pixels, near no part of anybody


def gains(case: Case) -> dict[str, float]:
    """Gain in AP by kind."""
    scoring = case.scoring()
    matching = match(scoring)
    corrections = correct_each_kind(scoring, matching, find_joint_errors(matching, COCO))
    return {one.name: one.gain or 0.0 for one in corrections}


@pytest.fixture(scope="module")
def mixed() -> Case:
    """Ten images of two people and one of a person that nobody finds: 21 x 17 joints.

    The first person of each image has one joint of each kind.
    """
    case = Case()
    for _ in range(10):
        image = case.add_image()
        first = joints(0, 0)
        second = joints(20, 1000)
        first[RIGHT_EAR, 2] = 0
        case.add_person(image, first)
        case.add_person(image, second)

        found = moved(first, [NOSE], 0.6)
        found = moved(found, [LEFT_EAR], 0.9)
        found[LEFT_EYE, :2] += FAR
        found[LEFT_WRIST, :2] = first[RIGHT_WRIST, :2]
        found[LEFT_ANKLE, :2] = second[LEFT_ANKLE, :2]
        found[RIGHT_ANKLE, :2] = second[LEFT_ANKLE, :2]
        found[LEFT_KNEE, :2] = 0
        found[LEFT_HIP, :2] = first[LEFT_KNEE, :2]  # not the mirror joint: a miss
        case.add_detection(image, found)
        case.add_detection(image, second, 0.8)
    image = case.add_image()
    case.add_person(image, joints())
    return case


def test_each_joint_has_its_kind(mixed: Case) -> None:
    errors = find_joint_errors(match(mixed.scoring()), COCO)
    first = errors.of_person[0:20:2]
    expected = np.full(17, GOOD)
    expected[NOSE] = JITTER
    expected[LEFT_EYE] = MISS
    expected[LEFT_WRIST] = INVERSION
    expected[[LEFT_ANKLE, RIGHT_ANKLE]] = SWAP
    expected[LEFT_KNEE] = NO_POSITION
    expected[LEFT_HIP] = MISS
    expected[RIGHT_EAR] = NOT_LABELLED

    assert (first == expected).all()
    assert (errors.of_person[1:20:2] == GOOD).all()
    assert (errors.of_person[20] == NO_PERSON).all()


def test_shares_are_those_of_the_labelled_joints(mixed: Case) -> None:
    errors = find_joint_errors(match(mixed.scoring()), COCO)
    number = 21 * 17 - 10
    counts = np.zeros(7)
    counts[[JITTER, INVERSION, SWAP, MISS, NO_POSITION, NO_PERSON]] = 10, 10, 20, 20, 10, 17
    counts[GOOD] = number - counts.sum()

    np.testing.assert_allclose(errors.shares_of_all(), counts / number)
    assert errors.labelled()[RIGHT_EAR] == 11
    np.testing.assert_allclose(errors.shares()[LEFT_WRIST, INVERSION], 10 / 21)
    np.testing.assert_allclose(errors.shares().sum(axis=1), 1)
    np.testing.assert_allclose(detection_rate(errors.shares())[LEFT_KNEE], 10 / 21)


def test_an_own_place_decides_before_a_wrong_part() -> None:
    case = Case()
    image = case.add_image()
    person = joints()
    person[RIGHT_EYE, :2] = person[LEFT_EYE, :2] + [1.0, 0.0]
    case.add_person(image, person)
    found = person.copy()
    found[LEFT_EYE, :2] = person[RIGHT_EYE, :2]
    case.add_detection(image, found)

    errors = find_joint_errors(match(case.scoring()), COCO)
    assert errors.of_person[0, LEFT_EYE] == GOOD


def test_jitter_is_corrected_to_085() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    case.add_detection(image, moved(joints(), list(range(17)), 0.72))

    # OKS .72 reaches 5 of the 10 thresholds, .85 reaches 8.
    assert gains(case)["jitter"] == pytest.approx(0.3)
    assert gains(case)["miss"] == 0
    assert gains(case)["inversion"] == 0
    assert gains(case)["order of scores"] == 0


def test_misses_and_missing_positions_are_corrected_to_050() -> None:
    for kind in ("miss", "no position"):
        case = Case()
        image = case.add_image()
        case.add_person(image, joints())
        found = joints()
        if kind == "miss":
            found[:5, :2] += FAR
        else:
            found[:5, :2] = 0
        case.add_detection(image, found)

        # 12 of 17 joints: OKS .706; with five halves more: .853.
        assert gains(case)[kind] == pytest.approx(0.3)
        assert gains(case)["all five together"] == pytest.approx(0.3)


def test_inversions_get_the_similarity_to_the_wrong_part() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    found = joints()
    exchanged = list(range(9, 17))
    found[exchanged, :2] = joints()[COCO.flip_index[exchanged], :2]
    case.add_detection(image, found)

    # 9 of 17 joints: OKS .529; then all exact.
    assert gains(case)["inversion"] == pytest.approx(0.9)


def test_swaps_get_the_similarity_to_the_wrong_part() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    case.add_person(image, joints(0, 1000))
    found = joints()
    found[9:] = joints(0, 1000)[9:]
    case.add_detection(image, found)
    case.add_detection(image, joints(0, 1000))

    # From .55 on the first detection is false: precision 1/2 up to the recall 1/2. Then all exact.
    assert gains(case)["swap"] == pytest.approx(0.9 * (1 - 0.5 * 51 / 101))


def test_false_and_missed_people_and_the_order_of_scores() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    case.add_person(image, joints(0, 1000))
    case.add_detection(image, joints(), 0.5)
    case.add_detection(image, joints(2000, 0), 0.9)

    # Precision 1/2 up to the recall 1/2: 51 of 101 points.
    found = gains(case)
    ap = 0.5 * 51 / 101
    assert found["false people"] == pytest.approx(51 / 101 - ap)
    assert found["missed people"] == pytest.approx(0.5 - ap)
    assert found["order of scores"] == pytest.approx(51 / 101 - ap)
