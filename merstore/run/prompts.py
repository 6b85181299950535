"""AffectGPT's prompts, questions and answers, to the letter that its checkpoints were trained on.

A prompt is a chain of fragments, which the mode (``face_or_frame``) chooses. Nothing of it is a chat
template, and there is no token before it at inference.

Source: the wording of AffectGPT (Lian et al., ICML 2025) and of its fork, as trained checkpoints
know it; the spelling is theirs.
"""

import math
from collections.abc import Sequence

from merstore.errors import MerstoreError

__all__ = ["FRAGMENTS", "LABEL_TYPES", "MODES", "answer", "multi_source", "prompt", "question"]

FRAGMENTS = {
    "human": "###Human: ",
    "multi": "The audio and video merged info is: <Multi><MultiHere></Multi>. ",
    "audio": "The audio content is as follows: <Audio><AudioHere></Audio>. ",
    "face": "Meanwhile, we uniformly sample raw frames from the video and extract faces from these "
    "frames: <Video><FaceHere></Video>. ",
    "face, after frame": "Additionally, we uniformly sample raw frames from the video and extract "
    "faces from these frames: <Video><FaceHere></Video>. ",
    "face, first": "We uniformly sample raw frames from the video and extract faces from these "
    "frames: <Video><FaceHere></Video>. ",
    "frame": "Meanwhile, we uniformly sample raw frames from the video: "
    "<Video><FrameHere></Video>. ",
    "frame, first": "We uniformly sample raw frames from the video: <Video><FrameHere></Video>. ",
    "frame, first, lower case": "we uniformly sample raw frames from the video: "
    "<Video><FrameHere></Video>. ",
    "image": "The image content is as follows: <Image><ImageHere></Image>. ",
    "nonverbal": "The nonverbal clues (facial action units and audio emotion clues) are: "
    "<Nonverbal>{nonverbal}</Nonverbal>. ",
    "au features": "The AU (Action Unit) features are: <AU><AUHere></AU>. ",
    "subtitle": "The subtitle of this video is: <Subtitle>{subtitle}</Subtitle>. ",
    "end": "Now, please answer my question based on all the provided information. {question} "
    "###Assistant: ",
}
"""What prompts are made of, with the blanks that are filled in."""

MODES: dict[str, tuple[str, ...]] = {
    "faceframe": ("human", "audio", "frame", "face, after frame", "subtitle", "end"),
    "face": ("human", "audio", "face", "subtitle", "end"),
    "frame": ("human", "audio", "frame", "subtitle", "end"),
    "audioonly": ("human", "audio", "end"),
    "textonly": ("human", "subtitle", "end"),
    "faceonly": ("human", "face, first", "end"),
    "frameonly": ("human", "frame, first", "end"),
    "image": ("human", "image", "end"),
    "audio_text": ("audio", "subtitle", "end"),
    "face_text": ("face, first", "subtitle", "end"),
    "frame_text": ("frame, first, lower case", "subtitle", "end"),
    "multiface_text": ("human", "multi", "subtitle", "end"),
    "multiface_audio_face_text": ("human", "multi", "audio", "face", "subtitle", "end"),
    "multiframe_audio_frame_text": ("human", "multi", "audio", "frame", "subtitle", "end"),
    "multiface_audio_face_frame_text": (
        *("human", "multi", "audio", "face", "frame", "subtitle", "end"),
    ),
    "multiface_audio_face_frame_au_text": (
        *("human", "multi", "audio", "face", "frame", "nonverbal", "subtitle", "end"),
    ),
    "multiface_audio_face_au_text": (
        *("human", "multi", "audio", "face", "nonverbal", "subtitle", "end"),
    ),
}
"""The modes (``face_or_frame``) and the fragments of each, in order."""

_AU_FEATURES = "multiface_audio_face_frame_au_text"  # the one mode that has them

_FLOAT = (
    "\N{LATIN SMALL LIGATURE FL}oating-point"  # so it stands in what the models were trained on
)

_QUESTIONS = {
    "description": "Please infer the person's emotional state and provide your reasoning process.",
    "ovlabel": "Please recognize all possible emotional states of the character.",
    "onehot_w_candidates": "Please select the label that can best describe the person's emotional "
    "state from the provided candidate labels: {candidates}.",
    "onehot_wo_candidates": "Please recognize the character's most likely emotional state.",
    "valence": "Please identify the overall positive or negative emotional polarity of the main "
    f"characters. The output should be a {_FLOAT} number ranging from {{min}} to {{max}}. Here, "
    "{min} indicates extremely negative emotions, 0 indicates neutral emotions, and {max} "
    "indicates extremely positive emotions. Please provide your judgment as a "
    f"{_FLOAT} number.",
    "sentiment": "Please select the most likely sentiment label that can best describe the "
    "person's emotional state: positive, negative, neutral.",
}

