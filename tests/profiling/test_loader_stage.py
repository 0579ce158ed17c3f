"""The loader stage runs and tells what it should."""

from __future__ import annotations

from argparse import ArgumentParser

from duopose.profiling import loader_stage as loader
from duopose.profiling.measure import add_common_arguments


def test_rows() -> None:
    parser = ArgumentParser()
    add_common_arguments(parser)
    loader.add_arguments(parser)
    rows = loader.run(
        parser.parse_args(["--images", "2", "--repeats", "1", "--workers", "0", "--size", "512"])
    )["rows"]
    assert rows[0]["decodes_per_sample"] > 1 and rows[0]["bytes_per_sample"] < 1e6
