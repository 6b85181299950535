"""What MER-Factory wrote about clips: facial actions, their descriptions, and where they peak.

Two formats share one file name, ``{sample}/{sample}_au_analysis.json``, and none states its
version; they are told apart by their keys. Upstream MER-Factory writes a handful of texts about a
whole clip. AffectGPT's private fork of it adds ``au_info``, which the sampling rule `emotion_peak`
needs, and a description of the face in each of some frames, which are what the modality `au`
encodes.

What a sample lacks is a DecodeError with the kind of failure to record; nothing is put in its
place. Frames are counted from 0 here, whatever the file counts from.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeGuard, get_args

from merstore.errors import DecodeError, MerstoreError

Kind = Literal[
    "missing_file",  # MER-Factory wrote nothing about the sample
    "decode_error",  # cut short, in another encoding, or not by MER-Factory
    "no_au_info",  # no frame of strongest expression is stated, so emotion_peak has nothing to go by
    "no_au_description",  # no frame is described
    "no_nonverbal_text",  # no caption for the prompt's nonverbal clause
]

Run = Literal[
    "au_analysis", "merr_data", "audio_analysis", "video_analysis", "image_analysis"
]  # what a run of MER-Factory calls its file

_FORK = {"au_info", "per_frame_au_descriptions", "fine_grained_descriptions", "summary_description"}
_EARLY = {"video_id", "image_id", "source_video", "source_image"}  # upstream before 2025-07-21
_NESTED = ("coarse_descriptions_at_peak", "coarse_descriptions", "audio_analysis")
_TEXTS = {
    "overall_peak_au_description", "peak_au_text", "llm_facial_summary", "audio_analysis",
    "llm_video_summary", "au_text_description", "llm_au_description", "image_visual_description",
    "final_summary", "ground_truth_label", "visual_expression", "visual_objective",
    "video_content", "audio_tone", "subtitles", "transcript", "tone_description",
}  # fmt: skip
_PEAKS = {"chronological_emotion_peaks", "overall_peak_frame_info"}
_KNOWN = _FORK | _EARLY | _TEXTS | _PEAKS | {*_NESTED, "source_path", "detected_emotions"}

_PEAK_KEYS = ("peak_index", "frames_before_peak", "frames_after_peak")

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_CHAT = re.compile(r"(?:^|\n)assistant\r?\n")  # the fork kept whole conversations for a while
_PEAK = re.compile(r"Peak at (\d+(?:\.\d+)?)s: (.+)", re.DOTALL)
_EMOTION = re.compile(r"(\w+) \((slight|moderate|strong)\)")
_AU = re.compile(r"AU\d\d(?=_r$)")
_SHOWN = 5


class Description(NamedTuple):
    """What a language model said about the face in a frame."""

    frame: int
    """Counted from 0."""
    text: str
    """The description alone."""
    raw: str
    """As the file has it, perhaps with the conversation that led to it: what AffectGPT encodes."""


class Actions(NamedTuple):
    """The facial actions measured in a frame."""

    frame: int
    """Counted from 0."""
    seconds: float | None
    """From the clip's start."""
    text: str
    """Their names and intensities, such as ``Jaw drop (intensity: 1.39)``; may be empty."""
    active: dict[str, float]
    """Action unit (``AU06``) -> intensity, 0 to 5, of those above 0.8."""
    is_peak: bool


class EmotionPeak(NamedTuple):
    """A moment that upstream MER-Factory found expressive."""

    seconds: float
    """From the clip's start, to a hundredth."""
    emotions: list[tuple[str, str]]
    """Emotion and strength (slight, moderate, strong), the likeliest first."""


class PeakFrame(NamedTuple):
    """The frame with the largest sum of intensities."""

    frame: int
    """Counted from 0."""
    seconds: float | None
    """From the clip's start."""
    active: dict[str, float]
    """Action unit (``AU06``) -> intensity, 0 to 5; may be empty."""


