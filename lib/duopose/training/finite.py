"""A loss that is not finite stops the run before the update, and is explained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from duopose.errors import UserError
from duopose.types import LossTerms


class FiniteCheck:
    """Begun after the forward pass, asked after the backward pass was enqueued, so that the device is never left idle.

    The answer depends on the forward pass alone; while it is awaited, the device works on the backward pass.
    """

    def __init__(self, terms: LossTerms) -> None:
        self.terms = terms
        finite = torch.isfinite(terms.total.detach())
        self.event = None
        if finite.device.type == "cuda":
            self.flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.flag.copy_(finite, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.flag = finite

    def confirm(self, image_ids: Sequence[int | str], where: str) -> None:
        """Raise UserError naming terms, strides and images if the loss is not finite. `where` is e.g. 'epoch 3, step 17'."""
        if self.event is not None:
            self.event.synchronize()
        if not bool(self.flag):
            raise UserError(
                f"the loss is not finite at {where}: {_culprits(self.terms, image_ids)}. It was stopped before the update, and "
                "the last checkpoint is unharmed. If the images' annotations are sound, lower TRAIN.LR or set "
                "TRAIN.CLIP_GRAD_NORM; under fp16 try FP16.DTYPE bf16"
            )


def _culprits(terms: LossTerms, image_ids: Sequence[int | str]) -> str:
    """'push in images 17, 23; offset_2 in image 17'; the number in a term's name is its stride."""
    found = []
    for name, values in terms.per_image.items():
        bad = [
            str(image_id)
            for image_id, fine in zip(image_ids, torch.isfinite(values).tolist())
            if not fine
        ]
        if bad:
            found.append(f"{name} in image{'s' if len(bad) > 1 else ''} {', '.join(bad)}")
    return "; ".join(found) or f"the sum over terms, in images {', '.join(map(str, image_ids))}"
