"""From what a model says about a clip to labels: extraction, sentiment, merging with the subtitle.

```python
from merstore.run.labels import Rule, extract
found = extract(descriptions, Rule(tables))          # {"sample_00000000": "[happy, calm]", ...}
```
"""

from merstore.extract.reading import Refusal
from merstore.run.decoding import GREEDY, PUBLISHED, Decoding
from merstore.run.labels.backend import Backend
from merstore.run.labels.endpoint import Endpoint
from merstore.run.labels.extraction import Extraction, extract
from merstore.run.labels.local import Transformers, Vllm
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
