"""Checkpoints of other forms are one sentence each, and the run that they belong to is unharmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fuzz.tree_changes import copied
from tests.training.tiny_train import folder_of, tiny_config, train_here
from torch import nn

from duopose.errors import UserError
from duopose.training.optim import build_optimizer, load_optimizer

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of a run of one step."""
    out = tmp_path_factory.mktemp("run")
    train_here(out, "TRAIN.END_STEP", 1, "TRAIN.VAL_EVERY", 0)
    loaded: dict[str, Any] = torch.load(folder_of(out).checkpoint, weights_only=True)
    return loaded


def moment(content: dict[str, Any]) -> dict[str, Any]:
    """The moments of the first parameter."""
    state: dict[str, Any] = content["optimizer"]["state"][0]
    return state


CHANGES: dict[str, Change] = {
    "no position": lambda c: c.pop("position"),
    "position is a list": lambda c: c.update(position=[1, 2]),
    "position lacks a field": lambda c: c["position"].pop("seen"),
    "position has another field": lambda c: c["position"].update(other=1),
    "negative step": lambda c: c["position"].update(step=-1),
    "huge step": lambda c: c["position"].update(step=2**60),
    "step is a text": lambda c: c["position"].update(step="1"),
    "step is a tensor": lambda c: c["position"].update(step=torch.ones(2)),
    "more images than there are": lambda c: c["position"].update(seen=10**6),
    "best is NaN": lambda c: c["best"].update(score=float("nan")),
    "no network": lambda c: c.update(network=None),
    "network of texts": lambda c: c.update(network={"a": "b"}),
    "another network": lambda c: c.update(network={"a": torch.ones(2)}),
    "a tensor of another shape": lambda c: c["network"].update({"coarse.bias": torch.ones(3)}),
    "a tensor of another type": lambda c: c["network"].update(
        {"coarse.bias": c["network"]["coarse.bias"].long()}
    ),
    "optimizer is a list": lambda c: c.update(optimizer=[]),
    "no groups": lambda c: c["optimizer"].update(param_groups=[]),
    "groups of numbers": lambda c: c["optimizer"].update(param_groups=[1]),
    "fewer parameters": lambda c: c["optimizer"]["param_groups"][0]["params"].pop(),
    "moments of another shape": lambda c: moment(c).update(exp_avg=torch.zeros(1)),
    "moments of another type": lambda c: moment(c).update(
        exp_avg_sq=moment(c)["exp_avg_sq"].long()
    ),
    "a moment is missing": lambda c: moment(c).pop("exp_avg_sq"),
    "step of two numbers": lambda c: moment(c).update(step=torch.ones(2)),
    "moments of nobody": lambda c: c["optimizer"]["state"].update({999: {}}),
    "precision is None": lambda c: c.update(precision=None),
    "skipped is infinite": lambda c: c["precision"].update(skipped=float("inf")),
    "averaged is a number": lambda c: c.update(averaged=3),
    "no ranks": lambda c: c.update(ranks=[]),
    "ranks of texts": lambda c: c.update(ranks=["a"]),
    "no random state": lambda c: c["ranks"][0].pop("random"),
    "random state of torch": lambda c: c["ranks"][0]["random"].update(torch=torch.zeros(3)),
    "random state of numpy": lambda c: c["ranks"][0]["random"].update(numpy=[1, 2]),
    "random state of Python": lambda c: c["ranks"][0]["random"].update(python=[3, [1], None]),
    "sums of other length": lambda c: c["ranks"][0]["meter"].update(sums=torch.zeros(99)),
    "config is a number": lambda c: c.update(config=5),
    "negative bytes": lambda c: c.update(metrics_csv_bytes=-5),
    "another format": lambda c: c.update(format=[1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_odd_checkpoints(tmp_path: Path, content: dict[str, Any], name: str) -> None:
    changed = copied(content)
    CHANGES[name](changed)
    path = tmp_path / "odd.pth"
    torch.save(changed, path)
    with pytest.raises(UserError):
        train_here(tmp_path, "TRAIN.END_STEP", 2, "TRAIN.VAL_EVERY", 0, resume=str(path))


def test_the_unchanged_checkpoint_resumes(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "whole.pth"
    torch.save(content, path)
    settings = ("TRAIN.END_STEP", 2, "TRAIN.VAL_EVERY", 0)
    assert train_here(tmp_path, *settings, resume=str(path)) == 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_moments_go_into_the_optimizer_they_come_from(tmp_path: Path, optimizer: str) -> None:
    cfg = tiny_config(tmp_path, "TRAIN.OPTIMIZER", optimizer)
    networks = [nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)]
    saved, fresh = (build_optimizer(cfg, network) for network in networks)
    networks[0](torch.rand(1, 2, 5, 5)).sum().backward()
    saved.step()
    state = saved.state_dict()
    load_optimizer(fresh, copied(state))
    assert len(fresh.state_dict()["state"]) == len(state["state"]) == 2

    wider = build_optimizer(cfg, nn.Conv2d(2, 4, 3))
    with pytest.raises(UserError, match="do not fit"):
        load_optimizer(wider, copied(state))
