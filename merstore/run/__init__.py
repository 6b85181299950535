"""Training of baselines on views, and what came of it.

```python
from merstore.run import Options, train, load
problem = load(store, "mer2023", {"audio": "chinese-hubert-large-UTT", ...}, "attention")
run = train(problem, Options(model="attention", epochs=100), hypers)
```
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merstore.run.baseline import Options, Run, Trial, train
    from merstore.run.inputs import Problem, load
    from merstore.run.task import Task

__all__ = ["Options", "Problem", "Run", "Task", "Trial", "load", "train"]

_MODULES = {"Problem": "inputs", "load": "inputs", "Task": "task"}  # the others: baseline


def __getattr__(name: str) -> Any:
    """Imported when asked for: labels are extracted (`merstore.run.labels`) without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'baseline')}"), name)
