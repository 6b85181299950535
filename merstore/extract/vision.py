"""Frozen vision encoders: frames in, one vector per frame out."""

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

# Preprocessing profiles and their versions. "affectgpt": frames squashed to 224x224, RGB, uint8, each
# through the model folder's own image processor; float32, eval mode, no autocast.
_PROFILES = {"affectgpt": 1}

# What a frame's vector is, by the config's model type, and the values of the config that it hangs on.
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

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_UNUSED_WEIGHTS = {"embeddings.mask_token"}  # DINOv2's, for training only
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

_Features = npt.NDArray[np.float32]
_Pixels = npt.NDArray[np.uint8]


class VisionEncoder:
    """A frozen transformers vision model, from a local folder or by its hub id.

    CLIP gives its projected image features, not L2-normalised; DINOv2 the mean of its last hidden
    state over CLS and patches: AffectGPT's features (`profile`: the only one there is). Weights are
    read from safetensors files, never from pickled ones, and are loaded at the first `encode`. A
    local folder is all that is touched when one is given.

    ``device``: ``"auto"`` (CUDA where there is any), ``"cpu"``, ``"cuda:1"``, …
    ``batch``: frames in one forward pass, by default 16 on a CPU (more are slower there) and 64 on
    a GPU; halved for good where memory does not suffice.

    Safe to call from many threads. Picklable: the loaded model stays behind and is loaded anew.

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
        name = Path(model).resolve().name if Path(model).is_dir() else str(model).split("/")[-1]
        self.name = re.sub(r"[^\w.+-]", "-", name, flags=re.ASCII).lstrip("._+-") or "encoder"
        self.device = device
        self.profile = profile
        self.batch = batch
        self._files = _weight_files(self.folder)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        left_behind = {"_lock", "_model", "_processor", "_device"}
        return {key: value for key, value in self.__dict__.items() if key not in left_behind}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __repr__(self) -> str:
        return f"<VisionEncoder {self.name}>"

    @property
    def dim(self) -> int:
        """Values per frame."""
        return int(self._config.projection_dim if self._kind == "clip" else self._config.hidden_size)

    def spec(self) -> dict[str, Any]:
        """What the features are, as JSON: two encoders that differ in it differ in what they give.

        Holds no path: a folder may be moved.
        """
        config = self._config.vision_config if self._kind == "clip" else self._config
        processor = self._processor.to_dict()
        return {
            "name": self.name,
            "architecture": self._kind,
            "shape": {key: getattr(config, key) for key in _SHAPE[self._kind]},
            "weights": self._digest,
            "output": _OUTPUTS[self._kind],
            "dim": self.dim,
            "compute_dtype": "float32",
            "profile": {"name": self.profile, "version": _PROFILES[self.profile]},
            "preprocessing": {key: _plain(processor.get(key)) for key in _PREPROCESSING},
        }

    def encode(self, pixels: _Pixels) -> _Features:
        """The features of frames: uint8 [N, H, W, 3] RGB to float32 [N, dim].

        A frame's vector hangs on the frames beside it only by rounding: on a CPU it is the same to
        the bit as long as frames come by fours (8 of each clip), otherwise within 1e-5.

        Raises EncoderError where the model cannot take them or memory does not suffice for one.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            got = f"{pixels.dtype} {list(pixels.shape)}"
            raise EncoderError(f"{self.name} takes uint8 [N, H, W, 3], not {got}")
        features = np.empty((len(pixels), self.dim), np.float32)
        done = 0
        while done < len(pixels):
            size = self.batch or (16 if self._device.type == "cpu" else 64)
            part = pixels[done : done + size]
            try:
                features[done : done + len(part)] = self._forward(part)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise EncoderError(f"{self.name} cannot encode these frames: {error}") from error
                if len(part) == 1:
                    raise EncoderError(f"{self.name}: not enough memory for one frame") from error
                self.batch = max(1, len(part) // 2)
            else:
                done += len(part)
        return features

    def _forward(self, pixels: _Pixels) -> _Features:
        import torch

        with torch.inference_mode(), _full_float32():
            inputs = self._processor(
                images=list(pixels), return_tensors="pt", input_data_format="channels_last"
            )
            output = self._model(pixel_values=inputs["pixel_values"].to(self._device))
            if self._kind == "clip":
                vectors = output.image_embeds
            else:
                vectors = output.last_hidden_state.mean(dim=1)
            features: _Features = vectors.cpu().numpy()
            return features

    @property
    def _kind(self) -> str:
        return str(self._config.model_type)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        with _quiet():
            config = AutoConfig.from_pretrained(self.folder)
        if config.model_type not in _OUTPUTS:
            raise EncoderError(
                f"{self.name} is a {config.model_type} model; supported are {', '.join(_OUTPUTS)}"
            )
        return config

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            with _quiet():
                return AutoImageProcessor.from_pretrained(self.folder, backend="pil")
        except (OSError, ValueError, ImportError) as error:
            raise EncoderError(f"{self.name}: no usable image processor: {error}") from error

    @cached_property
    def _digest(self) -> str:
        """The SHA-256 of the weight file; of several, that of the list of theirs."""
        digests = []
        for path in self._files:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        if len(digests) == 1:
            return f"sha256:{digests[0]}"
        return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"

    @cached_property
    def _device(self) -> "torch.device":
        import torch

        cuda = self.device == "auto" and torch.cuda.is_available()
        return torch.device("cuda" if cuda else "cpu" if self.device == "auto" else self.device)

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPVisionModelWithProjection, Dinov2Model

        options = {"use_safetensors": True, "attn_implementation": "sdpa"}
        config = self._config
        if self._kind == "clip":  # without the text half; its width stands beside the vision half
            config = config.vision_config
            config.projection_dim = self.dim
        kind = {"clip": CLIPVisionModelWithProjection, "dinov2": Dinov2Model}[self._kind]
        try:
            with _quiet():
                model, info = kind.from_pretrained(
                    self.folder, config=config, output_loading_info=True, **options
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise EncoderError(f"{self.name}: its weights cannot be loaded: {error}") from error
        if missing := sorted(set(info["missing_keys"]) - _UNUSED_WEIGHTS):
            shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
            raise EncoderError(f"{self.name}: {len(missing)} weights are not in its files: {shown}")
        return model.float().eval().requires_grad_(False).to(self._device)


def _folder_of(model: str | Path) -> Path:
    """The local folder of a model: the one given, or the hub's copy, downloaded where it is not."""
    if Path(model).is_dir():
        return Path(model).resolve()
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model):
        raise EncoderError(f"{model}: no such folder; name a model's folder or its hub id")
    from huggingface_hub import snapshot_download

    files = ["config.json", "preprocessor_config.json", "model*.safetensors", _INDEX]
    try:
        return Path(snapshot_download(model, allow_patterns=files))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise EncoderError(
            f"{model}: neither a folder here nor a model that the hub gives: {reason}"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model in `folder`, which must have its two configs too."""
    files = [folder / _WEIGHTS]
    if not files[0].is_file() and (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    needed = [folder / "config.json", folder / "preprocessor_config.json", *files]
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


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _full_float32() -> Iterator[None]:
    """No TensorFloat-32, so that a fill in the middle of a training run gives what a prewarm gives."""
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
def _quiet() -> Iterator[None]:
    """No progress bars and load reports from transformers: what matters in them is checked here."""
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
