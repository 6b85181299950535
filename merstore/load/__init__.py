"""Loading: datasets, batches and the loader, for torch."""

from merstore.load.batch import FeatureBatch
from merstore.load.dataset import FeatureDataset
from merstore.load.loader import FeatureLoader
from merstore.load.samplers import BatchOrder, BucketOrder, RowOrder, TokenOrder

__all__ = [
    "BatchOrder",
    "BucketOrder",
    "FeatureBatch",
    "FeatureDataset",
    "FeatureLoader",
    "RowOrder",
    "TokenOrder",
]
