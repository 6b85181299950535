"""What inference costs beside the language model: fetching stored features, and the runner's own work."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import merstore
from merstore.run.inference.sources import Sources
from merstore.run.inference.templates import Wanted

from .figures import Figure, milliseconds, ratio
from .measure import interleave

PART = "Inference: the features of a sample, face [8, 768] and sound [8, 1024]"
SAMPLES = 4_000
WINDOW = 64  # samples whose features are fetched together: four batches of 16
MICROSECONDS = 20  # for a sample
ROUNDS = 11
VIEWS = {"face": ("face@CLIP_VIT_LARGE/8frms", 768), "audio": ("audio@HUBERT_LARGE/8clips", 1024)}

STEP_SAMPLES, STEP_TOKENS, STEP_BATCH = 64, 24, 16
STEP_ROUNDS = 3
SHARE, BATCHED = 0.01, 1.5


def run(folder: Path) -> Iterator[Figure]:
    yield from _fetching(folder)
    yield from _running(folder)


def _fetching(folder: Path) -> Iterator[Figure]:
    names = [f"sample_{number:08d}" for number in range(SAMPLES)]
    work = folder / "inference"
    nbytes = _write(work, names)
    order = np.random.default_rng(1).permutation(names).tolist()
    wanted = {modality: Wanted(view, "store") for modality, (view, _) in VIEWS.items()}
    trees = [work / modality for modality in VIEWS]

    with merstore.open(work / "s.mer") as store:
        sources = Sources(store, lambda: store, "toy", wanted, _none, None)

        def ours(_: int) -> Iterator[None]:
            yield
            for begin in range(0, SAMPLES, WINDOW):
                found = sources.fetch(order[begin : begin + WINDOW])
            yield
            assert len(found.features[order[begin]]) == len(VIEWS)

        def theirs(_: int) -> Iterator[None]:
            yield
            for name in order:
                found = [np.load(tree / f"{name}.npy") for tree in trees]
            yield
            assert len(found) == len(VIEWS)

        seconds = interleave({"ours": ours, "theirs": theirs}, ROUNDS)
    what = f"fetching {SAMPLES:,} samples in windows of {WINDOW}, page cache warm"
    yield ratio(
        PART, what, "np.load of the same", seconds["ours"], seconds["theirs"], nbytes, bar=10
    )
    each = [value / SAMPLES * 1_000 for value in seconds["ours"]]  # of 1,000 samples
    yield milliseconds(PART, "the same, 1,000 samples (20 µs a sample)", each, bar=MICROSECONDS)
    shutil.rmtree(work)


def _running(folder: Path) -> Iterator[Figure]:
    """A small model on the CPU: the share of the time in which it waits for features, of which a large
    one has less, and what batches are worth.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from merstore.extract.models import quiet
    from merstore.models.affectgpt import AffectGPT, Config, Settings, save
    from merstore.run.inference import Report, Runner, read_template
    from merstore.run.tasks import Task

    work = Path(tempfile.mkdtemp(dir=folder))
    names = [f"sample_{number:08d}" for number in range(STEP_SAMPLES)]
    _write(work, names)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(work / "llm")
    torch.manual_seed(0)
    llm = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **sizes, **heads))
    with quiet():
        llm.save_pretrained(work / "llm")
    checkpoint = save(work / "checkpoint_000001_loss_1.000.pth", AffectGPT(llm, Config()), epoch=1)
    settings = Settings(max_new_tokens=STEP_TOKENS, max_length=1000)
    task = Task("toy", names, dict.fromkeys(names, "So."))

    def answered(batch: int) -> Report:
        with merstore.open(work / "s.mer", "a") as store:
            runner = Runner(
                store, [checkpoint], work / "llm", read_template("full"),
                mode="multiface_audio_face_text", settings=settings, batch=batch, device="cpu",
            )  # fmt: skip
            (report,) = runner.run([task])
            assert report.answered == STEP_SAMPLES
            store.drop_view(report.view)
            return report

    answered(STEP_BATCH)  # what is only done once is done
    pairs = [(answered(1), answered(STEP_BATCH)) for _ in range(STEP_ROUNDS)]
    model = "a tiny model on the CPU"
    shares = [each.waiting / (each.waiting + each.generating) for _, each in pairs]
    low, value, high = (float(each) for each in np.percentile(shares, (25, 50, 75)))
    yield Figure(
        PART, f"waiting for features, of the time of a run: {model}, batches of {STEP_BATCH}",
        value, "x", "", SHARE, True, low, high, len(shares),
    )  # fmt: skip
    ratios = [one.generating / many.generating for one, many in pairs]
    low, value, high = (float(each) for each in np.percentile(ratios, (25, 50, 75)))
    rates = [
        f"{STEP_SAMPLES / np.median([each.generating for each in side]):.1f} answers/s"
        for side in zip(*pairs, strict=True)
    ]
    yield Figure(
        PART, f"answers of {STEP_TOKENS} tokens in batches of {STEP_BATCH}: {model}", value, "x",
        "one by one", BATCHED, False, low, high, len(ratios), rates[1], rates[0],
    )  # fmt: skip


def _write(work: Path, names: list[str]) -> int:
    """The features as .npy files and in a store; their bytes."""
    draw = np.random.default_rng(0)
    nbytes = 0
    with merstore.open(_made(work) / "s.mer", "a") as store:
        for modality, (view, width) in VIEWS.items():
            _made(work / modality)
            rows = draw.random((len(names), 8, width), np.float32)
            nbytes += rows.nbytes
            for name, row in zip(names, rows, strict=True):
                np.save(work / modality / f"{name}.npy", row)
            made = store.create_view(f"toy/{view}", shape=(8, width), spec={"made": True})
            made.update(zip(names, rows, strict=True))
    return nbytes


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _none(view: str) -> Any:
    raise AssertionError(f"{view}: nothing is to be computed")


def _tokenizer() -> Any:
    """Of single bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={text: id for id, text in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
