"""Mixed precision by torch.amp, and the check that losses are finite.

fp16 has a dynamic or static loss scale; bf16 and fp32 need none. Losses are always fp32.

Why fp16 needs a scale: the gradient of a mean over 12 x 18 x 256 x 256 cells is of the order of
1e-9, and the smallest positive number of fp16 is 6e-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.runtime import AUTOCAST_DTYPES, autocast
from duopose.types import LossTerms

DYNAMIC_START = 2.0**16  # default of torch.amp.GradScaler
GROWTH_INTERVAL = 1000  # steps without overflow before the scale doubles; HigherHRNet's fp16 code
MAX_STREAK = 100  # steps skipped one after another; a dynamic scale needs fewer than 30 to adapt
# Static scales below it get a notice. Parameters whose whole gradient is 0 in the first step of a
# small network, of 164, at the gradients of 12 images of 512 x 512: 160 with scale 1, 18 with 128,
# 12 with 1024, none with 8192 and with the dynamic scale.
SMALL_STATIC_SCALE = 2.0**13
MIN_LOSS_SCALE = 2.0**-10  # gradients that overflow even here are not finite at any scale


class Precision:
    """Autocast for the forward pass, scaled backward pass, and updates that skip overflows."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype | None,
        static_scale: float | None,
        clip_norm: float = 0.0,
    ) -> None:
        """dtype None: fp32. static_scale None: dynamic. clip_norm: of the gradient, 0: no limit."""
        self.device = device
        self.dtype = dtype
        self.static_scale = static_scale
        self.clip_norm = clip_norm
        self.scaler = torch.amp.GradScaler(
            device.type,
            init_scale=DYNAMIC_START if static_scale is None else static_scale,
            growth_interval=GROWTH_INTERVAL,
            enabled=dtype == torch.float16,
        )
        self.skipped_steps = torch.zeros((), device=device)  # since the last `read`
        self.streak = torch.zeros((), device=device)  # skipped steps without one between them

    @staticmethod
    def from_config(cfg: CfgNode, device: torch.device) -> Precision:
        """What FP16.* and TRAIN.CLIP_GRAD_NORM ask for."""
        dtype = AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else None
        static_scale = None if cfg.FP16.DYNAMIC_LOSS_SCALE else float(cfg.FP16.STATIC_LOSS_SCALE)
        return Precision(device, dtype, static_scale, cfg.TRAIN.CLIP_GRAD_NORM)

    def autocast(self) -> AbstractContextManager[object]:
        """The context for the network's forward pass."""
        return autocast(self.device, self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of the loss, times the loss scale."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
        """Unscale, clip, update, clear the gradients.

        Under fp16 the update is skipped and counted where a gradient is not finite. Nothing here
        waits for the device if the optimizer is fused.
        """
        uses_scale = self.scaler.is_enabled()
        if uses_scale:
            self.scaler.unscale_(optimizer)
        if uses_scale or self.clip_norm:
            norm = self._clip_gradients(network)
            if uses_scale:
                is_skipped = ~torch.isfinite(norm)
                self.skipped_steps += is_skipped
                self.streak = (self.streak + 1) * is_skipped

        self.scaler.step(optimizer)
        self.scaler.update(self.static_scale)  # None: by the dynamic rule
        optimizer.zero_grad(set_to_none=True)

    def _clip_gradients(self, network: nn.Module) -> torch.Tensor:
        """The norm of all gradients, before clipping."""
        parameters = [p for p in network.parameters() if p.grad is not None]
        if self.clip_norm:
            return torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        gradients = [p.grad for p in parameters if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def read(self) -> dict[str, float]:
        """Loss scale and steps skipped since the last call, for the log; empty without a scale.

        Waits for the device. UserError where the dynamic scale has become too small, or where a
        long streak of steps was skipped.
        """
        if not self.scaler.is_enabled():
            return {}

        scale = self.scaler.get_scale()
        skipped = float(self.skipped_steps)
        self.skipped_steps.zero_()

        if self.static_scale is None and scale < MIN_LOSS_SCALE:
            raise UserError(
                f"the loss scale has fallen to {scale:.2g} and gradients are still not finite in "
                "fp16; use FP16.DTYPE bf16, a lower TRAIN.LR, or TRAIN.CLIP_GRAD_NORM"
            )
        if self.streak >= MAX_STREAK:
            raise UserError(
                f"the last {int(self.streak)} steps were skipped, because their gradients were not "
                f"finite with the loss scale {scale:g}: nothing is learned any more; use "
                "FP16.DTYPE bf16 or FP16.DYNAMIC_LOSS_SCALE True, a lower TRAIN.LR, or "
                "TRAIN.CLIP_GRAD_NORM"
            )
        return {"loss_scale": scale, "skipped_steps": skipped}

    def scale_notice(self) -> str:
        """A notice where a static scale is so small that gradients become 0; empty elsewhere."""
        scale = self.static_scale
        if not self.scaler.is_enabled() or scale is None or scale >= SMALL_STATIC_SCALE:
            return ""
        return (
            f"FP16.STATIC_LOSS_SCALE {scale:g} is small: gradients below 6e-8 / {scale:g} become 0 "
            "in fp16, and most of those of the heatmaps are smaller; use FP16.DYNAMIC_LOSS_SCALE "
            "True"
        )

    def skipped_steps_notice(self, skipped: float, steps: int) -> str:
        """A notice that `skipped` of the last `steps` steps were skipped; empty where none was."""
        if not skipped:
            return ""
        notice = f"notice: {skipped:.0f} of {steps} steps were skipped, gradients overflowed fp16"
        if self.static_scale is None:
            return notice
        current = f"(now {self.static_scale:g})"
        return f"{notice}: lower FP16.STATIC_LOSS_SCALE {current} or use a dynamic one"

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "scaler": self.scaler.state_dict(),
            "skipped": float(self.skipped_steps),
            "is_dynamic": self.static_scale is None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`.

        A run resumed with fp16 switched on, or with the other kind of scale, starts a new scale.
        """
        self.skipped_steps.fill_(state["skipped"])
        is_dynamic = self.static_scale is None
        was_dynamic = state.get("is_dynamic", is_dynamic)  # absent in older checkpoints
        if self.scaler.is_enabled() and state["scaler"] and is_dynamic and was_dynamic:
            self.scaler.load_state_dict(state["scaler"])


class FiniteCheck:
    """Checks that a loss is finite without leaving the GPU idle.

    The flag is computed after the forward pass and copied to the host without waiting. It is read
    after the backward pass was queued, so that the device has work while the host waits.
    """

    def __init__(self, terms: LossTerms) -> None:
        self.terms = terms
        self.event: torch.cuda.Event | None = None

        is_finite = torch.isfinite(terms.total.detach())
        if is_finite.device.type == "cuda":
            self.flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.flag.copy_(is_finite, non_blocking=True)
            self.event = torch.cuda.Event(blocking=True)  # the host sleeps, it does not spin
            self.event.record()
        else:
            self.flag = is_finite

    def raise_if_not_finite(self, image_ids: Sequence[int | str], position: str) -> None:
        """UserError that names terms and images; `position` is e.g. 'epoch 3/300, step 17'."""
        if self.event is not None:
            self.event.synchronize()
        if bool(self.flag):
            return
        raise UserError(
            f"the loss is not finite at {position}: {_list_not_finite(self.terms, image_ids)}. The "
            "run stops before the update; the last checkpoint is finite, but where the losses "
            "have grown before it, the same may come again: then begin from model_best.pth "
            "(MODEL.PRETRAINED). If the annotations of these images are correct, lower TRAIN.LR "
            "or set TRAIN.CLIP_GRAD_NORM; under fp16 try FP16.DTYPE bf16"
        )


def _list_not_finite(terms: LossTerms, image_ids: Sequence[int | str]) -> str:
    """'push in images 17, 23; offset_2 in image 17'; the number in a term's name is its stride."""
    found = []
    for name, values in terms.per_image.items():
        is_finite = torch.isfinite(values).tolist()
        bad = [str(image) for image, fine in zip(image_ids, is_finite) if not fine]
        if bad:
            noun = "images" if len(bad) > 1 else "image"
            found.append(f"{name} in {noun} {', '.join(bad)}")

    all_images = ", ".join(map(str, image_ids))
    return "; ".join(found) or f"the sum over terms, in images {all_images}"
