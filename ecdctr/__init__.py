"""Cross-domain click-through-rate training: natural content teaches the ad model.

Importing this package loads neither torch nor pyspark nor horovod; the parts that need them are imported where they are used.
"""

__version__ = "0.1.0"
