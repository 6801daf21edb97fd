"""Is this machine ready: what is there, what is missing, and what to do about it."""

from ecdctr.doctor.check import Check
from ecdctr.doctor.examine import diagnose

__all__ = ["Check", "diagnose"]
