"""The contract between Spark and torch: what a sample's columns are, how each kind makes its own, how ids are encoded.

What a kind of your own needs is here.
"""

from ecdctr.features.columns import ITEM, USER, ClickLists, Fitted, SampleColumn, TokenSource
from ecdctr.features.encoding import FIRST_BUCKET, MISSING, PADDING
from ecdctr.features.feature import Domains, Feature, key_columns
from ecdctr.features.feature_set import FeatureSet
from ecdctr.features.scene import Encoded, Scene

__all__ = [
    "FIRST_BUCKET",
    "ITEM",
    "MISSING",
    "PADDING",
    "USER",
    "ClickLists",
    "Domains",
    "Encoded",
    "Feature",
    "FeatureSet",
    "Fitted",
    "SampleColumn",
    "Scene",
    "TokenSource",
    "key_columns",
]
