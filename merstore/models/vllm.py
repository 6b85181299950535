"""vLLM, which is an extra."""

from typing import Any

from merstore.errors import MerstoreError


def vllm() -> Any:
    """The package. Raises MerstoreError where it is missing."""
    try:
        import vllm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise MerstoreError(
            f"--backend vllm needs vLLM ({error}): pip install 'merstore[vllm]' on Linux with a CUDA "
            "GPU, or take --backend transformers"
        ) from None
    return vllm
