"""MERTools' reader and datasets, from a store.

The functions have the reference's names, arguments, order, dtypes and shapes, and the datasets its
batches, bit for bit; what differs is what they cost. A *feature root* is the path of a feature
folder, ``<dataset folder>/features/<folder>``, and is found by its folder's name (see
`merstore.interop.feature_paths`). Which store it is found in is said once, by `use` (or
`merstore.interop.switch`), or by the path itself: ``features.mer/mer2023/<folder>``.

What the reader does to an array, whatever its dtype: dimensions of 1 are dropped, and a vector
becomes one row. So ``(D,)`` and ``(1, D)`` are ``(1, D)``, ``(1, T, D)`` is ``(T, D)``, ``(T, 1)``
is ``(1, T)``, and three dimensions stay three. A directory of per-frame files is one ``(T, D)``
entry in the store, which gives the same array. A store keeps no empty array: an entry that was
saved as one has a failure record `EMPTY`, and is given back as it was. bfloat16, which ``.npy``
files cannot hold, is given as float32.
"""

import mmap
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from merstore.errors import InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop.feature_paths import FeaturePaths
from merstore.store.batch import allocate
from merstore.store.dtypes import CODES
from merstore.store.entry import Failure, IndexEntry, unpack
from merstore.store.environment import Environment
from merstore.store.keys import sample_key
from merstore.store.legacy import dataset_key
from merstore.store.snapshot import Snapshot
from merstore.store.store import Store, open_store
from merstore.store.view import View

__all__ = [
    "EMPTY",
    "DataFeat",
    "DataFeatTopN",
    "Data_Feat",
    "Data_Feat_TOPN",
    "Features",
    "check_feature_completeness",
    "empty_array",
    "face_stack",
    "feature_exists",
    "feature_extraction_progress",
    "feature_folder",
    "func_read_multiprocess",
    "func_read_one_feat",
    "map_to_length",
    "snr_folder",
    "use",
]

Array = np.ndarray[Any, np.dtype[Any]]

EMPTY = "empty_array"
"""Kind of the failure record that stands for an array without elements; its message is
``<dtype> <shape>``."""

MAPPED_BYTES = 4 << 20  # of a feature folder from which on arrays are not copied out of the store
CHUNK_BYTES = 8 << 20  # of a view read at a time, where what is kept is less than what is read
ROLES = ("audio", "text", "video")
SCALES = {"utt": 1, "frm_align": 6, "frm_unalign": 12}
"""feat_type -> the scale that MERTools' trainer sets for it."""


# --- which store ---------------------------------------------------------------------------------

_used: FeaturePaths | None = None


def use(
    store: FeaturePaths | Store | str | os.PathLike[str] | None,
    dataset: str | None = None,
    on_miss: str = "raise",
) -> FeaturePaths | None:
    """Have everything in this module read from `store`, until told otherwise; None ends it.

    dataset: that of feature roots which are in no dataset's folder. on_miss: as of Features; not
    ``"skip"``, after which arrays and names would not go together. Returns what was used before.
    """
    global _used
    before = _used
    if store is None or isinstance(store, FeaturePaths):
        _used = store
    else:
        opened = store if isinstance(store, Store) else open_store(store)
        _used = FeaturePaths(opened, dataset=dataset, on_miss=check_on_miss(on_miss))
    return before


def check_on_miss(on_miss: str) -> str:
    """Raises MerstoreError for what the functions of the reference cannot do about a miss."""
    if on_miss not in ("raise", "mask", "fill"):
        raise MerstoreError(f"on_miss is raise, mask or fill here, not {on_miss!r}")
    return on_miss


def _paths(feature_root: str | os.PathLike[str]) -> FeaturePaths:
    path = os.path.abspath(feature_root)
    above = os.path.dirname(path)
    while above != os.path.dirname(above):
        if os.path.isfile(os.path.join(above, "data.mdb")):
            return _opened(above)
        above = os.path.dirname(above)
    if _used is None:
        raise MerstoreError(
            f"{os.fspath(feature_root)}: no store is in use: call merstore.interop.mertools.use(store), "
            "or give a path below the store's folder"
        )
    return _used


