"""Training of AffectGPT's adapters and projections on features in a store; no encoder takes part.

```python
from merstore.models.affectgpt import AffectGPT, Tokens, load_llm
from merstore.run.tuning_llm import Material, Options, corpus_of, train
model = AffectGPT(load_llm("Qwen2.5-7B-Instruct"))
tokens = Tokens.from_folder("Qwen2.5-7B-Instruct", model.config.queries)
views = {"face": "face@CLIP_VIT_LARGE/8frms", "audio": "audio@HUBERT_LARGE/8clips"}
corpora = [corpus_of(store, "mercaptionplus")]
material = Material(store, corpora, tokens, "multiface_audio_face_text", views)
train(model, material, "output/mine", Options())
```
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merstore.run.tuning_llm.corpora import Corpus, corpus_of
    from merstore.run.tuning_llm.material import Batch, Material
    from merstore.run.tuning_llm.training import Options, Run, train

__all__ = ["Batch", "Corpus", "Material", "Options", "Run", "corpus_of", "train"]

_MODULES = {
    "Batch": "material",
    "Corpus": "corpora",
    "Material": "material",
    "corpus_of": "corpora",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for, so that the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'training')}"), name)
