"""What all frozen encoders share: a model's folder, its weights, and how it is run."""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merstore.errors import EncoderError

if TYPE_CHECKING:
    import torch

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# One file, or the index of several. The second pair is read by torch's weights-only loader.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CODE = ("*.json", "*.txt", "*.model", "*.jinja")  # configs and tokenizers; never a program

_FORWARD = threading.Lock()  # held while torch's settings are ours
_LOADING = threading.RLock()
_loaded: "weakref.WeakValueDictionary[Any, Any]" = weakref.WeakValueDictionary()
_digests: dict[tuple[Any, ...], str] = {}  # of files that have not changed since


class ModelFolder:
    """A transformers model on this disk, or the hub's copy of one, which is downloaded if it must be.

    ``path``: the folder. ``name``: its last part, or the hub id's, as it may stand in a view's path.

    Raises EncoderError where there is no such folder or model, or `needed` files are not in it.
    """

    def __init__(self, model: str | Path, needed: Sequence[str] = ("config.json",)) -> None:
        self.path = _folder_of(model)
        self.name = _name_of(model)
        self.weight_files = self._find_weights()
        absent = [file for file in needed if not (self.path / file).is_file()]
        if not self.weight_files:
            absent.append(_WEIGHTS[0])
        if absent:
            raise EncoderError(f"{self.path}: not a whole model, {', '.join(absent)} missing")

    def json(self, file: str) -> dict[str, Any]:
        """A JSON file of the folder; {} if it is not there. Raises EncoderError."""
        path = self.path / file
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EncoderError(f"{path} cannot be read: {first_line(error)}") from error
        if not isinstance(value, dict):
            raise EncoderError(f"{path} holds no JSON object")
        return value

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says; defaults that it leaves out are not in it."""
        return self.json("config.json")

    @property
    def kind(self) -> str:
        """The config's model type: ``"clip"``, ``"hubert"``, ``"bert"``, …"""
        return str(self.config.get("model_type", ""))

    @cached_property
    def weights(self) -> str:
        """The SHA-256 of the weight file; of several, that of the list of theirs."""
        return self.digest(self.weight_files)

    def digest(self, files: Sequence[Path]) -> str:
        """The same for any files: ``"sha256:..."``."""
        digests = [_digest(path) for path in files]
        if len(digests) > 1:
            digests = [hashlib.sha256(" ".join(digests).encode()).hexdigest()]
        return f"sha256:{digests[0]}"

    def _find_weights(self) -> list[Path]:
        for name in _WEIGHTS:
            if (self.path / name).is_file():
                return [self.path / name]
            if (self.path / f"{name}.index.json").is_file():
                parts = self.json(f"{name}.index.json").get("weight_map", {})
                files = [self.path / part for part in sorted(set(parts.values()))]
                if gone := [path.name for path in files if not path.is_file()]:
                    raise EncoderError(f"{self.path}: {', '.join(gone)} missing of its weights")
                return files
        return []


