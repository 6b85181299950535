"""Tiny random models that hear, in folders laid out as released ones are, and a baseline that answers
by a script. A module, so that other processes can import it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import merstore
from merstore.extract.models import quiet
from merstore.extract.reading import Refusal
from merstore.run.tasks import Task
from merstore.run.zeroshot.asked import Answerer, Asked, Said
from merstore.run.zeroshot.baselines import Baseline, Sound
from merstore.run.zeroshot.running import Runner

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # the first has number 0
SENTENCES = ["She is happy and proud of it.", "He looks sad, jealous, ashamed; the voice is low."]
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.4,  # large, so that different sounds give different answers
}
EAR = {
    "num_mel_bins": 16,
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "initializer_range": 0.2,
}


def byte_level(special: Sequence[str]) -> Any:
    """A tokenizer of bytes, with `special` tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES, trainer)
    return made


def tokenizer_with(special: Sequence[str], **attributes: str) -> Any:
    """A byte-level tokenizer with `special` tokens behind those of chats."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level([*SPECIAL, *special]),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(attributes) if attributes else list(special),
    )


def make_qwen2_audio(folder: Path, seed: int = 0, change: Any = None, **changes: Any) -> Path:
    """`changes` are of the text model's configuration; `change` is done to the weights."""
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
    )

    tokenizer = tokenizer_with(["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"])
    Qwen2AudioProcessor(_extractor(), tokenizer).save_pretrained(folder)
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", **EAR},
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT, **changes},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return _save(Qwen2AudioForConditionalGeneration, config, folder, seed, change)


AF3_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<sound>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_audio_flamingo(folder: Path, seed: int = 0) -> Path:
    from transformers import (
        AudioFlamingo3Config,
        AudioFlamingo3ForConditionalGeneration,
        AudioFlamingo3Processor,
    )

    tokenizer = tokenizer_with(["<sound>"])
    processor = AudioFlamingo3Processor(_extractor(), tokenizer, chat_template=AF3_CHAT)
    processor.save_pretrained(folder)
    config = AudioFlamingo3Config(
        audio_config={
            "model_type": "audioflamingo3_encoder",
            "num_mel_bins": 16,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "initializer_range": 0.2,
        },
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), **TEXT},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    return _save(AudioFlamingo3ForConditionalGeneration, config, folder, seed)


def _extractor() -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=16, return_attention_mask=True)


def _save(kind: Any, config: Any, folder: Path, seed: int, change: Any = None) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = kind(config)
        if change is not None:
            change(model)
    model.generation_config.eos_token_id = [2, 0]
    with quiet():
        model.save_pretrained(folder)
    return folder


OMNI_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_omni(folder: Path, seed: int = 0) -> Path:
    """In a folder of the whole model, of which only the thinker is there."""
    from transformers import (
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
    )

    names = ["audio", "image", "video"]
    tokens = {f"{name}_token": f"<|{name.upper()}|>" for name in names}
    for name in ("audio", "vision"):
        tokens |= {f"{name}_{end}_token": f"<|{name}_{end}|>" for end in ("bos", "eos")}
    tokenizer = tokenizer_with(list(tokens.values()), **tokens)
    tokenizer.chat_template = OMNI_CHAT
    tokenizer.save_pretrained(folder)
    pictures = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136}
    ear = _extractor().to_dict() | pictures | {"max_pixels": 12845056}
    (folder / "preprocessor_config.json").write_text(json.dumps(ear), encoding="utf-8")
    number = tokenizer.convert_tokens_to_ids
    eye = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.2,
    }
    config = Qwen2_5OmniThinkerConfig(
        audio_config={**EAR, "output_dim": 32, "n_window": 50},
        vision_config=eye,
        text_config={
            "vocab_size": len(tokenizer),
            **TEXT,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        audio_token_index=number("<|AUDIO|>"),
        image_token_index=number("<|IMAGE|>"),
        video_token_index=number("<|VIDEO|>"),
        audio_start_token_id=number("<|audio_bos|>"),
        audio_end_token_id=number("<|audio_eos|>"),
        vision_start_token_id=number("<|vision_bos|>"),
        vision_end_token_id=number("<|vision_eos|>"),
        user_token_id=3,
    )
    _save(Qwen2_5OmniThinkerForConditionalGeneration, config, folder, seed)
    return _as_part(folder, "qwen2_5_omni", "thinker")


def _as_part(folder: Path, kind: str, part: str) -> Path:
    """Has a saved model look like a part of a larger one, whose other parts are not there."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    renamed = {f"{part}.{name}": value for name, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = {"model_type": kind, f"{part}_config": config}
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder


TOY = Baseline(
    "toy",
    "Toy",
    "video",
    "video and audio",
    "before",
    ";",
    frames="even_2frms",
    sound=Sound(16_000, 0.5, "mean"),
    cut=("</s>",),
)


class Scripted(Answerer):
    """Answers from what it is shown, what it hears, its prompt and its seed, all of which must be
    right for the answer to be. ``log``: gets the names that it was asked about. ``odd``: what it
    says, or raises, of some samples. ``told``: called with the name before each answer.
    """

    name = "scripted"

    def __init__(
        self,
        log: Path,
        odd: Mapping[str, Any] | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self.log = log
        self.odd = odd or {}
        self.told = told

    def spec(self) -> dict[str, Any]:
        return {"backend": "script"}

    def answer(self, asked: Sequence[Asked], seeds: Sequence[int]) -> list[str | Said | Refusal]:
        found = []
        for each, seed in zip(asked, seeds, strict=True):
            if self.told:
                self.told(each.name)
            with self.log.open("a") as log:
                log.write(f"{each.name}\n")
            odd = self.odd.get(each.name)
            if isinstance(odd, BaseException):
                raise odd
            found.append(scripted(each, seed) if odd is None else odd)
        return found


def scripted(asked: Asked, seed: int) -> str:
    seen = [] if asked.frames is None else [int(frame.sum()) for frame in asked.frames]
    when = [] if asked.seconds is None else [round(each, 3) for each in asked.seconds.tolist()]
    heard = None if asked.sound is None else (len(asked.sound), float(asked.sound.sum()))
    return f"{asked.name} {seen} {when} {heard} {seed} {asked.prompt}"


def answer_toy(path: Path, clips: Mapping[str, Path], log: Path, told: Any) -> None:
    """Answers in a process of its own; its progress goes to the connection `told`, then its report."""
    with merstore.open(path, "a") as store:
        runner = Runner(store, TOY, Scripted(log), jobs=0, tell=lambda each: told.send(each.done))
        told.send(runner.run(Task("toy", list(clips), materials=clips)))
    told.close()
