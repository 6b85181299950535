"""Frozen vision encoders: pictures in, vectors out."""

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import EncoderError
from merstore.extract.models import FrozenModel, ModelFolder, Passes, first_line, pretrained, quiet
from merstore.extract.pictures import Pixels, Preprocessing, normalise

if TYPE_CHECKING:
    import torch

Features = npt.NDArray[np.float32]

# Profiles and their versions: to be raised with any change that alters a profile's values.
PROFILES = {"clean": 1, "affectgpt": 1, "mertools": 1}

PROJECTED = "projected, not normalised"
HEAD = "pooled by the model's head"
ALL_MEAN, ALL_SUM = "mean over all", "sum over all"
PATCH_MEAN = "mean over patches"
CLS = "cls"

_TOKENS = (ALL_MEAN, ALL_SUM, PATCH_MEAN, CLS)

_TOWER = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu",
}
_WIDE = _TOWER | {"intermediate_size": 3072}


class Family(NamedTuple):
    """What is known of a model type: the values of its config that shape its output, with
    transformers' defaults, what can be made of its tokens, and what each profile makes of them.
    """

    shape: dict[str, Any]
    tokens: tuple[str, ...]
    choice: dict[str, str]
    nested: bool = False  # whether those values stand in the config's vision_config


# Why `clean` chooses what it does: CLIP and SigLIP were trained so that this one vector stands for
# the picture. The others have none: the mean over patches keeps what the face does in its parts,
# does not grow with the picture, and leaves out CLS, whose size differs from the patches'.
FAMILIES = {
    "clip": Family(
        _WIDE | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        (PROJECTED,),
        dict.fromkeys(PROFILES, PROJECTED),
        nested=True,
    ),
    "siglip": Family(
        _WIDE
        | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": True},
        (HEAD, ALL_MEAN),
        {"clean": HEAD, "affectgpt": ALL_MEAN},
        nested=True,
    ),
    "dinov2": Family(
        _TOWER
        | {
            "patch_size": 14,
            "layer_norm_eps": 1e-6,
            "mlp_ratio": 4,
            "qkv_bias": True,
            "use_swiglu_ffn": False,
        },
        _TOKENS,
        {"clean": PATCH_MEAN, "affectgpt": ALL_MEAN, "mertools": ALL_SUM},
    ),
    "data2vec-vision": Family(
        _WIDE
        | {
            "layer_norm_eps": 1e-12,
            "use_absolute_position_embeddings": False,
            "use_relative_position_bias": False,
            "use_shared_relative_position_bias": False,
            "use_mean_pooling": True,
        },
        _TOKENS,
        {"clean": PATCH_MEAN, "mertools": ALL_SUM},
    ),
    "videomae": Family(
        _WIDE
        | {
            "layer_norm_eps": 1e-12,
            "num_frames": 16,
            "tubelet_size": 2,
            "qv_bias": True,
            "use_mean_pooling": True,
        },
        (PATCH_MEAN,),
        {"clean": PATCH_MEAN, "mertools": PATCH_MEAN},
    ),
}

_UNUSED_WEIGHTS = (r"embeddings\.mask_token",)  # for training only
_CPU_PASS, _GPU_PASS, _LARGEST_PASS = 8, 64, 1024  # frames


