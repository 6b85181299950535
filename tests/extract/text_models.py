"""Small random models of text of the real architectures, each with a tokenizer of its family's kind."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np

from merstore.extract.text_encoders import PROBE

CHINESE = "我今天气真很高兴，你呢？不好是的了在他们说什么这个怎样。"
SENTENCES = [
    PROBE,
    "他们说什么？",
    "好",
    "i am so happy, you are not.",
    "这个 test 怎样",
    "们不他很说的好在了是们说的我你今天很高兴兴兴",
]
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


def make(folder: Path, family: str, seed: int = 0, **settings: Any) -> Path:
    """A model of `family` in `folder`, which it returns; `settings` are of its config."""
    import torch
    import transformers

    vocabulary = TOKENIZERS[FAMILIES[family][2]](folder)
    kind, shape, _ = FAMILIES[family]
    config = getattr(transformers, f"{kind.removesuffix('Model')}Config")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"vocab_size": vocabulary, "pad_token_id": 0, **shape, **settings}
        if family == "t5":
            kind = "T5EncoderModel"
        model = getattr(transformers, kind)(config(**options))
        for weight in model.parameters():  # norms and biases too, which begin as ones and zeros
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


_GPT = {"n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 128}

# Class, what its config says, and which of the tokenizers below is of its kind.
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertModel", TINY | {"max_position_embeddings": 64}, "pieces"),
    "electra": (
        "ElectraModel",
        TINY | {"embedding_size": 16, "max_position_embeddings": 64},
        "pieces",
    ),
    "albert": (
        "AlbertModel",
        TINY | {"embedding_size": 16, "max_position_embeddings": 64},
        "pieces",
    ),
    "gpt2-chinese": ("GPT2Model", _GPT, "pieces"),
    "roberta": (
        "RobertaModel",
        TINY | {"max_position_embeddings": 130, "pad_token_id": 1, "type_vocab_size": 1},
        "bytes in <s> and </s>",
    ),
    "deberta-v2": (
        "DebertaV2Model",
        TINY
        | {
            "max_position_embeddings": 128,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        "bytes in <s> and </s>",
    ),
    "gpt2": ("GPT2Model", _GPT, "bytes"),
    "opt": (
        "OPTModel",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "word_embed_proj_dim": 32,
        },
        "bytes behind </s>",
    ),
    "bloom": ("BloomModel", {"hidden_size": 32, "n_layer": 5, "n_head": 4}, "bytes"),
    "falcon": (
        "FalconModel",
        {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4},
        "bytes",
    ),
    "qwen2": (
        "Qwen2Model",
        TINY | {"num_key_value_heads": 2, "max_position_embeddings": 128},
        "bytes",
    ),
    "llama": (
        "LlamaModel",
        TINY | {"num_key_value_heads": 2, "max_position_embeddings": 128},
        "marks behind <s>",
    ),
    "xlnet": (
        "XLNetModel",
        {"d_model": 32, "n_layer": 5, "n_head": 4, "d_inner": 48},
        "marks before <cls>",
    ),
    "t5": (
        "T5Model",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 5, "num_heads": 4},
        "marks before </s>",
    ),
}


def _save(folder: Path, tokenizer: Any, takes: tuple[str, ...], **special: str) -> int:
    from transformers import PreTrainedTokenizerFast

    named = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=list(takes), **special
    )
    named.save_pretrained(folder)
    return len(named)


_IDS, _TYPES, _MASK = "input_ids", "token_type_ids", "attention_mask"


def pieces(folder: Path) -> int:
    """BERT's: a token a Chinese character or piece of a word, between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *dict.fromkeys(CHINESE),
        *letters,
        ",",
        "happy",
        ".",
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    return _save(folder, tokenizer, (_IDS, _TYPES, _MASK), **special)


def _bytes(folder: Path, template: str = "", **special: str) -> int:
    """GPT-2's: a token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<pad>", "<s>", "</s>", *alphabet]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if template:
        ends = [("<s>", 1), ("</s>", 2)]
        tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=ends)
    return _save(folder, tokenizer, (_IDS, _MASK), pad_token="<pad>", **special)


def _marks(folder: Path, template: str, takes: tuple[str, ...] = (_IDS, _MASK)) -> int:
    """SentencePiece's: a token a character, and a mark where a word begins."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = ["▁", *string.ascii_lowercase, *dict.fromkeys(CHINESE), ",", "."]
    words = ["<pad>", "<s>", "</s>", "<unk>", "<sep>", "<cls>", *letters]
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    ends = [(word, words.index(word)) for word in ("<s>", "</s>", "<sep>", "<cls>")]
    tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=ends)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _save(folder, tokenizer, takes, **special)


TOKENIZERS = {
    "pieces": pieces,
    "bytes": _bytes,
    "bytes in <s> and </s>": lambda folder: _bytes(
        folder, "<s> $A </s>", bos_token="<s>", eos_token="</s>"
    ),
    "bytes behind </s>": lambda folder: _bytes(folder, "</s> $A", bos_token="</s>"),
    "marks behind <s>": lambda folder: _marks(folder, "<s> $A"),
    "marks before </s>": lambda folder: _marks(folder, "$A </s>"),
    "marks before <cls>": lambda folder: _marks(
        folder, "$A:0 <sep>:0 <cls>:2", (_IDS, _TYPES, _MASK)
    ),
}


def english_only(folder: Path) -> None:
    """Takes Chinese out of the vocabulary of `pieces`."""
    path = folder / "tokenizer.json"
    saved = json.loads(path.read_text())
    vocabulary = saved["model"]["vocab"]
    saved["model"]["vocab"] = {
        (f"no{number}" if word in CHINESE else word): number for word, number in vocabulary.items()
    }
    path.write_text(json.dumps(saved))


def make_clip(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """A CLIP whose tokenizer takes every letter for a token, as CLIP's does without merges."""
    import torch
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    plain = [letter for letter in string.printable if letter.isprintable() and letter != " "]
    words = [*plain, *(f"{letter}</w>" for letter in plain), "<|startoftext|>", "<|endoftext|>"]
    start, end = len(words) - 2, len(words) - 1
    bpe = models.BPE({word: n for n, word in enumerate(words)}, [], end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end),
        ("<|startoftext|>", start),
        trim_offsets=False,
        add_prefix_space=False,
    )
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=77, **special
    ).save_pretrained(folder)
    text = TINY | {
        "vocab_size": len(words),
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
    }
    text |= {"bos_token_id": start, "eos_token_id": end, **settings}
    vision = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def close(a: Any, b: Any) -> bool:
    """Whether two arrays of one shape differ only by rounding in float32."""
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=1e-4, atol=1e-4))