class FrozenModel(ABC):
    """A model in eval mode whose weights are loaded at the first forward pass.

    ``device``: ``"auto"`` (CUDA where there is any), ``"cpu"``, ``"cuda:1"``, …
    ``compute``: the dtype of weights and computation. ``autocast``: a dtype that CUDA autocasts to,
    None for none. ``compiled``: through torch.compile, which changes the last bits.

    Safe to call from many threads, which take turns. Picklable: the loaded model stays behind and
    is loaded anew.
    """

    _left_behind = frozenset({"_lock", "model", "torch_device"})

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "auto",
        *,
        compute: str = "float32",
        autocast: str | None = None,
        compiled: bool = False,
    ) -> None:
        self.folder = folder
        self.device = device
        self.compute = compute
        self.autocast = autocast
        self.compiled = compiled
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.folder.name

    @abstractmethod
    def _load(self) -> Any:
        """The model, in whatever state `pretrained` leaves it."""

    @cached_property
    def model(self) -> Any:
        """The loaded model. Encoders of the same weights, run alike, share one as long as any lives."""
        key = (
            type(self),
            self.folder.path,
            self.folder.weights,
            self.torch_device,
            self.compute,
            self.compiled,
            self._loaded_part,
        )
        with _LOADING:
            model = _loaded.get(key)
            if model is None:
                model = _loaded[key] = self._ready()
        return model

    @property
    def _loaded_part(self) -> str:
        """Which part of the model `_load` gives, where there are several."""
        return ""

    def _ready(self) -> Any:
        import torch

        model = self._load()
        dtype = getattr(torch, self.compute)
        # One that was loaded so keeps its buffers: LLaMA's positions are float32 whatever it is.
        if any(weight.dtype != dtype for weight in model.parameters()):
            model = model.to(dtype)
        model = model.eval().requires_grad_(False).to(self.torch_device)
        return torch.compile(model) if self.compiled else model

    @cached_property
    def torch_device(self) -> "torch.device":
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    @property
    def on_cpu(self) -> bool:
        return self.torch_device.type == "cpu"

    def load(self) -> None:
        """Load the weights now, so that what is wrong with them is said before any work."""
        with self._lock:
            _ = self.model

    @contextlib.contextmanager
    def running(self) -> Iterator[Any]:
        """The model, with torch's settings as a frozen encoder needs them, for one forward pass."""
        import torch

        self.load()
        with _FORWARD, torch.inference_mode(), full_float32():
            if self.autocast and not self.on_cpu:
                with torch.autocast(self.torch_device.type, getattr(torch, self.autocast)):
                    yield self.model
            else:
                yield self.model

    def computation(self) -> dict[str, Any]:
        """What of the above decides about the values, for a spec."""
        told: dict[str, Any] = {"dtype": self.compute}
        if self.autocast:
            told["autocast"] = self.autocast
        if self.compiled:
            told["compiled"] = True
        return told

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key not in self._left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Passes:
    """How much goes through a model at once, in units of work (frames, samples of sound, tokens).

    `size` stays as it is unless it may `grow` (on a GPU): then it is doubled as long as that makes
    the model at least a twentieth faster, up to `most`. It is halved for good where memory does not
    suffice.
    """

    TRIES = 2  # full passes at a size before it is judged, by the faster one
    GAIN = 1.05

    def __init__(self, size: int, *, grow: bool = False, most: int = 1 << 30) -> None:
        self.size = size
        self.most = most
        self._growing = grow
        self._rates: list[float] = []
        self._best = (0.0, size)

    def run(self, count: int, forward: Callable[[slice], None], what: str, cost: int = 1) -> None:
        """Calls `forward` with slices that make up `count` items of `cost` units each; it must not
        return before the work is done.

        Raises EncoderError, in which `what` names the model, for anything that the model raises.
        """
        done = 0
        while done < count:
            items = max(1, min(count - done, self.size // cost))
            started = time.perf_counter()
            try:
                forward(slice(done, done + items))
            except (RuntimeError, ValueError, MemoryError, IndexError) as error:
                if not out_of_memory(error):
                    raise EncoderError(f"{what} cannot encode: {first_line(error)}") from error
                if items == 1:
                    raise EncoderError(f"{what}: not enough memory for one at a time") from error
                self.size = items // 2 * cost
                self._growing = False
                _free_cache()
                continue
            done += items
            if self._growing and items == max(1, self.size // cost):
                self._learn(items * cost / (time.perf_counter() - started))

    def _learn(self, rate: float) -> None:
        self._rates.append(rate)
        if len(self._rates) < self.TRIES:
            return
        rate, self._rates = max(self._rates), []
        best, size = self._best
        if rate < self.GAIN * best:
            self.size, self._growing = size, False
            return
        self._best = rate, self.size
        self._growing = 2 * self.size <= self.most
        self.size *= 2 if self._growing else 1


def pretrained(kind: Any, folder: ModelFolder, unused: Sequence[str] = (), **options: Any) -> Any:
    """A transformers class's `from_pretrained` on a folder, nothing of it left to chance: a weight
    that is not in the files (but for those of `unused`, regular expressions) is an EncoderError.
    """
    safe = folder.weight_files[0].suffix == ".safetensors"
    try:
        with quiet():
            model, info = kind.from_pretrained(
                folder.path, use_safetensors=safe, output_loading_info=True, **options
            )
    except Exception as error:  # whatever a damaged file makes transformers and safetensors raise
        reason = first_line(error)
        raise EncoderError(f"{folder.name}: its weights cannot be loaded: {reason}") from error
    patterns = [re.compile(pattern) for pattern in unused]
    missing = [
        key
        for key in sorted(info["missing_keys"])
        if not any(pattern.fullmatch(key) for pattern in patterns)
    ]
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise EncoderError(f"{folder.name}: {len(missing)} weights are not in its files: {shown}")
    return model


def _folder_of(model: str | Path) -> Path:
    """The local folder of a model: the one given, or the hub's copy, downloaded if it must be."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model):
        raise EncoderError(f"{model}: no such folder; name a model's folder or its hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        patterns = [*_CODE, "model*.safetensors"]
        folder = Path(snapshot_download(model, allow_patterns=patterns))
        if not any(folder.glob("*.safetensors")):
            patterns.append("pytorch_model*.bin")
            folder = Path(snapshot_download(model, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise EncoderError(
            f"{model}: neither a folder here nor a model that the hub gives: {first_line(error)}"
        ) from error
    return folder


def _digest(path: Path) -> str:
    """A file's SHA-256, computed once as long as it stays what it is."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
        if key not in _digests:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _name_of(model: str | Path) -> str:
    """The last part of a folder or hub id, as the encoder in a view's path."""
    last = Path(model).resolve().name if Path(model).is_dir() else str(model).split("/")[-1]
    return re.sub(r"[^\w.+-]", "-", last, flags=re.ASCII).lstrip("._+-") or "encoder"


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def out_of_memory(error: Exception) -> bool:
    import torch

    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


def _free_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TensorFloat-32: a fill in the middle of a training run gives what a prewarm gives."""
    import torch

    cudnn = torch.backends.cudnn
    precision = torch.get_float32_matmul_precision()
    with cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        benchmark_limit=cudnn.benchmark_limit,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    ):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and load reports of transformers: what matters in them is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
