"""The order in which an epoch's samples come: cut into batches, dealt out to ranks, resumable anywhere.

An epoch is a pure function of the seed, the epoch's number and the settings of the order, the same on every
machine: each rank computes it for itself, and a position in it is one number, however many ranks read.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator
from operator import index
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.random import PCG64, SeedSequence
from torch.utils.data import Sampler
from xxhash import xxh3_64_hexdigest

from merstore.errors import MerstoreError

_VERSION = 1  # of the state and of what the settings mean: another order is another version


class Share(TypedDict, total=False):
    """The arguments that all orders take: their defaults and meaning are BatchOrder's."""

    seed: int
    rank: int
    world_size: int
    drop_last: bool
    uneven: bool


class BatchOrder(Sampler[np.ndarray], ABC):
    """Yields the batches of one rank as row numbers, int64 ``[B]``: for DataLoader, the ``sampler`` of
    ``batch_size=None``.

    seed: 0 <= seed < 2**64. rank, world_size: whose share of every epoch this is, and of how many.
    The ends of an epoch: by default all ranks get equally many batches, the last step being filled up from the
    beginning of the order; ``drop_last=True`` leaves the last step out instead where it is not full;
    ``uneven=True`` gives every row to exactly one rank once, and some ranks a batch less.

    epoch: the epoch being iterated, or else the one that the next iteration is of. A new iteration goes
    on to the next epoch by itself, whether the last one was finished or broken off; ``set_epoch`` sets another.

    Raises MerstoreError for settings that are out of range, and where ``drop_last`` would leave nothing.
    """

    _unit = "batches"  # an epoch is a sequence of these; a step of all ranks takes the next _stride of them

    def __init__(
        self,
        settings: dict[str, Any],
        step: int = 1,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        uneven: bool = False,
    ) -> None:
        """settings: JSON-able, all that the order depends on. step: units that a rank takes at a time."""
        self.seed = _integer("seed", seed, 0, bits=64)
        self.world_size = _integer("world_size", world_size, 1)
        self.rank = _integer("rank", rank, 0)
        if self.rank >= self.world_size:
            raise MerstoreError(f"rank {rank} of world_size {world_size}: ranks count from 0")
        if drop_last and uneven:
            raise MerstoreError("drop_last leaves rows out and uneven leaves none out: choose one")
        self.drop_last, self.uneven = bool(drop_last), bool(uneven)
        self.epoch = 0
        self._settings = settings | {"seed": self.seed}
        self._stride = step * self.world_size
        self._start = 0  # the unit of the present epoch that its iteration begins at
        self._begun = False  # whether a batch of the present epoch was taken
        self._run: tuple[int, int] | None = None  # epoch and start of the last iteration
        if drop_last:
            self._total(0)

    @abstractmethod
    def _units(self, epoch: int) -> int:
        """The number of units in the epoch."""

    @abstractmethod
    def _plan(self, epoch: int) -> Callable[[np.ndarray], np.ndarray]:
        """Computes the epoch: a function from the units of a batch, int64, to its rows."""

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._begun:
            self.set_epoch(self.epoch + 1)
        self._run = self.epoch, self._start
        return self._batches(*self._run)

    def _batches(self, epoch: int, start: int) -> Iterator[np.ndarray]:
        # Nothing counts as begun before the first batch: DataLoader asks for an iterator more often than it uses one.
        total, ranks = self._total(epoch), self.world_size
        rows_of = self._plan(epoch)
        for number in range(self._steps(total - start, self.rank)):
            first = start + number * self._stride
            stop = min(first + self._stride, total)
            if not self.uneven:
                stop = first - (first - stop) // ranks * ranks  # up to whole ranks
            rows = rows_of(np.arange(first + self.rank, stop, ranks) % total)
            self._begun |= epoch == self.epoch
            yield rows
        if epoch == self.epoch:
            self.set_epoch(epoch + 1)

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch (of TokenOrder: in the present one)."""
        return self._steps(self._total(self.epoch), self.rank)

    def _total(self, epoch: int) -> int:
        units = self._units(epoch)
        if self.drop_last and units < self._stride:
            raise MerstoreError(
                f"drop_last leaves nothing: a step of {self.world_size} ranks takes {self._stride} "
                f"{self._unit}, and there are {units}; "
                "leave drop_last out, or take smaller batches or fewer ranks"
            )
        return units

    def _steps(self, units: int, rank: int) -> int:
        """How many batches of ``units`` units are the rank's."""
        whole, rest = divmod(units, self._stride)
        return whole + (not self.drop_last and rest > (rank if self.uneven else 0))

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is of ``epoch``: from its start, or, where a state of this epoch was loaded
        and not yet begun, from there.
        """
        epoch = _integer("epoch", epoch, 0)
        if self._begun or epoch != self.epoch:
            self.epoch, self._start, self._begun = epoch, 0, False

    def state_dict(self, batches: int) -> dict[str, Any]:
        """Where this rank is once ``batches`` batches of the last iteration were consumed: not those that were
        yielded, as who prefetches has taken more. After load_state_dict or before any iteration: 0.

        A few hundred bytes, JSON-able. It counts for all ranks, which have consumed as many; with
        ``uneven`` take rank 0's, which is never done before the others. After a rank's last batch it is
        the start of the next epoch.
        """
        epoch, start = self._run or (self.epoch, self._start)
        total = self._total(epoch)
        steps = self._steps(total - start, self.rank)
        taken = _integer("batches", batches, 0)
        if taken > steps:
            raise MerstoreError(
                f"{taken} batches consumed of an iteration of {steps}: count from its start"
            )
        position = start + taken * self._stride
        if taken == steps:
            epoch, position = epoch + 1, 0
        return {
            "version": _VERSION,
            "kind": type(self).__name__,
            "settings": dict(self._settings),
            "epoch": epoch,
            "position": position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration continues at ``state``. rank, world_size, drop_last, uneven and RowOrder's
        batch_size may be others than when it was made: what is left of the epoch is then dealt out anew.

        Raises MerstoreError, with nothing changed, for the state of another order, and says what differs.
        """
        try:
            version, kind, settings = state["version"], state["kind"], dict(state["settings"])
            epoch, position = state["epoch"], state["position"]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise MerstoreError(
                f"this is no state of a {type(self).__name__}, or a damaged one: {error!r}"
            ) from None
        theirs = {"version": version, "kind": kind} | settings
        ours = {"version": _VERSION, "kind": type(self).__name__} | self._settings
        # As text: what a damaged state holds may not be comparable.
        differ = [
            f"{name} is {theirs.get(name)!r} in the state and {ours.get(name)!r} here"
            for name in ours | theirs
            if repr(theirs.get(name)) != repr(ours.get(name))
        ]
        if differ:
            raise MerstoreError(
                f"the state is of another order: {'; '.join(differ[:4])}. Resume with what it was made "
                "with, or begin anew without it"
            )
        epoch = _integer("the state's epoch", epoch, 0)
        position = _integer("the state's position", position, 0)
        total = self._units(epoch)
        if position > total:
            raise MerstoreError(f"the state is damaged: position {position} in an epoch of {total}")
        if position and not self._steps(total - position, rank=0):
            epoch, position = epoch + 1, 0  # what is left is what drop_last drops
        self.epoch, self._start, self._begun, self._run = epoch, position, False, None

    def _bits(self, epoch: int) -> PCG64:
        return PCG64(SeedSequence(self.seed, spawn_key=(epoch,)))


