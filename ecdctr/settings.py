"""The base of every configuration class."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that refuse unknown keys and, once built, stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
