"""What an AffectGPT is made of: fusion types, query tokens, widths, what is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, cast

from merstore.errors import MerstoreError

Temporal = Literal["attention", "mean", "qformer"]
Multi = Literal["attention", "qformer"]
Image = Literal["mean", "token"]

TEMPORAL = ("attention", "mean", "qformer")
MULTI = ("attention", "qformer")
IMAGE = ("mean", "token")

VISUAL = {
    "CLIP_VIT_LARGE": 768, "EVA_CLIP_G": 768, "EVA_CLIP_G_NO_QFORMER": 1408,
    "DINO2_LARGE": 1024, "SigLIP_SO": 1152,
}  # fmt: skip
ACOUSTIC = {"HUBERT_LARGE": 1024, "WAVLM_LARGE": 1024, "DATA2VEC_BASE": 768, "IMAGEBIND": 1024}
"""AffectGPT's encoders and how wide their features are."""

FROZEN = (
    "frozen_video_proj", "frozen_video_Qformer", "frozen_audio_Qformer", "frozen_audio_proj",
    "frozen_multi_Qformer", "frozen_multi_llama_proj", "frozen_au_proj", "frozen_llm",
)  # fmt: skip
"""The flags that leave a part untrained, and out of checkpoints."""


@dataclass(frozen=True)
class Config:
    """An AffectGPT without its language model; the defaults are those of the released checkpoints.

    ``*_fusion``: how rows of features become query tokens; ``au_fusion`` None: no action unit
    modality. ``*_queries``: placeholders per modality. ``*_dim``: widths of the features.
    ``frozen``: of `FROZEN`. ``single_frame_bypass``: AffectGPT's own code leaves the attention
    weight out where a *stored* feature has one row, and not where the encoder gives it; here both
    are weighted, unless this is set: then neither is.

    Raises MerstoreError for a value that there is not.
    """

    video_fusion: Temporal = "attention"
    audio_fusion: Temporal = "attention"
    multi_fusion: Multi = "attention"
    image_fusion: Image = "mean"
    au_fusion: Temporal | None = None
    video_queries: int = 1
    audio_queries: int = 1
    multi_queries: int = 1
    image_queries: int = 1
    au_queries: int = 1
    visual_dim: int = 768
    acoustic_dim: int = 1024
    au_dim: int = 512
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    frozen: frozenset[str] = frozenset()
    single_frame_bypass: bool = False

    def __post_init__(self) -> None:
        known: dict[str, tuple[str | None, ...]] = {
            "video_fusion": TEMPORAL,
            "audio_fusion": TEMPORAL,
            "multi_fusion": MULTI,
            "image_fusion": IMAGE,
            "au_fusion": (*TEMPORAL, None),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in known and value not in known[field.name]:
                names = ", ".join(map(str, known[field.name]))
                raise MerstoreError(f"{field.name} is {value!r}; there are {names}")
            if field.name.endswith(("_queries", "_dim", "_rank")) and (
                not isinstance(value, int) or value < 1
            ):
                raise MerstoreError(f"{field.name} is {value!r}; it has to be a number from 1")
        if unknown := self.frozen - set(FROZEN):
            raise MerstoreError(
                f"{', '.join(sorted(unknown))}: no such flag; there are {', '.join(FROZEN)}"
            )

    @property
    def queries(self) -> dict[str, int]:
        """Placeholders by modality; face and frame have the video's."""
        return {
            "frame": self.video_queries,
            "face": self.video_queries,
            "audio": self.audio_queries,
            "multi": self.multi_queries,
            "image": self.image_queries,
            "au": self.au_queries,
        }

    @property
    def fused_dim(self) -> int:
        """The width in which audio and video are fused before the language model."""
        return max(self.visual_dim, self.acoustic_dim)

    @classmethod
    def from_yaml(cls, model: Mapping[str, Any], *, au: bool = False, **changes: Any) -> Self:
        """From the ``model`` section of AffectGPT's YAML, which a checkpoint carries too.

        Defaults are AffectGPT's own, not ours. `au`: whether there is an action unit modality,
        which the section does not say. `changes` are fields that are as given.

        Raises MerstoreError for values that there are not and for a number that is missing.
        """
        whole = model.get("skip_encoders", False)  # then the widths are fixed there
        read: dict[str, Any] = {
            "video_fusion": model.get("video_fusion_type", "qformer"),
            "audio_fusion": model.get("audio_fusion_type", "qformer"),
            "multi_fusion": model.get("multi_fusion_type", "attention"),
            "image_fusion": model.get("image_fusion_type", "token"),
            "au_fusion": model.get("au_fusion_type", "mean") if au else None,
            "video_queries": _number(model, "num_video_query_token"),
            "audio_queries": _number(model, "num_audio_query_token"),
            "multi_queries": _number(model, "num_multi_query_token"),
            "image_queries": _number(model, "num_image_query_token"),
            "au_queries": model.get("num_au_query_token", 8),
            "visual_dim": 768 if whole else _width(model, "visual_encoder", VISUAL),
            "acoustic_dim": 1024 if whole else _width(model, "acoustic_encoder", ACOUSTIC),
            "lora_rank": model.get("lora_r", 16),
            "frozen": frozenset(flag for flag in FROZEN if model.get(flag, False)),
        }
        return cls(**{**read, **changes})

    def to_yaml(self) -> dict[str, Any]:
        """The ``model`` section that `from_yaml` reads; widths by the encoders that have them."""
        return {
            "arch": "affectgpt",
            "visual_encoder": _named(self.visual_dim, VISUAL),
            "acoustic_encoder": _named(self.acoustic_dim, ACOUSTIC),
            "video_fusion_type": self.video_fusion,
            "audio_fusion_type": self.audio_fusion,
            "multi_fusion_type": self.multi_fusion,
            "image_fusion_type": self.image_fusion,
            **({"au_fusion_type": self.au_fusion} if self.au_fusion else {}),
            "num_video_query_token": self.video_queries,
            "num_audio_query_token": self.audio_queries,
            "num_multi_query_token": self.multi_queries,
            "num_image_query_token": self.image_queries,
            "num_au_query_token": self.au_queries,
            "lora_r": self.lora_rank,
            **{flag: flag in self.frozen for flag in FROZEN},
        }


def _number(model: Mapping[str, Any], key: str) -> int:
    if key not in model:
        raise MerstoreError(f"model.{key} is missing: the released configurations have 1")
    return cast(int, model[key])


def _width(model: Mapping[str, Any], key: str, widths: Mapping[str, int]) -> int:
    name = model.get(key, next(iter(widths)))
    if name not in widths:
        raise MerstoreError(f"model.{key} is {name!r}; there are {', '.join(widths)}")
    return widths[name]


def _named(width: int, widths: Mapping[str, int]) -> str:
    for name, known in widths.items():
        if known == width:
            return name
    raise MerstoreError(
        f"no encoder of AffectGPT gives features {width} wide, so that its YAML cannot say so; "
        "give the configuration to save"
    )
