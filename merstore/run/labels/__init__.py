"""From what a model says about a clip to labels: extraction, sentiment, merging with the subtitle.

```python
from merstore.run.labels import Rule, extract
found = extract(descriptions, Rule(tables))          # {"sample_00000000": "[happy, calm]", ...}
```
"""

from merstore.run.labels.backends import (
    GREEDY,
    PUBLISHED,
    Backend,
    Decoding,
    Endpoint,
    Refusal,
    Transformers,
    Vllm,
)
from merstore.run.labels.extraction import Extraction, extract
from merstore.run.labels.merging import merge
from merstore.run.labels.rules import Rule

__all__ = [
    "GREEDY",
    "PUBLISHED",
    "Backend",
    "Decoding",
    "Endpoint",
    "Extraction",
    "Refusal",
    "Rule",
    "Transformers",
    "Vllm",
    "extract",
    "merge",
]