class VisionEncoder(FrozenModel):
    """A frozen transformers vision model, from a local folder or by its hub id.

    ``profile``: ``"affectgpt"`` and ``"mertools"`` make of the model's last hidden state what those
    code bases do; ``"clean"`` is for who need not reproduce either. ``tokens`` overrides it, with
    one of the family's (`FAMILIES`). ``name``: as it is called in a view's path; by default after
    the folder. ``batch``: frames in one forward pass; by default 8 on a CPU, where more are no
    faster, and on a GPU as many as make it faster.

    VideoMAE sees 16 frames at a time (``window``) and gives 8 vectors, one for two frames
    (``rows_per_window``), the mean over their patches; the others see one frame and give one.

    Otherwise as `FrozenModel`. Raises EncoderError for a folder or hub id without a usable model.
    """

    _left_behind = FrozenModel._left_behind | {"passes", "_table"}

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        profile: str = "clean",
        *,
        tokens: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__(ModelFolder(model), device, compiled=compiled)
        if profile not in PROFILES:
            raise EncoderError(f"no profile {profile!r}; there is {', '.join(PROFILES)}")
        self.profile = profile
        self.batch = batch
        self._name = name or self.folder.name
        self.family = self._known_family()
        self.tokens = self._known_tokens(tokens)
        self.preprocessing = Preprocessing.of(self.folder)

    @property
    def name(self) -> str:
        return self._name

    @property
    def kind(self) -> str:
        """The model type."""
        return self.folder.kind

    @property
    def dim(self) -> int:
        """Values per vector."""
        if self.tokens == PROJECTED:
            return int(self.folder.config.get("projection_dim") or 512)
        return int(self._shape["hidden_size"])

    @property
    def window(self) -> int:
        """Frames that the model sees at a time."""
        return int(self._shape.get("num_frames", 1))

    @property
    def rows_per_window(self) -> int:
        """Vectors that it makes of them."""
        return self.window // int(self._shape.get("tubelet_size", 1))

    def spec(self) -> dict[str, Any]:
        """What the features are, as JSON: two encoders that differ in it differ in what they give.

        Holds no path: a folder may be moved.
        """
        return {
            "name": self.name,
            "architecture": self.kind,
            "shape": self._shape,
            "weights": self.folder.weights,
            "tokens": self.tokens,
            "dim": self.dim,
            "compute": self.computation(),
            "profile": {"name": self.profile, "version": PROFILES[self.profile]},
            "preprocessing": self.preprocessing.settings,
        }

    def prepare(self, pictures: Pixels) -> Pixels:
        """Pictures as `encode` takes them: uint8 [n, H, W, 3] RGB to uint8 [n, h, w, 3].

        Needs no model: it is for the processes that read. Raises EncoderError.
        """
        self._check(pictures)
        return self.preprocessing.prepare(pictures)

    def encode(self, clips: Sequence[Pixels]) -> list[Features]:
        """The features of clips that were prepared, each uint8 [n, h, w, 3] to float32 [rows, dim],
        where rows is n (VideoMAE: n / 2; n is a multiple of 16).

        A clip's bits on a CPU do not depend on the clips beside it: there, no pass holds frames of
        two. On a GPU they share passes, and change each other's by rounding.

        Raises EncoderError where the model cannot take them or memory does not suffice.
        """
        for clip in clips:
            self._check(clip)
        with self._lock:
            if not clips:
                return []
            if self.on_cpu:
                return [self._together([clip])[0] for clip in clips]
            return self._by_size(clips)

    def _check(self, pictures: Pixels) -> None:
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            got = f"{pictures.dtype} {list(pictures.shape)}"
            raise EncoderError(f"{self.name} takes uint8 [N, H, W, 3], not {got}")

    def _by_size(self, clips: Sequence[Pixels]) -> list[Features]:
        """Pictures of one size go through the model together."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, clip in enumerate(clips):
            sizes.setdefault(clip.shape[1:], []).append(place)
        features: dict[int, Features] = {}
        for places in sizes.values():
            features.update(
                zip(places, self._together([clips[place] for place in places]), strict=True)
            )
        return [features[place] for place in range(len(clips))]

    def _together(self, clips: Sequence[Pixels]) -> list[Features]:
        if any(len(clip) % self.window for clip in clips):
            raise EncoderError(f"{self.name} takes {self.window} frames at a time")
        frames = [frame for clip in clips for frame in clip]
        windows = len(frames) // self.window
        features = np.empty((windows, self.rows_per_window, self.dim), np.float32)

        def forward(part: slice) -> None:
            chosen = frames[part.start * self.window : part.stop * self.window]
            features[part] = self._forward(chosen)

        self.passes.run(windows, forward, self.name, cost=self.window)
        rows = features.reshape(-1, self.dim)
        ends = np.cumsum([len(clip) // self.window * self.rows_per_window for clip in clips])
        return [part.copy() for part in np.split(rows, ends[:-1])]

    @cached_property
    def passes(self) -> Passes:
        """How many frames go through the model at once."""
        size = self.batch or (_CPU_PASS if self.on_cpu else _GPU_PASS)
        grow = self.batch is None and not self.on_cpu
        return Passes(max(size, self.window), grow=grow, most=_LARGEST_PASS)

    def _forward(self, frames: Sequence[Pixels]) -> Features:
        """float32 [windows, rows, dim]."""
        import torch

        cuda = self.torch_device.type == "cuda"
        shape = (len(frames), *frames[0].shape)
        staged = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
        np.stack(frames, out=staged.numpy())
        with self.running() as model:
            pictures = staged.to(self.torch_device, non_blocking=cuda)
            inputs = normalise(pictures, self._table)
            if self.window > 1:
                inputs = inputs.view(-1, self.window, *inputs.shape[1:])
            vectors = self._pooled(model(pixel_values=inputs))
            features: Features = vectors.view(-1, self.rows_per_window, self.dim).cpu().numpy()
        return features

    def _pooled(self, output: Any) -> "torch.Tensor":
        vectors: torch.Tensor
        if self.tokens == PROJECTED:
            vectors = output.image_embeds
        elif self.tokens == HEAD:
            vectors = output.pooler_output
        else:
            vectors = self._of_tokens(output.last_hidden_state)
        return vectors

    def _of_tokens(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """[windows, tokens, dim] to [windows * rows_per_window, dim]."""
        if self.window > 1:  # the patches of one tubelet after those of another
            return hidden.view(-1, hidden.shape[1] // self.rows_per_window, self.dim).mean(dim=1)
        if self.tokens == CLS:
            return hidden[:, 0]
        if self.tokens == PATCH_MEAN:
            return hidden[:, 1:].mean(dim=1)
        return hidden.sum(dim=1) if self.tokens == ALL_SUM else hidden.mean(dim=1)

    @cached_property
    def _table(self) -> "torch.Tensor":
        import torch

        return torch.from_numpy(self.preprocessing.table).to(self.torch_device)

    @cached_property
    def _shape(self) -> dict[str, Any]:
        config = self.folder.config
        if self.family.nested:  # the second is how older files have it
            config = {**(config.get("vision_config") or {}), **config.get("vision_config_dict", {})}
        if self.kind == "videomae" and "qkv_bias" in config:  # its older name
            config = {**config, "qv_bias": config["qkv_bias"]}
        return {key: config.get(key, default) for key, default in self.family.shape.items()}

    def _known_family(self) -> Family:
        if self.kind not in FAMILIES:
            supported = ", ".join(FAMILIES)
            raise EncoderError(f"{self.name} is a {self.kind} model; supported are {supported}")
        return FAMILIES[self.kind]

    def _known_tokens(self, tokens: str | None) -> str:
        chosen = tokens or self.family.choice.get(self.profile)
        if chosen is None:
            others = ", ".join(self.family.choice)
            raise EncoderError(
                f"{self.name}: {self.profile} has no {self.kind} model; take the profile {others}"
            )
        if chosen not in self.family.tokens:
            there = ", ".join(self.family.tokens)
            raise EncoderError(
                f"{self.name}: no tokens {chosen!r} of {self.kind}; there is {there}"
            )
        return chosen

    def _load(self) -> Any:
        import transformers

        try:
            with quiet():
                config = transformers.AutoConfig.from_pretrained(self.folder.path)
        except Exception as error:  # whatever transformers makes of an impossible value
            reason = first_line(error)
            raise EncoderError(f"{self.name}: its config.json cannot be read: {reason}") from error
        if self.family.nested:  # without the text half; the output's width stands beside both
            width = self.dim
            config = copy.deepcopy(config.vision_config)
            config.projection_dim = width
        kind = {
            "clip": "CLIPVisionModelWithProjection",
            "siglip": "SiglipVisionModel",
            "dinov2": "Dinov2Model",
            "data2vec-vision": "Data2VecVisionModel",
            "videomae": "VideoMAEModel",
        }[self.kind]
        return pretrained(
            getattr(transformers, kind),
            self.folder,
            _UNUSED_WEIGHTS,
            config=config,
            attn_implementation="sdpa",
        )
