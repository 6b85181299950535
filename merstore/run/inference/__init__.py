"""Inference: answers of AffectGPT about whole datasets, with features from the store.

```python
from merstore.run.inference import Runner, read_template
from merstore.run.tasks import Task
runner = Runner(store, ["checkpoint_000030_loss_0.602.pth"], "Qwen2.5-7B-Instruct", read_template("full"))
(report,) = runner.run([Task("mer2023", names, subtitles)])
```
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merstore.run.inference.report import Progress, Report
    from merstore.run.inference.runner import Runner
    from merstore.run.inference.single import ask
    from merstore.run.inference.templates import Template, read_template

__all__ = ["Progress", "Report", "Runner", "Template", "ask", "read_template"]

_MODULES = {
    "Progress": "report",
    "Report": "report",
    "Runner": "runner",
    "Template": "templates",
    "ask": "single",
    "read_template": "templates",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for, so that the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
