"""Measurements of this project beside others; nothing here is imported by the package."""
