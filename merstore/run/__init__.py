"""Training of baselines on views, and what came of it.

```python
from merstore.run import Options, train, load
problem = load(store, "mer2023", {"audio": "chinese-hubert-large-UTT", ...}, "attention")
run = train(problem, Options(model="attention", epochs=100), hypers)
```
"""

from merstore.run.baseline import Options, Run, Trial, train
from merstore.run.inputs import Problem, load
from merstore.run.task import Task

__all__ = ["Options", "Problem", "Run", "Task", "Trial", "load", "train"]
