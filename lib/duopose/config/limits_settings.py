"""Limits on files of others: settings LIMITS.*, which a user may need to raise.

A limit that nobody needs to change is a constant beside the reader (docs/reliability.md).
"""

from __future__ import annotations

from duopose.config.declaration import POSITIVE, SWITCH, Check, Setting

LIMITS = (
    Setting(
        "LIMITS.IMAGE_MEGAPIXELS",
        120.0,
        POSITIVE,
        "Largest image in million pixels; 120 are 360 MB in memory. Larger ones are not decoded.",
    ),
    Setting(
        "LIMITS.IMAGE_MB",
        256.0,
        POSITIVE,
        "Largest file of an image in MB, unpacked where it is in a zip.",
    ),
    Setting(
        "LIMITS.ASPECT",
        12.0,
        Check(lambda value: value >= 1, "1 or more"),
        "Long side over short side of an image in evaluation and prediction. Memory and time grow "
        "with it, because the short side fills DATASET.INPUT_SIZE.",
    ),
    Setting(
        "LIMITS.OUTSIDE_LINKS",
        False,
        SWITCH,
        "True: links below the folder of images may lead out of it, e.g. in a folder of links.",
    ),
    Setting(
        "LIMITS.JSON_GB",
        1.6,
        POSITIVE,
        "Memory in GB that an annotation or results file may need when it is read, estimated from "
        "its bytes, lists and numbers before. COCO's train2017 needs 1.4.",
    ),
)
