"""Settings: declared defaults, a yaml and command-line overrides over them, and their checks."""

from duopose.config.build import build_skeleton, offset_strides, skeleton_name
from duopose.config.load import (
    config_from_text,
    config_text,
    load_config,
    read_saved_settings,
    saved_settings,
)
from duopose.config.settings import default_config

__all__ = [
    "build_skeleton",
    "config_from_text",
    "config_text",
    "default_config",
    "load_config",
    "offset_strides",
    "read_saved_settings",
    "saved_settings",
    "skeleton_name",
]
