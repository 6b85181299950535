"""From a clip to a feature: finding clips, decoding, sampling rules, encoders. Knows no store."""

from merstore.extract.clips import Clips
from merstore.extract.video_features import VideoFeatures
from merstore.extract.vision import VisionEncoder

__all__ = ["Clips", "VideoFeatures", "VisionEncoder"]