class RowOrder(BatchOrder):
    """Batches of ``batch_size`` rows out of ``count``, the last one shorter.

    shuffle: False (by row number), True (a permutation), or ``"blocks"``, for reads from a cold disk: ``block``
    neighbouring rows stay together, blocks are shuffled, and rows are shuffled within each ``group`` of blocks.
    weights: float ``[count]``: rows are drawn with replacement in proportion to it, ``draws`` (by
    default count) an epoch, each as if it were a row of its own.

    Step k of the ranks takes the rows ``[k * B * world_size, (k + 1) * B * world_size)`` of the order, this rank
    each ``world_size``-th of them.
    """

    _unit = "rows"

    def __init__(
        self,
        count: int,
        batch_size: int,
        shuffle: bool | Literal["blocks"] = False,
        weights: Any = None,
        *,
        draws: int | None = None,
        block: int = 1024,
        group: int = 16,
        **share: Unpack[Share],
    ) -> None:
        self.count = _nonempty(count)
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.shuffle = _shuffle(shuffle, "blocks")
        settings: dict[str, Any] = {"count": self.count, "shuffle": self.shuffle}
        if shuffle == "blocks":
            self._block, self._group = _integer("block", block, 1), _integer("group", group, 1)
            settings |= {"block": self._block, "group": self._group}
        self._cumulated: np.ndarray | None = None
        self._draws = self.count
        if weights is not None:
            if shuffle == "blocks":
                raise MerstoreError('weights draw rows from everywhere: leave out shuffle="blocks"')
            weights = _weights(weights, self.count)
            self._cumulated = np.cumsum(weights / weights.max())  # the last is at least 1
            self._draws = self.count if draws is None else _integer("draws", draws, 1)
            settings |= {"weights": xxh3_64_hexdigest(weights.tobytes()), "draws": self._draws}
            del settings["shuffle"]
        elif draws is not None:
            raise MerstoreError("draws is for weights: give them, or leave draws out")
        super().__init__(settings, self.batch_size, **share)

    def _units(self, epoch: int) -> int:
        return self._draws

    def _plan(self, epoch: int) -> Callable[[np.ndarray], np.ndarray]:
        return self._order(self._bits(epoch)).take

    def _order(self, bits: PCG64) -> np.ndarray:
        if self._cumulated is not None:
            return _drawn(bits, self._cumulated, self._draws)
        if self.shuffle == "blocks":
            places = _shuffled(bits, -(-self.count // self._block))
            groups = np.empty_like(places)
            groups[places] = np.arange(len(places)) // self._group
            return _shuffled(bits, self.count, np.repeat(groups, self._block)[: self.count])
        return _shuffled(bits, self.count) if self.shuffle else np.arange(self.count)


# All rows of an epoch, and where in them each batch begins and ends.
_Cut = tuple[np.ndarray, np.ndarray, np.ndarray]


class _LengthOrder(BatchOrder):
    """Batches of rows of similar length. The units of an epoch are its batches, dealt out in turn."""

    _whole: int  # as many rows of the order are sorted and cut; those left over are the last batch
    _window: int  # rows that are sorted together

    def __init__(
        self, lengths: Any, shuffle: bool, settings: dict[str, Any], **share: Unpack[Share]
    ) -> None:
        self._lengths = lengths
        self.count = len(lengths)
        self.shuffle = _shuffle(shuffle)
        described = {"lengths": xxh3_64_hexdigest(lengths.tobytes()), "shuffle": self.shuffle}
        super().__init__({"count": self.count} | described | settings, **share)

    @abstractmethod
    def _starts(self, rows: np.ndarray) -> np.ndarray:
        """Where to cut sorted rows: int64, increasing from 0, at the end of every window too."""

    def _plan(self, epoch: int) -> Callable[[np.ndarray], np.ndarray]:
        rows, starts, ends = self._cut(epoch)
        return lambda units: rows[starts[units[0]] : ends[units[0]]].copy()

    def _cut(self, epoch: int) -> _Cut:
        bits = self._bits(epoch)
        rows = _shuffled(bits, self.count) if self.shuffle else np.arange(self.count)
        for at in range(0, self._whole, self._window):
            part = rows[at : min(at + self._window, self._whole)]
            part[:] = part[np.argsort(-self._lengths[part], kind="stable")]
        starts = self._starts(rows[: self._whole])
        ends = np.append(starts, self._whole)[1:]
        if self.shuffle:
            numbers = _shuffled(bits, len(starts))
            starts, ends = starts[numbers], ends[numbers]
        if self._whole < self.count:
            starts, ends = np.append(starts, self._whole), np.append(ends, self.count)
        return rows, starts, ends


class BucketOrder(_LengthOrder):
    """Batches of ``batch_size`` rows of similar length, so that little is padded.

    lengths: integers ``[n]``, by row, 0 where there is none. Rows are shuffled and sorted by length within
    windows of ``window`` batches, and the batches shuffled. What fills no batch is the last one of the epoch,
    of rows of any length; ``drop_last`` leaves it out. Batches are dealt out to the ranks in turn.
    """

    def __init__(
        self,
        lengths: Any,
        batch_size: int,
        shuffle: bool = True,
        *,
        window: int = 100,
        **share: Unpack[Share],
    ) -> None:
        lengths = _lengths(lengths)
        self.batch_size = _integer("batch_size", batch_size, 1)
        window = _integer("window", window, 1)
        self._window = window * self.batch_size
        self._whole = len(lengths) // self.batch_size * self.batch_size
        settings = {"batch_size": self.batch_size, "window": window}
        super().__init__(lengths, shuffle, settings, **share)

    def _units(self, epoch: int) -> int:
        rows = self._whole if self.drop_last else self.count
        return -(-rows // self.batch_size)

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        return np.arange(0, len(rows), self.batch_size)


class TokenOrder(_LengthOrder):
    """Batches of as many rows of similar length as fit: rows * longest <= ``max_tokens``.

    lengths: integers ``[n]``, by row; one without a length (0) counts as 1. max_batch: rows in a batch, at most.
    oversize: a row longer than max_tokens is an error, or, with ``"alone"``, a batch of its own.
    Rows are shuffled and sorted within windows of about ``window`` batches, cut from the longest on, and
    the batches shuffled; they are dealt out to the ranks in turn, and ``drop_last`` leaves out those that do not
    go round. How many there are differs a little between epochs; ``len()`` is of the present one.
    """

    def __init__(
        self,
        lengths: Any,
        max_tokens: int,
        max_batch: int | None = None,
        shuffle: bool = True,
        *,
        window: int = 100,
        oversize: Literal["raise", "alone"] = "raise",
        **share: Unpack[Share],
    ) -> None:
        lengths = _lengths(lengths)
        self.max_tokens = _integer("max_tokens", max_tokens, 1)
        self.max_batch = None if max_batch is None else _integer("max_batch", max_batch, 1)
        if oversize not in ("raise", "alone"):
            raise MerstoreError(f'oversize is "raise" or "alone", not {oversize!r}')
        over = np.flatnonzero(lengths > self.max_tokens)
        if len(over) and oversize == "raise":
            raise MerstoreError(
                f"row {over[0]} has length {lengths[over[0]]}, more than max_tokens={max_tokens}, as have "
                f'{len(over) - 1} others: raise max_tokens, leave them out, or give oversize="alone"'
            )
        window = _integer("window", window, 1)
        self._whole = len(lengths)
        counted = int(np.clip(lengths, 1, self.max_tokens).sum())
        usual = len(lengths) * self.max_tokens // counted  # rows of a batch
        self._window = window * min(usual, self.max_batch or usual)
        self._kept: tuple[int, _Cut] | None = None  # the last epoch cut, for len()
        settings = {"max_tokens": self.max_tokens, "max_batch": self.max_batch, "window": window}
        super().__init__(lengths, shuffle, settings, **share)

    def _units(self, epoch: int) -> int:
        return len(self._cut(epoch)[1])

    def _cut(self, epoch: int) -> _Cut:
        if self._kept is None or self._kept[0] != epoch:
            self._kept = None  # first let go of the other epoch
            self._kept = epoch, super()._cut(epoch)
        return self._kept[1]

    def _starts(self, rows: np.ndarray) -> np.ndarray:
        longest = np.maximum(self._lengths[rows], 1)  # of a batch that begins here
        sizes = np.clip(self.max_tokens // longest, 1, self.max_batch)
        starts = array("q")
        for at in range(0, len(rows), self._window):
            stop = min(at + self._window, len(rows))
            while at < stop:
                starts.append(at)
                at += sizes.item(at)
        return np.array(starts, np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}


# Orders are made from the generator's bits alone: NumPy keeps PCG64's the same for ever, but not what
# Generator.permutation and choice make of them.


def _shuffled(bits: PCG64, count: int, groups: np.ndarray | None = None) -> np.ndarray:
    """A permutation of ``count`` rows, int64; with groups, small integers ``[count]``, in the order of the groups."""
    # Sorts keys of group, random bits and row number: all are different, so that any sort gives the same.
    row_bits = np.uint64(2 ** count.bit_length() - 1)
    keys: np.ndarray = bits.random_raw(count)
    if groups is not None:
        width = int(groups.max() + 1).bit_length()
        keys >>= np.uint64(width)
        keys |= groups.astype(np.uint64) << np.uint64(64 - width)
    keys &= ~row_bits
    keys |= np.arange(count, dtype=np.uint64)
    keys.sort()
    keys &= row_bits
    return keys.view(np.int64)


def _drawn(bits: PCG64, cumulated: np.ndarray, draws: int) -> np.ndarray:
    """``draws`` rows, int64, with replacement, each as likely as its part of the cumulated weights."""
    # At most 1 - 2**-53, whose product with a float of 1 or more is always rounded to less than that float.
    at = (bits.random_raw(draws) >> np.uint64(11)) * 2.0**-53
    rows: np.ndarray = np.searchsorted(cumulated, at * cumulated[-1], side="right")
    return rows


def _integer(name: str, value: Any, least: int, bits: int = 62) -> int:
    try:
        number = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = -1
    if not least <= number < 2**bits:
        raise MerstoreError(f"{name} is an integer, {least} to 2**{bits} - 1, not {value!r}")
    return number


def _nonempty(count: Any) -> int:
    if _integer("count", count, 0) == 0:
        raise MerstoreError("an empty dataset has no batches: check its names and what they select")
    return index(count)


def _shuffle(value: Any, *more: str) -> bool | str:
    if value not in (choices := (True, False, *more)):
        raise MerstoreError(f"shuffle is {' or '.join(map(repr, choices))}, not {value!r}")
    return value if isinstance(value, str) else bool(value)


def _lengths(given: Any) -> np.ndarray:
    lengths = np.asarray(given)
    _nonempty(lengths.size)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise MerstoreError(
            f"lengths are integers [n], one by row, not {lengths.dtype} {list(lengths.shape)}"
        )
    lengths = lengths.astype(np.int64)
    if lengths.min() < 0:
        row = int(lengths.argmin())
        raise MerstoreError(f"row {row} has length {lengths[row]}: give 0 where there is none")
    return lengths


def _weights(given: Any, count: int) -> np.ndarray:
    weights = np.array(given, np.float64)
    if weights.shape != (count,):
        raise MerstoreError(
            f"weights of shape {list(weights.shape)} for {count} rows: give one each"
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise MerstoreError(
            f"row {bad[0]} has weight {weights[bad[0]]}: it must be finite and >= 0"
        )
    if not weights.any():
        raise MerstoreError("all weights are 0: nothing can be drawn")
    return weights
