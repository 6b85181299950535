"""The baselines of MERTools and MERBench: small fusion networks over features of three roles.

Every model is built from the widths of its inputs, takes a dictionary of tensors and returns
``(fused features [B, H], class logits [B, C], values [B, R], loss of its own)``. Modules have the
names, shapes and order of the released code's, so that the same seed makes the same weights.
Structures: MERTools' models as the project's notes on MERTools 4.1-4.4 describe them.
"""

from merstore.models.baselines.attention import Attention, AttentionTopn
from merstore.models.baselines.blocks import Baseline
from merstore.models.baselines.late_fusion import LfDnn
from merstore.models.baselines.misa import Misa
from merstore.models.baselines.mmim import Mmim
from merstore.models.baselines.tensor_fusion import Lmf, Tfn

MODELS: dict[str, type[Baseline]] = {
    "attention": Attention,
    "attention_topn": AttentionTopn,
    "lf_dnn": LfDnn,
    "lmf": Lmf,
    "tfn": Tfn,
    "misa": Misa,
    "mmim": Mmim,
}
"""By the names that MERTools gives them."""

__all__ = ["MODELS", "Baseline"]
