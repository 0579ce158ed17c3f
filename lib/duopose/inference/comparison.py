"""Evaluations side by side: metrics files, or the folders of runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from duopose.errors import UserError
from duopose.evaluate.metrics import (
    NOT_STATED,
    Difference,
    comparison_table,
    read_metrics,
    record_differences,
)
from duopose.run_folder import RunFolder

# What a protocol must state, so that equal protocols mean equal evaluations. Files of earlier
# versions do not have all of it.
NEEDED = ("model_settings", "dataset_settings", "trained_with", "test_data", "weights_sha256")
NEEDED_OF_RESULTS = ("results_sha256", "annotations_sha256")


def compare(paths: Sequence[Path]) -> str:
    """A table of two or more evaluations, with every difference of their protocols.

    paths: metrics files, folders with a metrics.json, or folders of runs.
    """
    if len(paths) < 2:
        raise UserError("--compare: give two or more metrics.json files or run folders")
    files = [find_metrics(path) for path in paths]
    records = [read_metrics(file) for file in files]
    labels = [_label(number) for number in range(len(paths))]

    incomplete = [
        number for number, record in enumerate(records) if not is_complete(record.protocol)
    ]
    differences = shown_differences(record_differences(records), incomplete)
    same = "The protocols are the same."
    if incomplete:
        same = "The protocols agree in what all of them state."
    legend = [f"{label}: {file}" for label, file in zip(labels, files, strict=True)]
    parts = ["\n".join(legend), comparison_table(records, labels, differences, same)]
    if incomplete:
        names = ", ".join(labels[number] for number in incomplete)
        parts.append(
            f"notice: {names} of an earlier version of Duopose, whose protocols state less: no "
            "settings of network and training, no checksums. Whether these differ is not known; "
            "evaluate again with tools/valid.py"
        )
    return "\n\n".join(parts)


def shown_differences(
    differences: Sequence[Difference], incomplete: Collection[int]
) -> list[Difference]:
    """Without those that are only missing in incomplete records, and without repetitions.

    incomplete: numbers of the records of earlier versions.
    """
    by_key = {key: values for key, *values in differences}
    shown: list[Difference] = []
    for key, values in by_key.items():
        stated = [
            value
            for number, value in enumerate(values)
            if number not in incomplete or value != NOT_STATED
        ]
        in_use = key.replace("trained_with.MODEL.", "model_settings.")
        in_use = in_use.replace("trained_with.DATASET.", "dataset_settings.")
        is_repetition = in_use != key and by_key.get(in_use) == values
        if not is_repetition and any(value != stated[0] for value in stated[1:]):
            shown.append((key, *values))
    return shown


def find_metrics(path: Path) -> Path:
    """The metrics file of a folder: that of tools/valid.py, else of the last validation."""
    if not path.is_dir():
        return path
    results = RunFolder(path, path).results
    candidates = [folder / "metrics.json" for folder in (path, results, results / "training")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = "".join(f"\n  {candidate}" for candidate in candidates)
    config = RunFolder(path, path).config
    how = f"tools/valid.py --cfg {config} makes it" if config.is_file() else "is it a run folder?"
    raise UserError(f"--compare: '{path}' has no metrics file; tried{tried}\n{how}")


def is_complete(protocol: Mapping[str, Any]) -> bool:
    """Whether a protocol states everything on which the numbers depend."""
    return all(key in protocol for key in NEEDED) or all(
        key in protocol for key in NEEDED_OF_RESULTS
    )


def _label(number: int) -> str:
    """A, B ... Z, A2, B2 ..."""
    round_number, index = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[index] + (str(round_number + 1) if round_number else "")
