"""How the images of an epoch are divided among processes and steps."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duopose.training.train_loader import EpochPartition, PositionSampler


def counted(partition: EpochPartition, epoch: int = 0, seen: int = 0) -> list[int]:
    """Indices that count, of all batches of a rank; batches with weight 0 are left out."""
    weights: list[float] = []
    done = seen
    while done < partition.num_images:
        weights += partition.step_weights(done)
        done += partition.images_per_step
    return [
        index
        for batch, weight in zip(partition.batches(epoch, seen), weights, strict=True)
        if weight
        for _, index in batch
    ]


@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5)
)
def test_every_image_once_an_epoch_over_all_ranks(
    length: int, batch: int, world: int, accumulate: int, epoch: int
) -> None:
    ranks = [EpochPartition(length, batch, rank, world, accumulate) for rank in range(world)]
    assert sorted(chain.from_iterable(counted(partition, epoch) for partition in ranks)) == list(
        range(length)
    )
    assert (
        len({len(list(partition.batches(epoch))) for partition in ranks}) == 1
    )  # nobody waits for a batch that never comes
    assert ranks[0].num_batches() == len(list(ranks[0].batches(epoch)))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_weights_make_the_step_a_mean_over_its_images(
    length: int, batch: int, world: int, accumulate: int
) -> None:
    value = np.random.default_rng(0).normal(size=length)
    ranks = [EpochPartition(length, batch, rank, world, accumulate) for rank in range(world)]
    iterators = [partition.batches(0) for partition in ranks]
    for start in range(0, length, ranks[0].images_per_step):
        total = 0.0
        for partition, iterator in zip(ranks, iterators):
            total += (
                sum(
                    weight * np.mean([value[i] for _, i in next(iterator)])
                    for weight in partition.step_weights(start)
                )
                / world
            )
        wanted = value[ranks[0].order(0)[start : start + ranks[0].images_per_step]].mean()
        assert total == pytest.approx(wanted, abs=1e-12)


def test_two_processes_see_what_one_with_the_double_batch_sees() -> None:
    alone = [sorted(index for _, index in batch) for batch in EpochPartition(11, 4).batches(3)]
    both = zip(*(EpochPartition(11, 2, rank, 2).batches(3) for rank in range(2)), strict=True)
    assert [sorted(index for _, index in a + b) for a, b in both] == alone


def test_order_changes_with_the_epoch_and_repeats_in_a_rerun() -> None:
    partition = EpochPartition(50, 2, seed=7)
    assert partition.order(0).tolist() != partition.order(1).tolist()
    assert partition.order(1).tolist() == EpochPartition(50, 4, 1, 2, seed=7).order(1).tolist()
    assert partition.order(1).tolist() != EpochPartition(50, 2, seed=8).order(1).tolist()
    assert EpochPartition(5, 2, shuffle=False).order(3).tolist() == [0, 1, 2, 3, 4]


def test_a_position_in_the_epoch_goes_on_with_the_next_image_and_over_epochs() -> None:
    partition = EpochPartition(11, 2)
    sampler = PositionSampler(partition, end_epoch=3)
    whole = list(sampler)
    assert (
        whole == [batch for epoch in range(3) for batch in partition.batches(epoch)]
        and len(sampler) == len(whole) == 18
    )
    sampler.set_position(1, 4)
    assert list(sampler) == whole[8:] and len(sampler) == 10
    sampler.set_position(2, 11)
    assert list(sampler) == [] and len(sampler) == 0
    assert partition.num_steps(11) == 0