class MerFactory:
    """The analyses that a run of MER-Factory left in a folder.

    They lie in ``root/{sample}/`` or, with `dataset`, in ``root/{dataset}/{sample}/``, where the
    folder may have any spelling of the dataset's name (``iemocap``: ``IEMOCAPFour``); `root` may
    also be that folder itself. Picklable.

    Raises MerstoreError for a root that is not there, and for a dataset that has no folder in it
    or, in two spellings, two.
    """

    def __init__(self, root: str | Path, dataset: str | None = None) -> None:
        self.folder = _dataset_folder(Path(root), dataset)

    def samples(self, run: Run = "au_analysis") -> list[str]:
        """The samples that have a file of this run, in the order of their bytes."""
        names = [name for name in _listing(self.folder) if os.path.isfile(self.file(name, run))]
        return sorted(names, key=os.fsencode)

    def file(self, sample: str, run: Run = "au_analysis") -> Path:
        """Where the sample's file is, or would be."""
        return self.folder / sample / f"{sample}_{run}.json"

    def read(self, sample: str, run: Run = "au_analysis") -> "Analysis":
        """What was found out about a sample.

        Raises DecodeError: ``missing_file``, with MER-Factory's own reason where it logged one, or
        ``decode_error``.
        """
        path = self.file(sample, run)
        if not os.path.lexists(path):
            raise DecodeError(path, "missing_file", f"no such file; {self._why_missing(sample)}")
        return read(path)

    def _why_missing(self, sample: str) -> str:
        log = self.folder / "error_logs" / f"{sample}_error.log"
        try:
            lines = log.read_text("utf-8", errors="replace").split("\n")
        except (OSError, ValueError):
            others = [run for run in get_args(Run) if os.path.isfile(self.file(sample, run))]
            if others:
                return f"MER-Factory was run for {', '.join(others)}; run it with --type AU too"
            return "run MER-Factory on this sample"
        reason = " ".join([line.strip() for line in lines if line.strip(" =\r")][1:])
        return f"MER-Factory failed on this sample: {reason[:200] or 'no reason logged'}"


