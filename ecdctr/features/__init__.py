"""The contract between Spark and torch: what a sample's columns are and how ids are encoded."""

from ecdctr.features.feature_set import FeatureSet

__all__ = ["FeatureSet"]
