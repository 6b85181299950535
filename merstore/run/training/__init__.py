"""Training of baselines on views, and what came of it.

```python
from merstore.models.baselines.blocks import ROLES
from merstore.run.training import Options, hyperparameters, load, results, train
from merstore.run.training.task import find_labels, task_of

task = task_of(find_labels(store, "MER2023"), "MER2023")
folders = ["chinese-hubert-large-UTT", "Baichuan-13B-Base-UTT", "clip-vit-large-patch14-UTT"]
problem = load(store, task, folders, ROLES)
hypers = hyperparameters.draw(hyperparameters.lists("attention", {}), trials=50, seed=0)
run = train(problem, Options("attention"), hypers)
path = results.save(store, run, arguments={})  # the store in mode "a"
```
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merstore.run.training.baseline import Options, Run, Trial, train
    from merstore.run.training.inputs import Problem, load
    from merstore.run.training.task import Task

__all__ = ["Options", "Problem", "Run", "Task", "Trial", "load", "train"]

_MODULES = {"Problem": "inputs", "load": "inputs", "Task": "task"}  # the others: baseline


def __getattr__(name: str) -> Any:
    """Imported when asked for: labels are extracted (`merstore.run.labels`) without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'baseline')}"), name)
