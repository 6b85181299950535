"""AffectGPT: features in, an answer out, with the released checkpoints.

```python
from merstore.models.affectgpt import Generator, Request, Tokens, open_model
model, report = open_model("checkpoint_000030_loss_0.602.pth", "path/to/Qwen2.5-7B-Instruct")
tokens = Tokens.from_folder("path/to/Qwen2.5-7B-Instruct", model.config.queries)
Generator(model, tokens).answers([Request(prompt, {"face": face, "audio": audio}, multi="face")])
```

A feature is ``[T, D]``, float of any size, stored or just computed: it is all one here. Encoders are
not part of the model.
"""

from merstore.models.affectgpt.checkpoint import (
    Checkpoint,
    Report,
    config_of,
    file_name,
    load,
    open_model,
    read,
    save,
)
from merstore.models.affectgpt.config import Config
from merstore.models.affectgpt.fusion import MODALITIES, Fusion
from merstore.models.affectgpt.generation import Answer, Generator, Request, Settings
from merstore.models.affectgpt.model import DEFAULT_LLM, AffectGPT, load_llm
from merstore.models.affectgpt.tokens import Encoded, Tokens

__all__ = [
    "DEFAULT_LLM",
    "MODALITIES",
    "AffectGPT",
    "Answer",
    "Checkpoint",
    "Config",
    "Encoded",
    "Fusion",
    "Generator",
    "Report",
    "Request",
    "Settings",
    "Tokens",
    "config_of",
    "file_name",
    "load",
    "load_llm",
    "open_model",
    "read",
    "save",
]
