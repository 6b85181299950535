"""What all frozen encoders share: folders of models, passes that find their size, one copy of the weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from merstore.errors import EncoderError
from merstore.extract.demo_encoder import make_random_encoder
from merstore.extract.models import ModelFolder, Passes
from merstore.extract.vision import VisionEncoder

Forward = Callable[[slice], None]


def recorded(limit: int = 1 << 30) -> tuple[list[tuple[int, int]], Forward]:
    """A forward pass that notes its slices, and has no memory for more than `limit` items."""
    seen: list[tuple[int, int]] = []

    def forward(part: slice) -> None:
        if part.stop - part.start > limit:
            raise MemoryError
        seen.append((part.start, part.stop))

    return seen, forward


def test_passes_cover_everything_once_at_most_their_size_at_a_time() -> None:
    seen, forward = recorded()
    Passes(8).run(20, forward, "it")
    assert seen == [(0, 8), (8, 16), (16, 20)]


def test_items_that_cost_more_go_fewer_at_a_time_and_at_least_one() -> None:
    seen, forward = recorded()
    Passes(100).run(4, forward, "it", cost=40)
    assert seen == [(0, 2), (2, 4)]
    seen, forward = recorded()
    Passes(100).run(2, forward, "it", cost=1000)
    assert seen == [(0, 1), (1, 2)]


def test_out_of_memory_halves_them_for_good() -> None:
    seen, forward = recorded(limit=3)
    passes = Passes(16)
    passes.run(8, forward, "it")
    assert seen == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert passes.size == 2
    passes.run(4, forward, "it")
    assert seen[-2:] == [(0, 2), (2, 4)]


def test_what_does_not_fit_alone_is_said_to_be_so() -> None:
    _, forward = recorded(limit=0)
    with pytest.raises(EncoderError, match="tiny: not enough memory for one at a time"):
        Passes(4).run(2, forward, "tiny")


def test_torchs_own_out_of_memory_counts_and_other_errors_do_not() -> None:
    import torch

    sizes = []

    def tight(part: slice) -> None:
        sizes.append(part.stop - part.start)
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    Passes(4).run(2, tight, "it")
    assert sizes == [2, 1, 1]

    def broken(part: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore")

    with pytest.raises(
        EncoderError, match=r"it cannot encode: mat1 and mat2 shapes .* multiplied$"
    ):
        Passes(4).run(2, broken, "it")


def test_they_grow_as_long_as_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("merstore.extract.models.time.perf_counter", lambda: clock[0])

    def forward(part: slice) -> None:  # up to 32 items cost the same, then each costs a second
        clock[0] += max(32, part.stop - part.start)

    passes = Passes(8, grow=True)
    passes.run(1000, forward, "it")
    assert passes.size == 32
    passes.run(1000, forward, "it")
    assert passes.size == 32
    bounded = Passes(8, grow=True, most=16)
    bounded.run(1000, forward, "it")
    assert bounded.size == 16


def test_what_is_out_of_memory_while_growing_does_not_grow_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("merstore.extract.models.time.perf_counter", lambda: clock[0])

    def forward(part: slice) -> None:
        if part.stop - part.start > 20:
            raise MemoryError
        clock[0] += 1

    passes = Passes(8, grow=True)
    passes.run(500, forward, "it")
    assert passes.size == 16


def test_encoders_of_the_same_weights_share_the_loaded_model(tmp_path: Path) -> None:
    folder = make_random_encoder(tmp_path / "tiny")
    one, two = VisionEncoder(folder, "cpu"), VisionEncoder(folder, "cpu", "affectgpt")
    assert one.model is two.model
    other = VisionEncoder(make_random_encoder(tmp_path / "other", seed=1), "cpu")
    assert other.model is not one.model


def test_a_weight_file_that_changes_has_another_digest(tmp_path: Path) -> None:
    folder = make_random_encoder(tmp_path / "tiny")
    before = ModelFolder(folder).weights
    assert ModelFolder(folder).weights == before
    make_random_encoder(folder, seed=1)
    assert ModelFolder(folder).weights != before


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no such folder"):
        ModelFolder(tmp_path / "nowhere")
    with pytest.raises(EncoderError, match=r"config.json, model.safetensors missing"):
        ModelFolder(tmp_path)
    folder = make_random_encoder(tmp_path / "tiny")
    (folder / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"config.json cannot be read"):
        _ = ModelFolder(folder).config
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(EncoderError, match="holds no JSON object"):
        _ = ModelFolder(folder).config


def test_weights_in_several_files_are_found_and_all_needed(tmp_path: Path) -> None:
    folder = make_random_encoder(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(EncoderError, match=r"model-00002-of-00002\.safetensors missing"):
        ModelFolder(folder)
    (folder / parts["b"]).write_bytes(b"\x00")
    assert [path.name for path in ModelFolder(folder).weight_files] == sorted(parts.values())


def test_a_pickled_checkpoint_is_read_by_the_weights_only_loader(tmp_path: Path) -> None:
    import torch

    folder = make_random_encoder(tmp_path / "tiny", kind="dinov2")
    encoder = VisionEncoder(folder, "cpu")
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    (expected,) = encoder.encode([pixels])
    torch.save(encoder.model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (found,) = VisionEncoder(folder, "cpu").encode([pixels])
    np.testing.assert_array_equal(found, expected)
