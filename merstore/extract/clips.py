"""Which clips there are: sample names and the files they are read from."""

import csv
import io
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from merstore.errors import InvalidKey, MerstoreError

# Where several files share a stem, the first of these is the sample's clip.
_VIDEO = [".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"]
_VIDEO += [".flv", ".wmv", ".3gp", ".ogv", ".vob"]
AUDIO = [".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".aiff"]
_IMAGE = [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"]
_RANK = {suffix: rank for rank, suffix in enumerate(_VIDEO + AUDIO + _IMAGE)}

_NAME_COLUMNS = {"name", "names"}
_MAX_NAME_BYTES = 400
_SHOWN = 5


class Clips(Mapping[str, Path]):
    """Sample names, in the order of their UTF-8 bytes, and the file of each; immutable, picklable.

    A sample is named after its file, without the last suffix. A file need not exist: that is for
    whoever reads it to say, so that a listed clip that is gone ends as a failure, not as nothing.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            _check_name(name, path)
        self._files = {name: files[name] for name in sorted(files, key=str.encode)}

    @classmethod
    def from_directory(cls, folder: str | Path) -> "Clips":
        """Every file in `folder` that is not hidden, and every ``<name>/<name>.*`` below it.

        Files that share a stem are one sample: a video comes before a sound file, that before a
        picture, and that before anything else, so ``x.mp4`` is the clip where ``x.wav`` and
        ``x.txt`` lie beside it.

        Raises MerstoreError for a folder that is not there or holds no such file, and InvalidKey
        for a file whose name cannot be a sample's.
        """
        folder = Path(folder)
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "no such folder"
            raise MerstoreError(f"{folder}: {what}; name the folder that holds the clips")
        files = scan(folder)
        if not files:
            raise MerstoreError(f"{folder}: no clips in it, nor below it as <name>/<name>.*")
        return cls(files)

    @classmethod
    def from_list(cls, file: str | Path, root: str | Path | None = None) -> "Clips":
        """The clips that a text file lists, one to a line or in a table's column ``name``.

        A table is known by its first line, which has a cell ``name`` or ``names`` between commas or
        tabs. An entry is a path,
        relative to `root` (by default the folder of the list), or a sample name, whose video is
        looked for in `root` with every suffix of a video, and in ``<name>/``.

        Raises MerstoreError for a list that cannot be read, is empty or names a sample twice, and
        InvalidKey for an entry that cannot be a sample's name.
        """
        file = Path(file)
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise MerstoreError(f"{file}: {why}; give a list of clips, one to a line") from error
        root = file.parent if root is None else Path(root)
        videos = scan(root, set(_VIDEO)) if root.is_dir() else {}
        try:
            clips = [_listed(entry, root, videos) for entry in _entries(text, file)]
        except csv.Error as error:
            raise MerstoreError(f"{file}: not a table of clips: {error}") from error
        return cls._of_pairs(clips, file)

    @classmethod
    def from_paths(cls, paths: Iterable[str | Path]) -> "Clips":
        """One clip per path, under the file's stem.

        Raises MerstoreError where two have the same stem or there are none, and InvalidKey for a
        name that cannot be a sample's.
        """
        clips = [Path(path) for path in paths]
        return cls._of_pairs([(path.stem, path) for path in clips], "the paths given")

    @classmethod
    def _of_pairs(cls, pairs: list[tuple[str, Path]], source: object) -> "Clips":
        if not pairs:
            raise MerstoreError(f"{source}: no clips listed")
        files = dict(pairs)
        if len(files) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = [name for name, count in counts.items() if count > 1]
            shown = ", ".join(twice[:_SHOWN]) + (" …" if len(twice) > _SHOWN else "")
            raise MerstoreError(f"{source}: {len(twice)} samples listed more than once: {shown}")
        return cls(files)

    def __getitem__(self, name: str) -> Path:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"<Clips: {len(self)} samples>"


def scan(folder: Path, suffixes: Collection[str] | None = None) -> dict[str, Path]:
    """Sample -> its file, of those in `folder` and in the folders named like the file they hold."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        inside = path.is_dir()
        for file in path.iterdir() if inside else [path]:
            stem_fits = not inside or file.stem == path.name
            kind_fits = suffixes is None or file.suffix.lower() in suffixes
            if stem_fits and kind_fits and file.is_file():
                found[file.stem].append(file)
    return {stem: min(files, key=_preference) for stem, files in found.items()}


def _preference(path: Path) -> tuple[int, int, str]:
    return _RANK.get(path.suffix.lower(), len(_RANK)), len(path.parts), path.name


def _entries(text: str, file: Path) -> Iterator[str]:
    head = text.partition("\n")[0].strip()
    delimiter = "\t" if "\t" in head else ","
    header = [cell.strip().lower() for cell in head.split(delimiter)]
    column = next((i for i, cell in enumerate(header) if cell in _NAME_COLUMNS), None)
    if column is None and len(header) > 1 and file.suffix.lower() in {".csv", ".tsv"}:
        raise MerstoreError(f"{file}: no column `name` or `names` among {', '.join(header)}")
    if column is None:
        yield from (line.strip() for line in text.split("\n") if line.strip())
        return
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(rows)
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= column or not row[column].strip():
            raise MerstoreError(f"{file}: line {rows.line_num} has no name")
        yield row[column].strip()


def _listed(entry: str, root: Path, videos: Mapping[str, Path]) -> tuple[str, Path]:
    """Sample and file of one entry, which is a path, a file's name in `root` or a sample's name."""
    path = root / entry
    if "/" in entry or Path(entry).suffix.lower() in _RANK:
        return path.stem, path
    if entry in videos:
        return entry, videos[entry]
    if os.path.isfile(path):  # False, where Path.is_file raises, for a name too long for a file
        return path.stem, path
    return entry, path.with_name(f"{entry}.mp4")  # not there; to be reported under this name


def _check_name(name: str, path: Path) -> None:
    """A sample's name is 1 to 400 bytes of UTF-8 without control characters and ``/``."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"{str(path)!r}: its name is not UTF-8; rename the file") from None
    if not 1 <= size <= _MAX_NAME_BYTES:
        raise InvalidKey(f"{path}: a sample name has 1 to {_MAX_NAME_BYTES} bytes, not {size}")
    if "/" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise InvalidKey(f"{str(path)!r}: a sample name has no control characters and no /")
