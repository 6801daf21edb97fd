"""Configuration: one validated tree of settings, read from YAML."""

from ecdctr.config.loader import load_config
from ecdctr.config.schema import Config

__all__ = ["Config", "load_config"]
