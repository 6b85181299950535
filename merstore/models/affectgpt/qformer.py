"""The Q-Former: learned queries that look at rows of features, through two layers like BERT's.

Structure and names are those of BLIP-2's Q-Former (Li et al., 2023) as AffectGPT uses it: the
geometry of bert-base-uncased, cross-attention in every layer, no text branch.
"""

from torch import Tensor, arange, nn
from torch.nn import functional

HIDDEN = 768
_HEADS = 12
_INNER = 3072
_LAYERS = 2
_DROPOUT = 0.1
_EPSILON = 1e-12
_DEVIATION = 0.02  # of the weights at the start
_POSITIONS = 512  # of text, which is not there; checkpoints have their numbers all the same


class QFormer(nn.Module):
    """``queries [B, Q, 768], rows [B, T, width] -> [B, Q, 768]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bert = _Bert(width)
        self.apply(_start)

    def forward(self, queries: Tensor, rows: Tensor) -> Tensor:
        hidden: Tensor = self.bert(queries, rows)
        return hidden


class _Bert(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Layer(width) for _ in range(_LAYERS))

    def forward(self, queries: Tensor, rows: Tensor) -> Tensor:
        hidden: Tensor = self.embeddings(queries)
        for layer in self.encoder.get_submodule("layer").children():
            hidden = layer(hidden, rows)
        return hidden


class _Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(HIDDEN, eps=_EPSILON)
        self.dropout = nn.Dropout(_DROPOUT)
        self.register_buffer("position_ids", arange(_POSITIONS).unsqueeze(0))

    def forward(self, queries: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(self.LayerNorm(queries))
        return hidden


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = _Attention(HIDDEN)
        self.crossattention = _Attention(width)
        self.intermediate_query = nn.Module()
        self.intermediate_query.dense = nn.Linear(HIDDEN, _INNER)
        self.output_query = _Output(_INNER)

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        hidden = self.attention(hidden, hidden)
        hidden = self.crossattention(hidden, rows)
        inner = functional.gelu(self.intermediate_query.get_submodule("dense")(hidden))
        out: Tensor = self.output_query(inner, hidden)
        return out


class _Attention(nn.Module):
    """Attention of `hidden` to `rows`, added to `hidden`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        projections = nn.Module()
        projections.query = nn.Linear(HIDDEN, HIDDEN)
        projections.key = nn.Linear(width, HIDDEN)
        projections.value = nn.Linear(width, HIDDEN)
        self.add_module("self", projections)
        self.output = _Output(HIDDEN)

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        projections = self.get_submodule("self")
        query = _heads(projections.get_submodule("query")(hidden))
        key = _heads(projections.get_submodule("key")(rows))
        value = _heads(projections.get_submodule("value")(rows))
        dropout = _DROPOUT if self.training else 0.0
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.output(seen.transpose(1, 2).flatten(2), hidden)
        return out


class _Output(nn.Module):
    """A projection, added to what came in before and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, eps=_EPSILON)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + before)
        return out


def _heads(x: Tensor) -> Tensor:
    """``[B, N, 768] -> [B, 12, N, 64]``."""
    return x.reshape(*x.shape[:2], _HEADS, -1).transpose(1, 2)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_DEVIATION)
        nn.init.zeros_(module.bias)