def read(path: str | Path) -> "Analysis":
    """One file of MER-Factory's, of any format and version.

    Raises DecodeError: ``missing_file`` or ``decode_error``, which says what to do about it.
    """
    path = Path(path)
    document = _load(path)
    if not isinstance(document, dict) or not _KNOWN & document.keys():
        _refuse(path, "decode_error", "not an analysis by MER-Factory: it has none of its keys")
    return Analysis(path, document)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What MER-Factory found out about a clip.

    The document is kept as the file has it, and looked at when asked. What is missing or broken
    spoils what is asked for, never the rest.
    """

    path: Path
    document: Mapping[str, Any]

    @property
    def format(self) -> Literal["fork", "upstream", "upstream-early"]:
        """Who wrote it: AffectGPT's fork, upstream, or upstream before 2025-07-21."""
        if _FORK & self.document.keys():
            return "fork"
        return "upstream-early" if _EARLY & self.document.keys() else "upstream"

    @property
    def source(self) -> str | None:
        """The clip that was analysed, as its path was there and then, or its name."""
        keys = ("source_path", "source_video", "source_image", "video_id", "image_id")
        return next((self.document[key] for key in keys if _is_text(self.document.get(key))), None)

    def au_info(self) -> dict[str, Any]:
        """What `emotion_peak` needs: ``total_frames`` (absent where not stated) and ``peak_frames``.

        Each peak has ``peak_index`` (from 0), ``frames_before_peak`` and ``frames_after_peak``;
        there are none where the face stays neutral. ``total_frames`` is MER-Factory's count of
        frames; compare it with that of the decoder.

        Raises DecodeError: ``no_au_info``, where it is missing, or where its first peak, the one
        that counts, is incomplete. A later peak that is incomplete is left out.
        """
        info = self.document.get("au_info")
        if not info:
            self._lacks("no_au_info", "au_info")
        if not isinstance(info, dict):
            self._refuse("no_au_info", f"its au_info is {_what(info)}, not an object")
        total = info.get("total_frames")
        told: dict[str, Any] = {"total_frames": total} if _is_count(total) else {}
        if not info.keys() & {"total_frames", "peak_frames"}:
            self._refuse("no_au_info", "its au_info has neither total_frames nor peak_frames")
        peaks = info.get("peak_frames") or []
        if not isinstance(peaks, list):
            self._refuse("no_au_info", f"its peak_frames is {_what(peaks)}, not a list")
        wrong = _wrong_peak(peaks[0], total) if peaks else None
        if wrong:
            self._refuse("no_au_info", f"in its au_info {wrong}; analyse the clip anew")
        sound = [peak for peak in peaks if _wrong_peak(peak, total) is None]
        return told | {"peak_frames": [{key: peak[key] for key in _PEAK_KEYS} for peak in sound]}

    def descriptions(self) -> list[Description]:
        """The described frames, in order: one row of the modality `au` each.

        They are those of ``summary_description`` or, where that is missing or empty, those of
        ``fine_grained_descriptions``, as AffectGPT takes them. A frame whose number or text is
        none is left out; see `unusable`.

        Raises DecodeError: ``no_au_description``.
        """
        key, entries = self._described()
        if not entries:
            self._lacks("no_au_description", "description of a frame")
        frames = {number: _description(number, raw) for number, raw in entries.items()}
        usable = [description for description in frames.values() if description is not None]
        if not usable:
            shown = ", ".join(repr(number) for number in list(entries)[:_SHOWN])
            message = f"its {key} describes no frame under a number from 1 on, only under {shown}"
            self._refuse("no_au_description", message)
        return sorted(usable)

    def unusable(self) -> list[str]:
        """The keys of the frames that `descriptions` leaves out."""
        _, entries = self._described()
        return [number for number, raw in entries.items() if _description(number, raw) is None]

    def actions(self) -> list[Actions]:
        """The facial actions of each frame that the fork lists, in order; most often of all frames.

        What is no frame's record, or repeats a frame, is left out. Empty for upstream's files.
        """
        listed = self.document.get("per_frame_au_descriptions")
        found: dict[int, Actions] = {}
        for record in listed if isinstance(listed, list) else []:
            frame = record.get("frame") if isinstance(record, dict) else None
            if not _is_count(frame) or frame < 1:
                continue
            text = record.get("au_description")
            actions = Actions(
                frame=frame - 1,
                seconds=_seconds(record.get("timestamp")),
                text=text if _is_text(text) else "",
                active=_intensities(record.get("active_aus")),
                is_peak=record.get("is_peak_frame") is True,
            )
            found.setdefault(actions.frame, actions)
        return sorted(found.values())

    def emotion_peaks(self) -> list[EmotionPeak]:
        """The expressive moments, in order; empty for a clip that is neutral throughout."""
        listed = self.document.get("chronological_emotion_peaks")
        peaks = []
        for line in listed if isinstance(listed, list) else []:
            match = _PEAK.fullmatch(line) if isinstance(line, str) else None
            emotions = _EMOTION.findall(match[2]) if match else []
            if match and emotions:
                peaks.append(EmotionPeak(float(match[1]), emotions))
        return peaks

    def peak_frame(self) -> PeakFrame | None:
        """The most expressive frame, which upstream states in its ``merr_data``."""
        info = self.document.get("overall_peak_frame_info")
        info = self.document.get("peak_frame_info") if info is None else info  # before 2025-06-29
        frame = info.get("frame_number") if isinstance(info, dict) else None
        if not isinstance(info, dict) or not _is_count(frame) or frame < 1:
            return None
        active = _intensities(info.get("top_aus_intensities"))
        return PeakFrame(frame - 1, _seconds(info.get("timestamp")), active)

    def texts(self) -> dict[str, str]:
        """Every text about the clip as a whole, under the file's own key; no empty ones.

        Upstream's ``visual_expression`` or ``overall_peak_au_description`` (facial actions) and
        ``audio_analysis`` are the clues that a nonverbal clause is made of.
        """
        flat = dict(self.document)
        for key in _NESTED:
            if isinstance(flat.get(key), dict):
                flat |= flat.pop(key)
        usable = {key: flat[key] for key in flat if key in _TEXTS and _is_text(flat[key])}
        return {key: text for key, text in usable.items() if text.strip() != "N/A"}

    def _described(self) -> tuple[str, dict[str, Any]]:
        for key in ("summary_description", "fine_grained_descriptions"):
            entries = self.document.get(key)
            if isinstance(entries, dict) and entries:
                return key, entries
        return "", {}

    def _lacks(self, kind: Kind, what: str) -> NoReturn:
        if self.format == "fork":
            self._refuse(kind, f"no {what} in it; analyse the clip anew")
        advice = "analyse the clip with AffectGPT's fork of it"
        self._refuse(kind, f"no {what} in it, which upstream MER-Factory never writes; {advice}")

    def _refuse(self, kind: Kind, message: str) -> NoReturn:
        _refuse(self.path, kind, message)


class Nonverbal:
    """Captions for the nonverbal clause of AffectGPT's prompt: facial actions and tone of voice.

    `file` is one JSON file, ``{dataset: {sample: {"caption": text}}}``, for all datasets; the
    dataset may be spelled in any way (``sims``: ``CH-SIMS``).

    Raises MerstoreError for a file that cannot be read, and for a dataset that is not in it or, in
    two spellings, is twice.
    """

    def __init__(self, file: str | Path, dataset: str) -> None:
        self.path = Path(file)
        document = _load(self.path, "get it anew")
        if not isinstance(document, dict):
            raise MerstoreError(f"{file}: {_what(document)}, not an object with a key per dataset")
        key = _spelling(dataset, document, f"{file}: ", "key")
        if not isinstance(document[key], dict):
            found = _what(document[key])
            raise MerstoreError(f"{file}: {key} is {found}, not an object with a key per sample")
        self._samples: dict[str, Any] = document[key]

    def samples(self) -> list[str]:
        """The samples that have a caption, in the order of their bytes."""
        named = filter(_is_text, self._samples)
        return sorted(filter(self._caption, named), key=str.encode)

    def caption(self, sample: str) -> str:
        """Raises DecodeError: ``no_nonverbal_text``, which would change the prompt unsaid."""
        caption = self._caption(sample)
        if caption is None:
            _refuse(self.path, "no_nonverbal_text", f"no caption of {sample} in it")
        return caption

    def _caption(self, sample: str) -> str | None:
        entry = self._samples.get(sample)
        caption = entry.get("caption") if isinstance(entry, dict) else None
        return caption if _is_text(caption) else None


