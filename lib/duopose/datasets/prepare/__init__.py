"""Converters from the benchmarks' own files to COCO-format annotation files."""
