"""Frozen vision encoders: frames in, one vector per frame out."""

import copy
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError

if TYPE_CHECKING:
    import torch

# Preprocessing profiles and their versions. "affectgpt": RGB frames, uint8, each through the model
# folder's own image processor; float32, eval mode, no autocast.
_PROFILES = {"affectgpt": 1}

# What a frame's vector is, by the config's model type, and the values of the config behind it.
_OUTPUTS = {
    "clip": "projected image features, not normalised",
    "dinov2": "last hidden state, mean over CLS and patches",
}
_TOWER = ["hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"]
_TOWER += ["hidden_act", "layer_norm_eps"]
_SHAPE = {
    "clip": [*_TOWER, "intermediate_size"],
    "dinov2": [*_TOWER, "mlp_ratio", "qkv_bias", "use_swiglu_ffn"],
}
_PREPROCESSING = ["image_processor_type", "do_resize", "size", "resample"]
_PREPROCESSING += ["do_center_crop", "crop_size", "do_rescale", "rescale_factor"]
_PREPROCESSING += ["do_normalize", "image_mean", "image_std"]

_CONFIGS = ["config.json", "preprocessor_config.json"]
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_UNUSED_WEIGHTS = {"embeddings.mask_token"}  # DINOv2's, for training only
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

_CPU_BATCH, _GPU_BATCH = 16, 64  # frames

_FORWARD = threading.Lock()  # held while torch's settings are ours

Features = npt.NDArray[np.float32]