def _load(path: Path, advice: str = "run MER-Factory on this sample again") -> Any:
    """A JSON file's content. Raises DecodeError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        _refuse(path, "missing_file", f"no such file; {advice}")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        _refuse(path, "decode_error", f"cannot be read: {why}")
    cut = f"cut short, as by a killed run; delete it and {advice}"
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.reason == "unexpected end of data":
            _refuse(path, "decode_error", cut)
        message = f"not UTF-8 at byte {error.start}; written on a machine with another encoding: "
        _refuse(path, "decode_error", message + "convert it, as with iconv -f GBK -t UTF-8")
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        if not text.rstrip("\0 \t\r\n").endswith(("}", "]")):
            _refuse(path, "decode_error", cut)
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        _refuse(path, "decode_error", f"not JSON: {why}; delete it and {advice}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {twice!r} more than once in one object")
    return found


def _dataset_folder(root: Path, dataset: str | None) -> Path:
    names = _listing(root)
    if dataset is None:
        return root
    folders = [name for name in names if os.path.isdir(root / name)]
    plain = _plain(dataset)
    if _plain(root.resolve().name) == plain and plain not in map(_plain, folders):
        return root
    advice = "; leave the dataset out if the samples' folders are in it themselves"
    return root / _spelling(dataset, folders, f"{root}: ", "folder", advice)


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        message = f"{folder}: {error.strerror}; name the folder that MER-Factory wrote to"
        raise MerstoreError(message) from error


def _spelling(dataset: str, names: Iterable[str], where: str, what: str, advice: str = "") -> str:
    """The one of `names` that is the dataset's, in whatever spelling."""
    names = sorted(names)
    found = [name for name in names if _plain(name) == _plain(dataset)]
    if len(found) > 1:
        raise MerstoreError(f"{where}{dataset} twice, as {' and '.join(found)}; keep one {what}")
    if not found:
        shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
        raise MerstoreError(f"{where}no {what} for {dataset} among {shown or 'none'}{advice}")
    return found[0]


def _plain(dataset: str) -> str:
    """The same for every spelling of a dataset that AffectGPT, its fork and its papers have."""
    name = re.sub(r"[^a-z0-9]", "", dataset.casefold().replace("+", "plus"))
    return {"iemocapfour": "iemocap", "chsims": "sims", "chsimsv2": "simsv2"}.get(name, name)


def _wrong_peak(peak: object, total: object) -> str | None:
    """What keeps `emotion_peak` from following a peak."""
    if not _is_count(total):
        return f"total_frames is {_what(total)}, not a number of frames"
    if not isinstance(peak, dict):
        return f"a peak is {_what(peak)}, not an object"
    for key in _PEAK_KEYS:
        if not _is_count(peak.get(key)):
            return f"a peak's {key} is {_what(peak.get(key))}, not a number of frames"
    if peak["peak_index"] >= total:
        return f"a peak is frame {peak['peak_index']} (from 0) of {total}"
    return None


def _description(number: str, raw: object) -> Description | None:
    if not _NUMBER.fullmatch(number) or not isinstance(raw, str) or not _is_text(raw):
        return None
    text = _CHAT.split(raw)[-1].strip()
    return Description(int(number) - 1, text, raw) if text else None


def _intensities(values: object) -> dict[str, float]:
    """Those that are numbers from 0 to 5, under ``AU06`` instead of ``AU06_r``."""
    if not isinstance(values, dict):
        return {}
    known = {name: _AU.match(name) for name in values}
    return {
        match[0]: float(values[name])
        for name, match in known.items()
        if match and _is_number(values[name]) and 0 <= values[name] <= 5
    }


def _seconds(value: Any) -> float | None:
    return float(value) if _is_number(value) and 0 <= value < 1e9 else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is text with something in it that UTF-8 can hold."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _what(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    if value is None:
        return "missing"
    return names.get(type(value), str(value))


def _refuse(path: Path, kind: Kind, message: str) -> NoReturn:
    raise DecodeError(path, kind, message)
