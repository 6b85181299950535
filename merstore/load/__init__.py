"""Loading: datasets, batches and the loader, for torch."""

from merstore.load.batch import FeatureBatch
from merstore.load.dataset import FeatureDataset
from merstore.load.loader import FeatureLoader

__all__ = ["FeatureBatch", "FeatureDataset", "FeatureLoader"]
