"""What there is of a sample to compute features from."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from merstore.errors import DecodeError

PARTS = ("video", "audio", "face", "au", "text")

# Why a part is not there, where nobody says more.
_ABSENT = {
    "video": ("no_video", "there is no clip of it"),
    "audio": ("no_audio", "there is no sound of it"),
    "face": ("no_face", "there is no face track of it, and no clip to look for faces in"),
    "au": ("no_au_info", "there is no MER-Factory analysis of it"),
    "text": ("missing_text", "there is no transcript of it"),
}


@dataclass(frozen=True, slots=True)
class Material:
    """The files and the transcript of one sample; None for what there is not.

    audio: a sound file, or the clip, whose sound track is then read. face: an OpenFace track
    (``.npy``). au: MER-Factory's analysis (``.json``). language: of the transcript, ``"zh"`` or
    ``"en"``, where that is known. lacks: for a part that is None, the failure kind and the reason.
    """

    name: str
    video: Path | None = None
    audio: Path | None = None
    face: Path | None = None
    au: Path | None = None
    text: str | None = None
    language: str | None = None
    lacks: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of_clip(cls, name: str, clip: str | os.PathLike[str]) -> "Material":
        """A clip that is all there is of a sample: its pictures and its sound."""
        return cls(name, video=Path(clip), audio=Path(clip))

    def file(self, part: str) -> Path:
        """The file of ``"video"``, ``"audio"``, ``"face"`` or ``"au"``. Raises DecodeError."""
        path: Path | None = getattr(self, part)
        if path is None:
            self.refuse(part)
        return path

    def transcript(self) -> str:
        """The text. Raises DecodeError."""
        if self.text is None:
            self.refuse("text")
        return self.text

    def refuse(self, part: str) -> NoReturn:
        """Raises the DecodeError that says why there is no such part."""
        raise DecodeError(self.name, *self.lacks.get(part, _ABSENT[part]))


class Materials(Mapping[str, Material]):
    """Samples by name, from a folder of clips and what lies beside it.

    clips: sample name -> clip, or sound file. faces, sounds, analyses: sample -> file, where there
    is one; texts: sample -> transcript. A sample is whatever any of them names. lacks: part ->
    sample -> why there is none: a failure kind and a message.
    """

    def __init__(
        self,
        clips: Mapping[str, Path] | None = None,
        *,
        sounds: Mapping[str, Path] | None = None,
        faces: Mapping[str, Path] | None = None,
        analyses: Mapping[str, Path] | None = None,
        texts: Mapping[str, str] | None = None,
        language: str | None = None,
        lacks: Mapping[str, Mapping[str, tuple[str, str]]] | None = None,
    ) -> None:
        self._lacks = lacks or {}
        self._parts = [part or {} for part in (clips, sounds, faces, analyses)]
        self._texts = texts or {}
        self._language = language
        named = (*self._parts, self._texts, *self._lacks.values())
        names = {name for part in named for name in part}
        self._names = dict.fromkeys(sorted(names, key=str.encode))

    def __getitem__(self, name: str) -> Material:
        if name not in self._names:
            raise KeyError(name)
        clip, sound, face, analysis = (part.get(name) for part in self._parts)
        return Material(
            name,
            video=clip,
            audio=sound or clip,
            face=face,
            au=analysis,
            text=self._texts.get(name),
            language=self._language,
            lacks={part: why[name] for part, why in self._lacks.items() if name in why},
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<Materials: {len(self)} samples>"
