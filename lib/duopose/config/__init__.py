"""Settings: documented defaults, a yaml and command-line overrides merged over them, and their checks."""

from duopose.config.defaults import default_config
from duopose.config.load import config_text, load_config

__all__ = ["config_text", "default_config", "load_config"]
