"""Limits on files of others: settings LIMITS.*, which a user may need to raise.

A limit that nobody needs to change is a constant beside the reader (docs/reliability.md).
"""

from __future__ import annotations

from duopose.config.declaration import POSITIVE, Setting

LIMITS = (
    Setting(
        "LIMITS.JSON_GB",
        1.6,
        POSITIVE,
        "Memory in GB that an annotation or results file may need when it is read, estimated from "
        "its bytes, lists and numbers before. COCO's train2017 needs 1.4.",
    ),
)
