"""Structures of the models that are trained on the rows of both domains."""

from pydantic import Field

from ecdctr.settings import Settings


class MMoEConfig(Settings):
    """Arm `mmoe`."""

    experts: int = Field(default=4, ge=1)
    """Experts that both domains share."""
    expert_units: list[int] = Field(default=[128], min_length=1)
    """Layers of each."""
    tower_units: list[int] = Field(default=[64])
    """Hidden layers of each domain's tower."""
    batch_norm: bool = True
    """In experts and towers."""


class PLEConfig(Settings):
    """Arm `ple`."""

    extraction_layers: int = Field(default=2, ge=1)
    """Layers of experts; one is the paper's CGC."""
    specific_experts: int = Field(default=2, ge=1)
    """Experts of each domain, in each layer."""
    shared_experts: int = Field(default=2, ge=1)
    """Experts of both domains, in each layer."""
    expert_units: list[int] = Field(default=[128], min_length=1)
    """Layers of each expert."""
    tower_units: list[int] = Field(default=[64])
    """Hidden layers of each domain's tower."""
    batch_norm: bool = True
    """In experts and towers."""


class STARConfig(Settings):
    """Arm `star`."""

    hidden_units: list[int] = Field(default=[128, 64])
    """Of the star network."""
    auxiliary_units: list[int] = Field(default=[32])
    """Of the auxiliary network."""


class MiNetConfig(Settings):
    """Arm `minet`; it reads the sequences whose `domains` are natural alone, and ad alone."""

    tower_units: list[int] = Field(default=[128, 64])
    """Hidden layers of each domain's network."""
    gate_units: list[int] = Field(default=[32])
    """Of the networks that weigh interests."""
    batch_norm: bool = True
    """In each domain's network."""