class VisionEncoder:
    """A frozen transformers vision model, from a local folder or by its hub id.

    CLIP gives its projected image features, not L2-normalised; DINOv2 the mean of its last hidden
    state over CLS and patches: AffectGPT's features (`profile`: the only one there is). Weights are
    read from safetensors files, never from pickled ones, and are loaded at the first `encode`.
    Where a local folder is given, nothing but that folder is touched.

    ``device``: ``"auto"`` (CUDA where there is any), ``"cpu"``, ``"cuda:1"``, …
    ``batch``: frames in one forward pass; by default 16 on a CPU, where more are slower, and 64 on
    a GPU. Halved for good where memory does not suffice.

    Safe to call from many threads, which take turns. Picklable: the loaded model stays behind and is
    loaded anew.

    Raises EncoderError for a folder or hub id without a usable model.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        profile: str = "affectgpt",
        batch: int | None = None,
    ) -> None:
        if profile not in _PROFILES:
            raise EncoderError(f"no profile {profile!r}; there is {', '.join(_PROFILES)}")
        self.folder = _folder_of(model)
        self.name = _name_of(model)
        self.device = device
        self.profile = profile
        self.batch = batch
        self._weight_files = _weight_files(self.folder)
        self._config = self._load_config()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, object]:
        left_behind = {"_lock", "_model", "_processor", "_device"}
        return {key: value for key, value in self.__dict__.items() if key not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        return f"<VisionEncoder {self.name}>"

    @property
    def dim(self) -> int:
        """Values per frame."""
        config = self._config
        return int(config.projection_dim if self._kind == "clip" else config.hidden_size)

    def spec(self) -> dict[str, Any]:
        """What the features are, as JSON: two encoders that differ in it differ in what they give.

        Holds no path: a folder may be moved.
        """
        config = self._config.vision_config if self._kind == "clip" else self._config
        with self._lock:
            processor = self._processor.to_dict()
            weights = self._digest
        return {
            "name": self.name,
            "architecture": self._kind,
            "shape": {key: getattr(config, key) for key in _SHAPE[self._kind]},
            "weights": weights,
            "output": _OUTPUTS[self._kind],
            "dim": self.dim,
            "compute_dtype": "float32",
            "profile": {"name": self.profile, "version": _PROFILES[self.profile]},
            "preprocessing": {key: _plain(processor.get(key)) for key in _PREPROCESSING},
        }

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Features:
        """The features of frames: uint8 [N, H, W, 3] RGB to float32 [N, dim].

        The frames beside it touch a frame's vector only by rounding: on a CPU it is the same to the
        bit as long as frames come by fours (8 of each clip), otherwise within 1e-5.

        Raises EncoderError where the model cannot take them or memory does not suffice for one.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            got = f"{pixels.dtype} {list(pixels.shape)}"
            raise EncoderError(f"{self.name} takes uint8 [N, H, W, 3], not {got}")
        features = np.empty((len(pixels), self.dim), np.float32)
        done = 0
        while done < len(pixels):
            size = self.batch or (_CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH)
            part = pixels[done : done + size]
            try:
                features[done : done + len(part)] = self._forward(part)
            except (RuntimeError, ValueError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise EncoderError(f"{self.name} cannot encode: {error}") from error
                if len(part) == 1:
                    raise EncoderError(f"{self.name}: not enough memory for one frame") from error
                self.batch = len(part) // 2
            else:
                done += len(part)
        return features

    def _forward(self, pixels: npt.NDArray[np.uint8]) -> Features:
        import torch

        with self._lock:
            processor, model = self._processor, self._model
        images = processor(images=list(pixels), input_data_format="channels_last")["pixel_values"]
        inputs = torch.from_numpy(np.stack(images))
        with _FORWARD, torch.inference_mode(), _full_float32():
            output = model(pixel_values=inputs.to(self._device))
            if self._kind == "clip":
                vectors = output.image_embeds
            else:
                vectors = output.last_hidden_state.mean(dim=1)
            features: Features = vectors.cpu().numpy()
        return features

    @property
    def _kind(self) -> str:
        return str(self._config.model_type)

    @cached_property
    def _device(self) -> "torch.device":
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    @cached_property
    def _digest(self) -> str:
        """The SHA-256 of the weight file; of several, that of the list of theirs."""
        digests = []
        for path in self._weight_files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        if len(digests) > 1:
            digests = [hashlib.sha256(" ".join(digests).encode()).hexdigest()]
        return f"sha256:{digests[0]}"

    def _load_config(self) -> Any:
        from transformers import AutoConfig

        try:
            with quiet():
                config = AutoConfig.from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            reason = _first_line(error)
            raise EncoderError(f"{self.name}: its config.json cannot be read: {reason}") from error
        if config.model_type not in _OUTPUTS:
            supported = ", ".join(_OUTPUTS)
            raise EncoderError(
                f"{self.name} is a {config.model_type} model; supported are {supported}"
            )
        return config

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            with quiet():
                return AutoImageProcessor.from_pretrained(self.folder, backend="pil")
        except (OSError, ValueError, ImportError) as error:
            reason = _first_line(error)
            raise EncoderError(f"{self.name}: no usable image processor: {reason}") from error

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPVisionModelWithProjection, Dinov2Model

        config = self._config
        if self._kind == "clip":  # without its text half; the output's width stands beside both
            config = copy.deepcopy(config.vision_config)
            config.projection_dim = self.dim
        kind = {"clip": CLIPVisionModelWithProjection, "dinov2": Dinov2Model}[self._kind]
        try:
            with quiet():
                model, info = kind.from_pretrained(
                    self.folder,
                    config=config,
                    use_safetensors=True,
                    attn_implementation="sdpa",
                    output_loading_info=True,
                )
        except (
            Exception
        ) as error:  # whatever a damaged file makes transformers and safetensors raise
            reason = _first_line(error)
            raise EncoderError(f"{self.name}: its weights cannot be loaded: {reason}") from error
        if missing := sorted(set(info["missing_keys"]) - _UNUSED_WEIGHTS):
            shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
            raise EncoderError(f"{self.name}: {len(missing)} weights are not in its files: {shown}")
        return model.float().eval().requires_grad_(False).to(self._device)


def _folder_of(model: str | Path) -> Path:
    """The local folder of a model: the one given, or the hub's copy, downloaded if it must be."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model):
        raise EncoderError(f"{model}: no such folder; name a model's folder or its hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, allow_patterns=[*_CONFIGS, _INDEX, "model*.safetensors"])
        )
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{model}: neither a folder here nor a model that the hub gives: {_first_line(error)}"
        ) from error


def _name_of(model: str | Path) -> str:
    """The last part of a folder or hub id, as the encoder in a view's path."""
    last = Path(model).resolve().name if Path(model).is_dir() else str(model).split("/")[-1]
    return re.sub(r"[^\w.+-]", "-", last, flags=re.ASCII).lstrip("._+-") or "encoder"


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model in `folder`, which must have its two configs too."""
    files = [folder / _WEIGHTS]
    if not files[0].is_file() and (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    needed = [*(folder / name for name in _CONFIGS), *files]
    if absent := [path.name for path in needed if not path.is_file()]:
        pickled = " (pytorch_model.bin is not read: save the model as safetensors)"
        hint = pickled if (folder / "pytorch_model.bin").is_file() else ""
        raise EncoderError(f"{folder}: not a whole model, {', '.join(absent)} missing{hint}")
    return files


def _plain(value: Any) -> Any:
    """A config's value as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _out_of_memory(error: Exception) -> bool:
    import torch

    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


@contextmanager
def _full_float32() -> Iterator[None]:
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


@contextmanager
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
