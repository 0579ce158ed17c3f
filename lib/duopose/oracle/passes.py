"""The passes that a perfect, flip-equivariant network would make over a scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duopose.decode.merge_passes import Pass
from duopose.geometry import InputFrame
from duopose.oracle.ideal_maps import IdealNetwork
from duopose.oracle.scene import Scene, mirrored, moved
from duopose.skeletons import Skeleton


def ideal_passes(
    scene: Scene,
    merged: InputFrame,
    frames: Sequence[InputFrame],
    network: IdealNetwork,
    skeleton: Skeleton,
    flip: bool,
) -> list[Pass]:
    """One pass, or a plain and a mirrored one, for each input of `frames`; the scene is in the frame `merged`."""
    passes = []
    for frame in frames:
        to_pass = merged.affine.inverse().then(frame.affine).matrix
        here = moved(scene, np.diag(to_pass), to_pass[:, 2])
        passes.append(Pass(network(here, frame.width, frame.height), frame))
        if flip:
            turned = mirrored(here, frame.width, skeleton, network.layout)
            passes.append(Pass(network(turned, frame.width, frame.height), frame, mirrored=True))
    return passes
