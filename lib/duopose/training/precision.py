"""Mixed precision by torch.amp: fp16 with a dynamic or static loss scale, bf16, or plain fp32. Losses are always fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from duopose.errors import UserError
from duopose.runtime import AUTOCAST_DTYPES, autocast

DYNAMIC_START = 2.0**16
GROWTH_INTERVAL = 1000
SMALLEST_SCALE = 2.0**-10  # gradients that overflow even here are not overflowing, they are broken


class Precision:
    """Forward under autocast, backward with the loss scaled, and steps whose gradients overflowed left out."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype | None,
        static_scale: float | None,
        clip: float = 0.0,
    ) -> None:
        """dtype None: fp32. static_scale None: dynamic. clip: largest norm of the gradient, 0 for no limit."""
        self.device, self.dtype, self.static_scale, self.clip = device, dtype, static_scale, clip
        self.scaler = torch.amp.GradScaler(
            device.type,
            init_scale=DYNAMIC_START if static_scale is None else static_scale,
            growth_interval=GROWTH_INTERVAL,
            enabled=dtype == torch.float16,
        )
        self.skipped = torch.zeros((), device=device)  # steps left out since the last reading

    @staticmethod
    def from_config(cfg: CfgNode, device: torch.device) -> Precision:
        """What FP16.* and TRAIN.CLIP_GRAD_NORM ask for."""
        dtype = AUTOCAST_DTYPES[cfg.FP16.DTYPE] if cfg.FP16.ENABLED else None
        static = None if cfg.FP16.DYNAMIC_LOSS_SCALE else float(cfg.FP16.STATIC_LOSS_SCALE)
        return Precision(device, dtype, static, cfg.TRAIN.CLIP_GRAD_NORM)

    def autocast(self) -> AbstractContextManager[object]:
        """The context for the network's forward pass."""
        return autocast(self.device, self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss, times the scale."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
        """Unscale, clip, update; where a gradient is not finite under fp16 the update is left out and counted.

        Nothing here waits for the device where the optimizer is fused.
        """
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)
        if self.clip or self.scaler.is_enabled():
            norm = self._clipped_norm(network)
            self.skipped += ~torch.isfinite(norm) if self.scaler.is_enabled() else 0
        self.scaler.step(optimizer)
        self.scaler.update(self.static_scale)  # None: by the dynamic rule
        optimizer.zero_grad(set_to_none=True)

    def _clipped_norm(self, network: nn.Module) -> torch.Tensor:
        parameters = [p for p in network.parameters() if p.grad is not None]
        if self.clip:
            return torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def read(self) -> dict[str, float]:
        """Loss scale and steps skipped since the last reading, for the log; waits for the device. Empty without a scale."""
        if not self.scaler.is_enabled():
            return {}
        found = {"loss_scale": self.scaler.get_scale(), "skipped_steps": float(self.skipped)}
        self.skipped.zero_()
        if self.static_scale is None and found["loss_scale"] < SMALLEST_SCALE:
            raise UserError(
                f"the loss scale has fallen to {found['loss_scale']:.2g} and gradients are still not finite in fp16; "
                "use FP16.DTYPE bf16, a lower TRAIN.LR, or TRAIN.CLIP_GRAD_NORM"
            )
        return found

    def advice(self, skipped: float, steps: int) -> str:
        """What to say about `skipped` of the last `steps` steps; a dynamic scale that is still falling needs no advice."""
        if not skipped:
            return ""
        sentence = (
            f"notice: {skipped:.0f} of {steps} steps were left out, their gradients overflowed fp16"
        )
        return (
            sentence
            if self.static_scale is None
            else f"{sentence}: lower FP16.STATIC_LOSS_SCALE (now {self.static_scale:g}) or use a dynamic one"
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"scaler": self.scaler.state_dict(), "skipped": float(self.skipped)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; a run that changes to fp16 on resuming starts with a fresh scale."""
        self.skipped.fill_(state["skipped"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
