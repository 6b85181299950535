"""From a clip to a feature: finding clips, decoding, sampling rules, encoders. Knows no store."""

from merstore.extract.clips import Clips
from merstore.extract.face_features import FaceFeatures
from merstore.extract.frame_features import FrameFeatures
from merstore.extract.vision import VisionEncoder

__all__ = ["Clips", "FaceFeatures", "FrameFeatures", "VisionEncoder"]
