"""Matching, groups, calibration and the choice of images, on cases with known answers."""

from pathlib import Path

import numpy as np
import pytest
from tests.report.made_case import Case, joints, moved, random_case

from duopose.evaluate.coco import OksScoring
from duopose.evaluate.ground_truth import open_annotations
from duopose.report.groups import all_groupings, box_iou, overlapping_people
from duopose.report.matching import NONE, match
from duopose.report.reliability import score_reliability, sigma_reliability
from duopose.report.worst_images import best_threshold, find_mistakes, worst_images
from duopose.skeletons import COCO


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ap_of_all_people_is_that_of_the_evaluator(seed: int) -> None:
    scoring = random_case(seed=seed).scoring()
    matching = match(scoring)
    expected = scoring.metrics()

    matches = matching.select()
    assert matches.average_precision() == pytest.approx(expected["AP"], abs=1e-12)
    precision = matches.precision_at_recalls()
    assert precision is not None
    assert precision[0].mean() == pytest.approx(expected["AP50"], abs=1e-12)
    assert precision[5].mean() == pytest.approx(expected["AP75"], abs=1e-12)


def test_ap_and_recall_of_real_results(real_data: Path) -> None:
    folder = real_data / "evaluation"
    file = open_annotations(folder / "coco_250_gt.json")
    results = folder / "coco_250_detections.json"
    matching = match(OksScoring.prepare(file, results, COCO, None, "hotcoco"))
    everything = matching.select()

    assert everything.average_precision() == pytest.approx(0.37855, abs=1e-5)
    large = np.sqrt(matching.truth.area) >= 96
    matches = matching.select(people=large)
    assert matches.num_people.sum() == 142
    # The detections keep their people, so the loose match gives the OKS with them.
    found = matching.detections
    is_right = (found.person_at[0] != NONE) & ~found.ignored_at[0] & (found.person != NONE)
    assert (found.best_oks[is_right] >= 0).all()


def test_groups_hold_every_person_once_and_agree_where_all_are_found_alike() -> None:
    case = Case()
    for number in range(12):
        image = case.add_image(crowdIndex=number / 12)
        person = joints()
        person[: number % 3, 2] = 0
        case.add_person(image, person, area=float(20 + 20 * number) ** 2)
        if number % 2:
            case.add_detection(image, person)
    crowd_index = np.arange(12) / 12
    groupings = all_groupings(match(case.scoring()), crowd_index)

    assert len(groupings) == 5
    for grouping in groupings:
        assert sum(group.people for group in grouping.groups) == 12
    by_size = {group.name: group for group in groupings[0].groups}
    assert by_size["32 to 64"].people == 2
    assert by_size["192 and more"].people == 3
    assert groupings[1].groups[0].recall == pytest.approx(0.5)


def test_false_detections_weigh_alike_on_large_and_small_groups() -> None:
    case = Case()
    for number in range(20):
        image = case.add_image()
        person = joints()
        if number % 10 == 0:
            person[:10, 2] = 0
        case.add_person(image, person)
        case.add_detection(image, person, 0.5)
        case.add_detection(image, joints(2000, 0), 0.6)
    by_keypoints = all_groupings(match(case.scoring()))[3]
    ap = {group.name: group.ap for group in by_keypoints.groups if group.people}

    assert ap["5 to 8"] == pytest.approx(0.5)
    assert ap["13 to 17"] == pytest.approx(0.5)


def test_crowding_counts_overlapping_people() -> None:
    case = Case()
    image = case.add_image()
    for x in (0, 60, 2000):
        case.add_person(image, joints(x, 0))
    matching = match(case.scoring())

    assert overlapping_people(matching).tolist() == [1, 1, 0]
    iou = box_iou(np.array([[0, 0, 10, 10], [5, 0, 10, 10.0]]))
    np.testing.assert_allclose(iou, [[1, 1 / 3], [1 / 3, 1]])


def test_expected_calibration_error() -> None:
    score = np.array([0.15, 0.15, 0.85, 0.85])
    right = np.array([0, 1, 1, 1])
    reliability = score_reliability(score, right)

    np.testing.assert_allclose(reliability.stated, [0.15, 0.85])
    np.testing.assert_allclose(reliability.observed, [0.5, 1.0])
    assert reliability.error == pytest.approx(0.5 * 0.35 + 0.5 * 0.15)


def test_scores_beyond_one_are_no_probabilities() -> None:
    reliability = score_reliability(np.arange(100.0), np.arange(100) / 100)
    assert reliability.error is None
    assert reliability.count.tolist() == [10] * 10
    assert score_reliability(np.zeros(0), np.zeros(0)).error is None


def test_stated_sigmas_that_are_true_and_twice_too_large() -> None:
    rng = np.random.default_rng(0)
    for factor in (1.0, 2.0):
        case = Case()
        for _ in range(60):
            image = case.add_image()
            sigma = rng.uniform(0.5, 3, 17)
            case.add_person(image, joints())
            found = joints()
            found[:, :2] += rng.normal(0, 1, (17, 2)) * sigma[:, None]
            case.add_detection(image, found, sigma=(factor * sigma).tolist())
        reliability = sigma_reliability(match(case.scoring()))

        assert reliability is not None
        assert reliability.joints == 60 * 17
        ratio = reliability.observed / reliability.stated
        np.testing.assert_allclose(ratio, 1 / factor, rtol=0.15)
        assert reliability.rank_correlation > 0.3
        if factor == 1.0:
            np.testing.assert_allclose(reliability.coverage, [0.5, 0.9, 0.95], atol=0.04)


def test_results_without_sigmas_have_no_calibration_of_them() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    case.add_detection(image, joints())
    assert sigma_reliability(match(case.scoring())) is None


def test_the_worst_images_come_first() -> None:
    case = Case()
    for wrong in (0, 2, 1):
        image = case.add_image()
        for number in range(2):
            person = joints(0, 1000 * number)
            case.add_person(image, person)
            if number >= wrong:
                case.add_detection(image, person, 0.8)
        case.add_detection(image, joints(3000, 0), 0.1)
    matching = match(case.scoring())
    mistakes = find_mistakes(matching)

    assert best_threshold(matching) == 0.8
    assert mistakes.missed.tolist() == [0, 2, 1]
    assert mistakes.false.tolist() == [0, 0, 0]
    assert worst_images(mistakes.total, 20) == [1, 2]


def test_a_bad_position_is_part_of_a_mistake() -> None:
    case = Case()
    image = case.add_image()
    case.add_person(image, joints())
    case.add_detection(image, moved(joints(), list(range(17)), 0.72))
    mistakes = find_mistakes(match(case.scoring()))
    assert mistakes.missed.tolist() == [0.5]
    assert mistakes.false.tolist() == [0.5]


def test_nothing_found_and_nobody_there() -> None:
    empty = Case()
    empty.add_image()
    empty.add_image()
    matching = match(empty.scoring())
    assert matching.select().average_precision() is None
    assert best_threshold(matching) == 0

    person = joints()
    empty.add_person(1, person)
    matching = match(empty.scoring())
    assert matching.select().average_precision() == 0
    assert find_mistakes(matching).missed.tolist() == [1, 0]