@cache
def _opened(store: str) -> FeaturePaths:
    return FeaturePaths(open_store(store), roots=[store])


# --- one feature folder --------------------------------------------------------------------------


class Features:
    """Samples of one feature folder, in the order of `names`. Reads nothing but the index until
    arrays are asked for.

    on_miss: of a sample that the store lacks, and that is no file at the feature root either (by
    default what `use` was told): ``"raise"`` MissingEntry; ``"mask"`` one row of zeros; ``"skip"``
    leave it out; ``"fill"`` have the view's filler compute it, and mask what cannot be computed.

    names: list of those read. shapes: of the arrays, as the reader gives them. mask: bool
    ``[number of names asked for]``, False where there is no such sample.
    """

    def __init__(
        self,
        feature_root: str | os.PathLike[str],
        names: Sequence[str],
        *,
        paths: FeaturePaths | None = None,
        dataset: str | None = None,
        on_miss: str | None = None,
    ) -> None:
        paths = paths or _paths(feature_root)
        on_miss = on_miss or paths.on_miss
        if on_miss not in ("raise", "mask", "skip", "fill"):
            raise MerstoreError(f"on_miss is one of raise, mask, skip, fill, not {on_miss!r}")
        self.root = os.fspath(feature_root)
        self.view: View = paths.find(feature_root, dataset)
        self.names = list(names)
        self.mask = np.ones(len(self.names), bool)
        self.shapes: list[tuple[int, ...]] = []
        self._other: dict[int, Array] = {}  # what is no entry of the view's dtype
        self._resolve(on_miss)

    @property
    def dim(self) -> int:
        """The last dimension of the first array."""
        if not self.shapes:
            raise MerstoreError(f"{self.root}: no names were given, so it has no dimension")
        return self.shapes[0][-1]

    @property
    def uniform(self) -> bool:
        """Whether all are the view's own entries, of its dtype."""
        return not self._other

    def _resolve(self, on_miss: str) -> None:
        view = self.view
        self._snapshot, entries = self._entries()
        if None in entries:
            view.store.refresh()  # another process may have written meanwhile
            self._snapshot, entries = self._entries()
        absent = [i for i, entry in enumerate(entries) if entry is None]
        absent = [i for i in absent if not self._from_elsewhere(i)]
        if absent and on_miss == "fill":
            view._fill([self.names[i] for i in absent])
            self._snapshot, entries = self._entries()
            absent = [i for i in absent if entries[i] is None]
        if absent:
            self._miss(absent, on_miss, entries)
        self._stored = np.array(
            [(0, 0, 0, 0) if e is None else (e.block, e.page, e.offset, e.nbytes) for e in entries],
            np.int64,
        ).reshape(-1, 4)
        code = CODES[view.record.dtype]
        shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        for i, entry in enumerate(entries):
            if entry is not None and entry.dtype != code:
                self._other[i] = _as_read(view[self.names[i]], self._named(i))
            if entry is None or entry.dtype != code:
                self.shapes.append(self._other[i].shape)
                continue
            shape = shapes.get(entry.shape)
            if shape is None:
                shape = shapes[entry.shape] = _row_shape(entry.shape, self._named(i))
            self.shapes.append(shape)

    def _entries(self) -> tuple[Snapshot, list[IndexEntry | None]]:
        snapshot = self.view.store.snapshot()
        prefix = self.view._record_at(snapshot).prefix
        values = snapshot.get_each(b"index", prefix, [sample_key(name) for name in self.names])
        return snapshot, [None if value is None else unpack(value) for value in values]

    def _from_elsewhere(self, i: int) -> bool:
        """Take an empty array as it was, or the file that is no part of the store."""
        name = self.names[i]
        failure = self.view.failure(name)
        array = empty_array(failure) if failure is not None else None
        if array is None and "/" in self.root:
            array = _from_disk(self.root, name)
        if array is None:
            return False
        self._other[i] = _as_read(array, self._named(i))
        return True

    def _miss(self, absent: list[int], on_miss: str, entries: list[IndexEntry | None]) -> None:
        names = [self.names[i] for i in absent]
        if on_miss == "raise":
            raise MissingEntry(f"{self.view._explain(names)}. It was read as {self.root}")
        self.mask[absent] = False
        if on_miss == "skip":
            for i in reversed(absent):
                del self.names[i], entries[i]
            kept = np.cumsum(self.mask) - 1
            self._other = {int(kept[i]): array for i, array in self._other.items()}
            return
        record = self.view.record
        row = [size for size in record.row_shape if size != 1] or [1]
        dtype = np.float32 if self.view.dtype == "bfloat16" else self.view.dtype
        for i in absent:
            self._other[i] = np.zeros((1, row[-1]), dtype)

    def arrays(self, start: int = 0, stop: int | None = None) -> list[Array]:
        """The arrays of some of the names, of two dimensions as a rule; they lie in one buffer."""
        stop = len(self.names) if stop is None else min(stop, len(self.names))
        rows = [i for i in range(start, stop) if i not in self._other]
        batch = self.view.gather([self.names[i] for i in rows])
        shapes = self.shapes
        if isinstance(batch, np.ndarray):
            found = [
                array.reshape(shapes[i]) for i, array in zip(rows, np.asarray(batch), strict=True)
            ]
        else:
            values, ends = batch.values, batch.offsets.tolist()
            found = [values[ends[k] : ends[k + 1]] for k in range(len(rows))]
            if len(self.view.shape) != 2 or self.view.shape[1] == 1:
                found = [array.reshape(shapes[i]) for i, array in zip(rows, found, strict=True)]
        if len(rows) == stop - start:
            return found
        by_row = dict(zip(rows, found, strict=True))
        return [by_row[i] if i in by_row else self._other[i] for i in range(start, stop)]

    def mapped(self) -> list[Array] | None:
        """The arrays where they lie, in a mapping of the store's file of their own: they take no
        memory but the page cache's until one is written to, which changes a copy of its pages. They
        keep the snapshot, so that nobody uses their pages again. None where that cannot be.
        """
        store, snapshot = self.view.store, self._snapshot
        environment = snapshot.environment
        if store.io != "map" or store.checksum or not environment.locked or not snapshot.alive:
            return None
        if self.view.dtype == "bfloat16":
            return None
        blocks, pages, offsets, sizes = self._stored.T
        moved = snapshot.pages(self.view._record_at(snapshot).number)
        if moved is not None:
            pages = np.array([moved.get(block, -1) for block in blocks.tolist()], np.int64)
        starts = pages * environment.page_bytes + 16 + offsets
        size = environment.committed_bytes()
        if (pages < 0).any() or (starts + sizes > size).any():
            return None
        mapping = _map_private(environment, size)
        if mapping is None:
            return None
        mapping.snapshot = snapshot
        _read_ahead(mapping, starts[sizes > 0], sizes[sizes > 0])
        dtype = np.dtype(self.view.dtype)
        counts = (sizes // dtype.itemsize).tolist()
        return [
            self._other[i]
            if i in self._other
            else np.frombuffer(mapping, dtype, count, start).reshape(shape)
            for i, (count, start, shape) in enumerate(
                zip(counts, starts.tolist(), self.shapes, strict=True)
            )
        ]

    @property
    def nbytes(self) -> int:
        """Of all that is stored."""
        return int(self._stored[:, 3].sum())

    def chunks(self) -> Iterator[tuple[int, list[Array]]]:
        """All arrays, some at a time: the number of the first of them, and the arrays."""
        sizes = np.array([np.prod(shape) for shape in self.shapes], np.int64)
        ends = np.cumsum(sizes * 4) // CHUNK_BYTES
        starts = np.flatnonzero(np.diff(ends, prepend=-1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(self.names)], strict=True):
            yield start, self.arrays(start, stop)

    def single_rows(self) -> Array | None:
        """Each one's mean over time, ``[N, dim]``, in one pass, where all are single rows of float16
        (which their means are, too) or float32; None where they are not.
        """
        dim = self.shapes[0][-1]
        if self._other or set(self.shapes) != {(1, dim)}:
            return None
        stored = self.view.dtype
        if stored != "bfloat16" and stored not in (np.float16, np.float32):
            return None
        dtype = np.float16 if stored == np.float16 else np.float32
        out = allocate((len(self.names), dim), np.dtype(dtype))
        self.view.gather(self.names, out=out.reshape(len(out), *self.view.record.row_shape))
        # a mean is a sum, which begins with 0: -0. becomes 0.
        if dtype == np.float16:  # by its bits, since NumPy adds float16 one by one
            bits = out.view(np.uint16)
            bits *= bits != 0x8000
        else:
            out += dtype(0)
        return out

    def _named(self, i: int) -> str:
        return f"{self.view.path}/{self.names[i]}"


class _Mapping(mmap.mmap):
    snapshot: Snapshot  # keeps the bytes in place as long as an array refers to this


def _map_private(environment: Environment, size: int) -> _Mapping | None:
    """The store's file, writable for us alone; None where it is another file by now, or address
    space is short.
    """
    try:
        with open(environment.path / "data.mdb", "rb") as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != environment.key or status.st_size < size:
                return None
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            return _Mapping(file.fileno(), size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError:
        return None


def _read_ahead(mapping: mmap.mmap, starts: Array, sizes: Array) -> None:
    """Ask for the pages of all parts at once, those that are together in one piece."""
    order = np.argsort(starts)
    first = starts[order] // mmap.PAGESIZE * mmap.PAGESIZE
    end = np.maximum.accumulate(starts[order] + sizes[order])
    apart = np.flatnonzero(first[1:] > end[:-1]) + 1
    for piece in np.split(np.arange(len(order)), apart):
        if len(piece):
            begin = int(first[piece[0]])
            mapping.madvise(mmap.MADV_WILLNEED, begin, int(end[piece[-1]]) - begin)


def _row_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape that the reader gives an array of `shape`."""
    kept = tuple([size for size in shape if size != 1])
    if not kept:
        raise TypeError(f"{name}: {shape} holds a single number, which the reader cannot take")
    return kept if len(kept) > 1 else (1, *kept)


def _as_read(array: Array, name: str) -> Array:
    """An array as the reader gives it: squeezed, and a vector as one row; a copy."""
    if not array.size:
        warnings.warn(f"{name}: the array is empty {array.shape}", stacklevel=2)
        squeezed = array.squeeze()
        return squeezed if len(squeezed.shape) > 1 or not len(squeezed) else squeezed[np.newaxis]
    return np.array(array).reshape(_row_shape(array.shape, name))


def _from_disk(root: str, name: str) -> Array | None:
    """What lies at a feature root itself, read as the reference does; None where nothing does."""
    path = os.path.join(root, name)
    if os.path.isfile(path + ".npy"):
        array: Array = np.load(path + ".npy")
        return array
    if not os.path.isdir(path):
        return None
    return np.array([np.load(os.path.join(path, frame)) for frame in sorted(os.listdir(path))])


def empty_array(failure: Failure) -> Array | None:
    """The array without elements that a failure record stands for, if it is one of `EMPTY`."""
    dtype, _, shape = failure.message.partition(" ")
    if failure.kind != EMPTY:
        return None
    return np.empty([int(size) for size in shape.strip("()").split(",") if size.strip()], dtype)


# --- the seams -----------------------------------------------------------------------------------


def func_read_multiprocess(
    feature_root: str | os.PathLike[str],
    names: Sequence[str],
    processor: object = None,
    read_type: str = "feat",
    model_name: object = None,
) -> tuple[list[Array], int]:
    """The samples of a feature folder, ``(T, D)`` each, in the order of `names`, and D of the first.

    The arrays can be written to, and are nobody else's. Small ones lie in one buffer; where all
    together are more than MAPPED_BYTES, they are mapped (`Features.mapped`).

    `processor` and `model_name` are taken and not used, as in the reference, which reads nothing
    but ``"feat"``. Raises UnknownView, with the nearest folders, and MissingEntry.
    """
    if read_type != "feat":
        raise MerstoreError(f'read_type is "feat", not {read_type!r}: nothing else can be read')
    features = Features(feature_root, names)
    arrays = features.mapped() if features.nbytes >= MAPPED_BYTES else None
    return features.arrays() if arrays is None else arrays, features.dim


def func_read_one_feat(argv: tuple[Any, Any, Any, Any]) -> Array:
    """One sample: `argv` is (feature root, name, processor, model name). As `func_read_multiprocess`."""
    feature_root, name, _, _ = argv
    return Features(feature_root, [name]).arrays()[0]


def face_stack(face_root: str | os.PathLike[str], name: str) -> Array:
    """The face stack of a sample, uint8 ``(N, 112, 112, 3)``, BGR, of the face folder
    ``<dataset folder>/openface_face``. Raises UnknownView, MissingEntry.
    """
    return np.array(_paths(face_root).find(face_root)[name])


def feature_exists(features: str | os.PathLike[str], folder: str) -> bool:
    """Whether the store has the feature folder `folder` of ``<dataset folder>/features``."""
    try:
        _paths(features).find(os.path.join(features, folder))
    except UnknownView:
        return False
    return True


def feature_folder(
    features: str | os.PathLike[str], base: str, level: str = "UTT", reference: object = None
) -> str:
    """``<base>_<level>`` or ``<base>-<level>``, whichever the store has.

    Where MERTools looks into one fixed dataset's folder and takes what is not there for ``-``, this
    looks into `features`, and raises UnknownView, with the nearest names, where there is neither.
    """
    for separator in "_-":
        if feature_exists(features, f"{base}{separator}{level}"):
            return f"{base}{separator}{level}"
    _paths(features).find(os.path.join(features, f"{base}-{level}"))
    raise AssertionError  # `find` raises what `feature_exists` caught


def feature_extraction_progress(dataset: str, *, quiet: bool = False) -> dict[str, int]:
    """How many samples each feature folder of a dataset has; printed with one sample's shape.

    Raises UnknownView where the store has nothing of the dataset.
    """
    counts = {}
    for folder, view in _views_of(dataset):
        counts[folder] = len(view)
        first = next(iter(view), None)
        if not quiet:
            shown = f", {first} is {view[first].shape}" if first is not None else ""
            print(f"{folder}: {len(view)} samples{shown}")
    return counts


def check_feature_completeness(
    dataset: str, names: Sequence[str], folders: Sequence[str] | None = None, *, quiet: bool = False
) -> dict[str, list[str]]:
    """Which of `names` each feature folder of a dataset (or each of `folders`) lacks; printed."""
    lacking = {}
    wanted = None if folders is None else {_find(folder, dataset).path for folder in folders}
    for folder, view in _views_of(dataset):
        if wanted is None or view.path in wanted:
            lacking[folder] = [name for name in names if name not in view]
            if not quiet:
                print(f"{folder}: {len(names) - len(lacking[folder])} of {len(names)} samples")
    return lacking


def _views_of(dataset: str) -> list[tuple[str, View]]:
    paths, key = _in_use(), dataset_key(dataset)
    found = [(folder, paths.find(folder, key)) for folder in paths.folders(key)]
    if not found:
        raise UnknownView(f"{paths.store.path} has no feature folder of dataset {key!r}")
    return found


def _find(folder: str, dataset: str) -> View:
    return _in_use().find(folder, dataset)


def _in_use() -> FeaturePaths:
    if _used is None:
        raise MerstoreError("no store is in use: call merstore.interop.mertools.use(store)")
    return _used


# --- datasets ------------------------------------------------------------------------------------


def map_to_length(x: Array, length: int) -> Array:
    """A sequence ``[T, D]`` as ``[length, D]``: block means of a longer one, zeros before a shorter.

    Where T is no multiple of `length`, zeros (float64) are put in front until it is, and count in
    the means. Of T rows that are `length` already, `x` itself.
    """
    total = len(x)
    if total == length:
        return x
    block = -(-total // length)
    if total % length:
        padded = np.zeros((length * block, *x.shape[1:]))
        padded[length * block - total :] = x
        x = padded
    return x if block == 1 else np.mean(x.reshape(length, block, *x.shape[1:]), axis=1)


def snr_folder(folder: str, snr: str | None) -> str:
    """The folder of a noisy variant: ``eGeMAPS_UTT`` and ``noisesnr5`` give
    ``eGeMAPS_noisesnr5_UTT``. Raises MerstoreError for a folder that is not of level UTT.
    """
    if snr is None:
        return folder
    if folder[-4:] not in ("-UTT", "_UTT"):
        raise MerstoreError(f"{folder}: noisy variants are of UTT features")
    return f"{folder[:-4]}{folder[-4]}{snr}{folder[-4:]}"


class _Dataset:
    """What the two datasets share: `blocks`, one for each role, and the labels."""

    keys: tuple[str, ...]
    plurals: tuple[str, ...]

    def __init__(self, names: Sequence[str], labels: Any) -> None:
        self.names = list(names)
        self.labels = labels
        self.blocks: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Views of the features, and ``emo``, ``val``, ``name``."""
        item: dict[str, Any] = {
            key: block[index] for key, block in zip(self.keys, self.blocks, strict=True)
        }
        name = self.names[index]
        label = self.labels[name if isinstance(self.labels, Mapping) else index]
        return {**item, "emo": label["emo"], "val": label["val"], "name": name}

    def collater(self, instances: Sequence[Mapping[str, Any]]) -> tuple[Any, Any, Any, list[str]]:
        """``(batch, emos, vals, names)``: features float32 ``(B, D)`` or ``(B, L, D)`` by their
        plural keys, emos int64 ``(B,)``, vals float32 ``(B,)``.
        """
        import torch

        batch = {
            plural: torch.from_numpy(
                np.stack([instance[key] for instance in instances], dtype=np.float32)
            )
            for key, plural in zip(self.keys, self.plurals, strict=True)
        }
        emos = torch.tensor([int(instance["emo"]) for instance in instances], dtype=torch.int64)
        vals = torch.tensor([float(instance["val"]) for instance in instances], dtype=torch.float32)
        return batch, emos, vals, [instance["name"] for instance in instances]

    def _drop(self, kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> None:
        """Leave out samples that a role lacks (``on_miss="skip"``)."""
        if kept.all():
            return
        if not isinstance(self.labels, Mapping):
            self.labels = [self.labels[i] for i in np.flatnonzero(kept).tolist()]
        self.names = [self.names[i] for i in np.flatnonzero(kept).tolist()]


class DataFeat(_Dataset):
    """One split with three roles, as MERTools' dataset of that name gives it.

    args: has ``audio_feature``, ``text_feature``, ``video_feature`` (feature folders, by name, or
    by path), ``feat_type`` (``utt``, ``frm_align``, ``frm_unalign``), ``feat_scale`` (by default
    the feat_type's), and ``dataset`` where the folders are names.
    names: of the samples, in order. labels: for each, in that order or by name, ``emo`` and ``val``.
    snr: which noisy variant of the folders. on_miss: as of Features; ``"skip"`` drops a sample that
    any role lacks, ``"mask"`` puts zeros.

    Features are read once, and held once, at their final length: roles that read the same folder
    alike share one block. They are float32, as batches are; vectors that are stored as float16 stay
    so until they are in a batch. `blocks` are ``(N, D)`` (utt) or ``(N, L, D)``, in the order
    audio, text, video.
    """

    keys = ROLES
    plurals = ("audios", "texts", "videos")

    def __init__(
        self,
        args: Any,
        names: Sequence[str],
        labels: Any,
        *,
        snr: str | None = None,
        on_miss: str | None = None,
    ) -> None:
        super().__init__(names, labels)
        self.feat_type = args.feat_type
        if self.feat_type not in SCALES:
            raise MerstoreError(f"feat_type {self.feat_type!r}: one of {', '.join(SCALES)}")
        scale = getattr(args, "feat_scale", None)
        self.feat_scale: int = SCALES[self.feat_type] if scale is None else scale
        folders = [snr_folder(getattr(args, f"{role}_feature"), snr) for role in ROLES]
        if self.feat_type != "utt":
            for folder in folders:
                if not os.path.basename(folder.rstrip("/")).endswith("FRA"):
                    raise MerstoreError(f"{folder}: feat_type {self.feat_type} reads FRA features")
        dataset = getattr(args, "dataset", None)
        features, kept = _open(folders, self.names, dataset, on_miss)
        self._drop(kept)
        self.dims = tuple(features[folder].dim for folder in folders)
        self.blocks = tuple(self._blocks([features[folder] for folder in folders]))

    def _blocks(self, roles: list[Features]) -> Iterator[Array]:
        done: dict[tuple[str, bytes], Array] = {}
        lengths = [_compressed(role, self.feat_scale) for role in roles]
        for role, length in zip(roles, lengths, strict=True):
            aligned = lengths[ROLES.index("text")] if self.feat_type == "frm_align" else length
            key = role.view.path, aligned.tobytes()
            if key not in done:
                steps = [length] if aligned is length else [length, aligned]
                done[key] = _block(role, steps, mean=self.feat_type == "utt")
            yield done[key]

    def get_featdim(self) -> tuple[int, ...]:
        """(audio's, text's, video's) last dimension."""
        return self.dims


class DataFeatTopN(_Dataset):
    """One split of any number of UTT features, for fusion: batch keys ``feat0``, ``feat1``, ...

    folders: feature folders, by path, or by name with `dataset`. The rest as of DataFeat.
    """

    def __init__(
        self,
        folders: Sequence[str],
        names: Sequence[str],
        labels: Any,
        *,
        dataset: str | None = None,
        on_miss: str | None = None,
    ) -> None:
        super().__init__(names, labels)
        self.keys = self.plurals = tuple(f"feat{number}" for number in range(len(folders)))
        features, kept = _open(list(folders), self.names, dataset, on_miss)
        self._drop(kept)
        self.dims = [features[folder].dim for folder in folders]
        done = {
            folder: _block(role, [_compressed(role, 1)], mean=True)
            for folder, role in features.items()
        }
        self.blocks = tuple(done[folder] for folder in folders)

    def get_featdim(self) -> tuple[list[int], list[int], list[int]]:
        """The dimensions of all folders, three times."""
        return self.dims, self.dims, self.dims


Data_Feat = DataFeat
Data_Feat_TOPN = DataFeatTopN


def _open(
    folders: list[str], names: list[str], dataset: str | None, on_miss: str | None
) -> tuple[dict[str, Features], "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """Each folder once; and which of the samples are left."""
    kept = np.ones(len(names), bool)

    def open_each(names: list[str], on_miss: str | None) -> dict[str, Features]:
        return {
            folder: Features(folder, names, dataset=dataset, on_miss=on_miss, paths=_where(folder))
            for folder in dict.fromkeys(folders)
        }

    features = open_each(names, on_miss)
    if on_miss == "skip":
        for found in features.values():
            kept &= found.mask
        if not kept.all():
            features = open_each([names[i] for i in np.flatnonzero(kept).tolist()], "raise")
    return features, kept


def _where(folder: str) -> FeaturePaths:
    return _paths(folder) if "/" in folder else _in_use()


def _compressed(features: Features, scale: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """int64 ``[N]``: ceil(T / scale)"""
    rows = np.array([shape[0] for shape in features.shapes], np.int64)
    if not rows.all():
        empty = features.names[int(np.flatnonzero(rows == 0)[0])]
        raise InvalidTensor(
            f"{features.view.path}/{empty}: the array is empty: compute it again, or leave the "
            'sample out (on_miss="skip" does where there is nothing at all)'
        )
    return -(-rows // scale)


def _block(
    features: Features, steps: "list[np.ndarray[Any, np.dtype[np.int64]]]", mean: bool
) -> Array:
    """All of a folder, mapped to the lengths of each step in turn; then averaged over time, ``[N,
    D]``, or padded in front to the longest, ``[N, L, D]``. float32, or as `Features.single_rows`.
    """
    count, tail = len(features.names), features.shapes[0][1:]
    for i, shape in enumerate(features.shapes):
        if shape[1:] != tail:
            raise InvalidTensor(
                f"{features._named(i)}: an array of {shape} among others of {(None, *tail)}: one "
                "feature folder has one dimension; import it again without this sample"
            )
    longest = int(steps[-1].max(initial=0))
    if mean and (rows := features.single_rows()) is not None:
        return rows
    out = np.zeros((count, *tail) if mean else (count, longest, *tail), np.float32)
    for first, arrays in features.chunks():
        for i, array in enumerate(arrays, first):
            for step in steps:
                array = map_to_length(array, int(step[i]))
            if mean:
                out[i] = np.mean(array, axis=0)
            else:
                out[i, longest - len(array) :] = array
    return out
