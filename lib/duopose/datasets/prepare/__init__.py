"""Converters from published files to COCO format."""
