"""What is odd about a sample's media and texts; see ``merstore.quality``, which the store knows too."""

from merstore.quality import FLAGS, MEDIA, Quality

__all__ = ["FLAGS", "MEDIA", "Quality"]
