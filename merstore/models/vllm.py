"""vLLM, which is an extra."""

import os
from typing import Any

from merstore.errors import MerstoreError


def vllm() -> Any:
    """The package. Raises MerstoreError where it is missing."""
    # Its messages go to stdout otherwise, where answers and JSON are.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # A fork in the midst of our threads could take a lock along that nobody gives back.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    try:
        import vllm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MerstoreError(
            f"--backend vllm needs vLLM ({error}): pip install 'merstore[vllm]' on Linux with a CUDA "
            "GPU, or take --backend transformers"
        ) from None
    return vllm