_ANSWERS = {
    "description": "{label}",
    "ovlabel": "The character's emotional state is {label}.",
    "onehot_w_candidates": "The most likely label is {label}.",
    "onehot_wo_candidates": "The character's emotional state is {label}.",
    "valence": "The valence score is {label:.2f}.",
    "sentiment": "The character's sentiment state is {label}.",
}

LABEL_TYPES = tuple(_QUESTIONS)
"""The kinds of question."""


def prompt(
    mode: str,
    question: str,
    subtitle: str | float | None = None,
    nonverbal: str | None = None,
    *,
    au_features: bool = False,
) -> str:
    """The prompt of one sample, up to where the answer begins.

    `subtitle`: needed in modes that have one; "" is a subtitle, and NaN, a table's empty cell, is
    "". `nonverbal`: the clues for the modes with ``au``; without text their clause is left out.
    `au_features`: the prompt of checkpoints with an action unit modality of their own, whose place
    it has in ``multiface_audio_face_frame_au_text`` instead of that clause.

    Raises MerstoreError for an unknown mode, and where the mode needs a subtitle and has none.
    """
    fragments = list(_fragments(mode))
    if au_features:
        if mode != _AU_FEATURES:
            raise MerstoreError(
                f"mode {mode!r} has no place for action unit features: only {_AU_FEATURES!r} has"
            )
        fragments[fragments.index("nonverbal")] = "au features"
    if nonverbal and "nonverbal" not in fragments:
        raise MerstoreError(
            f"mode {mode!r} has no nonverbal clause{' beside action unit features' * au_features}: "
            "leave the text out, or choose one of "
            + ", ".join(name for name, parts in MODES.items() if "nonverbal" in parts)
        )
    if not nonverbal and "nonverbal" in fragments:
        fragments.remove("nonverbal")
    blanks = {"question": question, "nonverbal": nonverbal or ""}
    if "subtitle" in fragments:
        blanks["subtitle"] = _subtitle(mode, subtitle)
    # Only the fragment's own blanks are filled: a subtitle may hold braces.
    return "".join(FRAGMENTS[name].format_map(blanks) for name in fragments)


def multi_source(mode: str) -> str | None:
    """``"face"`` or ``"frame"``: what is fused with the audio before the language model; None where
    nothing is. Raises MerstoreError for an unknown mode.
    """
    if "multi" not in _fragments(mode):
        return None
    return "frame" if mode.startswith("multiframe") else "face"


def question(
    label_type: str,
    *,
    candidates: Sequence[str] = (),
    span: tuple[float, float] | None = None,
) -> str:
    """The question of a label type.

    `candidates`: the labels to choose from, for ``onehot_w_candidates``, joined in the order given.
    `span`: the least and the greatest value of the training labels, for ``valence``.

    Raises MerstoreError for an unknown type and where these are missing.
    """
    text = _of_type(_QUESTIONS, label_type)
    if label_type == "onehot_w_candidates":
        if not candidates:
            raise MerstoreError(f"a question of type {label_type!r} needs candidates: the labels")
        return text.format(candidates=",".join(candidates))
    if label_type == "valence":
        if span is None:
            raise MerstoreError(
                "a question of type 'valence' needs a span: the least and greatest training label"
            )
        return text.format(min=span[0], max=span[1])
    return text


def answer(label_type: str, label: str | float) -> str:
    """The answer of a label type, for training: `label` is the description, the emotion word (or
    words, joined by ``", "``), the sentiment word or the valence.

    Raises MerstoreError for an unknown type and for a label of another kind.
    """
    text = _of_type(_ANSWERS, label_type)
    try:
        if label_type == "valence":
            return text.format(label=float(label))
    except ValueError as error:
        raise MerstoreError(f"the valence {label!r} is no number") from error
    if not isinstance(label, str):
        raise MerstoreError(f"the label {label!r} of type {label_type!r} is no text")
    return text.format(label=label)


def _fragments(mode: str) -> tuple[str, ...]:
    if mode not in MODES:
        raise MerstoreError(f"unknown mode {mode!r} (face_or_frame); there are {', '.join(MODES)}")
    return MODES[mode]


def _of_type(texts: dict[str, str], label_type: str) -> str:
    if label_type not in texts:
        raise MerstoreError(f"unknown label type {label_type!r}; there are {', '.join(texts)}")
    return texts[label_type]


def _subtitle(mode: str, subtitle: str | float | None) -> str:
    if isinstance(subtitle, float) and math.isnan(subtitle):
        return ""
    if not isinstance(subtitle, str):
        raise MerstoreError(
            f"mode {mode!r} needs the subtitle as text, not {subtitle!r}: "
            "give the transcript, or '' where nothing is said"
        )
    return subtitle
