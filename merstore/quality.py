"""What is odd about a sample's media and texts, as it was found when they were read.

A flag is not a failure: the clip gives features all the same, and whoever reads them may leave such
samples out. Nothing is repaired, and nothing is left out by itself.
"""

from typing import Any, NamedTuple

MEDIA = ("video", "audio", "face", "text")

FLAGS = {
    "absurd_duration": "the header announces ten times what decodes, or a tenth of it",
    "clipped": "the sound reaches full scale again and again",
    "edit_list": "an edit list leaves frames out",
    "empty_text": "the transcript has no text",
    "failed_text": "the transcript is what a failed recognition leaves: a language tag, marks only",
    "few_faces": "fewer than half of the frames have a face",
    "low_rate": "the sound was sampled at less than 16 kHz",
    "missing": "there is no such file, or no transcript",
    "no_audio": "there is no sound",
    "no_face": "no frame has a face",
    "no_video": "the file has no moving pictures",
    "rotated": "the pictures are stored on their side",
    "several_channels": "the sound has more than one channel",
    "several_streams": "the file holds several video streams, of which one is read",
    "silent": "the sound is silence throughout",
    "unreadable": "it cannot be read: the failure record of the view says why",
    "variable_rate": "the time between pictures varies",
    "very_short": "a tenth of a second or less, or a single picture",
    "wrong_duration": "the header announces another duration than decodes",
    "wrong_frame_count": "the header announces another number of frames than decodes",
    "wrong_language": "the transcript is not in the language that it should be in",
}
"""Flag -> what it says of a sample."""

DUPLICATE = "duplicate"
"""Not among FLAGS, since that takes two samples: a sample before it, by name, has the same file."""


class Quality(NamedTuple):
    """Flags (of FLAGS, sorted) and measured facts, as JSON values, about one medium of a sample.

    ``facts["content"]`` is the XXH3-128 of the file's bytes, or of the text in UTF-8, in hex: two
    samples that share it are duplicates.
    """

    flags: tuple[str, ...]
    facts: dict[str, Any]
