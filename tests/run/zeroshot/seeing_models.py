"""Tiny random models that see, of the real architectures: folders with weights, tokenizer and the
files that real ones keep beside them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asking import byte_level

_COMMON = ["<pad>", "<s>", "</s>"]

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 14,
    "image_size": 56,
}
_SIGLIP = {**_CLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
_QWEN_VISION = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "mlp_ratio": 2,
}
_MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2]}

_CLIP_FILE = {
    "crop_size": {"height": 56, "width": 56},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 56},
}
_QWEN_FILE = {
    "min_pixels": 3136,
    "max_pixels": 12544,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}

VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<video>\\n' }}{% elif part['type'] == 'image' %}{{ '<image>\\n' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def _chatml(video: str) -> str:
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'video' %}{{ '" + video + "' }}"
        "{% elif part['type'] == 'image' %}{{ '<image>' }}"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


_CHAT = ["<|im_start|>", "<|im_end|>"]
_VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
_QWEN_CHAT = _chatml("<|vision_start|><|video_pad|><|vision_end|>")

# Of each type: config class; special tokens besides the common ones; which of them its config
# names, and how; the rest of the config; the file of its pixels and what is in it; its template.
FAMILIES: dict[str, dict[str, Any]] = {
    "video_llava": {
        "tokens": ["<image>", "<video>"],
        "named": {"image_token_index": "<image>", "video_token_index": "<video>"},
        "config": {"text_config": {"model_type": "llama"}, "vision_config": _CLIP},
        "pixels": ("preprocessor_config.json", _CLIP_FILE),
        "template": VICUNA,
    },
    "llava_next_video": {
        "tokens": ["<image>", "<video>"],
        "named": {"image_token_index": "<image>", "video_token_index": "<video>"},
        "config": {"text_config": {"model_type": "llama"}, "vision_config": _CLIP},
        "pixels": ("video_preprocessor_config.json", _CLIP_FILE),
        "template": VICUNA,
    },
    "llava_onevision": {
        "tokens": [*_CHAT, "<image>", "<video>"],
        "named": {"image_token_index": "<image>", "video_token_index": "<video>"},
        # 5 x 5 patches: an odd number of them
        "config": {
            "text_config": {"model_type": "qwen2"},
            "vision_config": {**_SIGLIP, "image_size": 70},
        },
        "pixels": (
            "video_preprocessor_config.json",
            {**_CLIP_FILE, "size": {"height": 70, "width": 70}, "do_center_crop": None},
        ),
        "template": _chatml("<video>\\n"),
    },
    "qwen2_vl": {
        "tokens": [*_CHAT, *_VISION],
        "named": {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        "config": {
            "text_config": {"model_type": "qwen2_vl_text", "rope_parameters": _MROPE},
            "vision_config": _QWEN_VISION,
        },
        "pixels": ("preprocessor_config.json", _QWEN_FILE),
        "template": _QWEN_CHAT,
    },
    "qwen2_5_vl": {
        "tokens": [*_CHAT, *_VISION],
        "named": {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        "config": {
            "text_config": {"model_type": "qwen2_5_vl_text", "rope_parameters": _MROPE},
            "vision_config": {
                **_QWEN_VISION,
                "out_hidden_size": 32,
                "tokens_per_second": 2,
                "fullatt_block_indexes": [1],
                "window_size": 56,
            },
        },
        "pixels": (
            "video_preprocessor_config.json",
            {**_QWEN_FILE, "size": {"shortest_edge": 3136, "longest_edge": 12544}},
        ),
        "template": _QWEN_CHAT,
    },
    "qwen3_vl": {
        "tokens": [*_CHAT, *_VISION],
        "named": {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        "config": {
            "text_config": {
                "model_type": "qwen3_vl_text",
                "rope_parameters": _MROPE,
                "head_dim": 8,
            },
            "vision_config": {
                **_QWEN_VISION,
                "out_hidden_size": 32,
                "patch_size": 16,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
        },
        "pixels": (
            "video_preprocessor_config.json",
            {
                "size": {"shortest_edge": 4096, "longest_edge": 40960},
                "patch_size": 16,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            },
        ),
        "template": _QWEN_CHAT,
    },
    "internvl": {
        "tokens": [*_CHAT, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
        "named": {"image_token_id": "<IMG_CONTEXT>"},
        "config": {
            "text_config": {"model_type": "qwen2"},
            "vision_config": {**_CLIP, "model_type": "internvl_vision"},
            "image_seq_length": 4,
        },
        "pixels": (
            "video_preprocessor_config.json",
            {**_CLIP_FILE, "size": {"height": 56, "width": 56}, "do_center_crop": None},
        ),
        "template": _chatml("<video>\\n"),
    },
    "smolvlm": {
        "tokens": [
            *["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"],
            "<image>",
        ],
        "named": {"image_token_id": "<image>"},
        "config": {
            "text_config": {"model_type": "llama"},
            "vision_config": {**_CLIP, "model_type": "smolvlm_vision"},
            "scale_factor": 2,
        },
        "pixels": (
            "preprocessor_config.json",
            {
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "max_image_size": {"longest_edge": 56},
                "resample": 1,
                "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 112}},
            },
        ),
        "template": VICUNA,
    },
}


_ROWS = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
_AYA = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"]

# The same of those that know pictures only; ``processor``: what processor_config.json says.
PICTURES: dict[str, dict[str, Any]] = {
    "llava": {
        "tokens": ["<image>"],
        "named": {"image_token_index": "<image>"},
        "config": {"text_config": {"model_type": "llama"}, "vision_config": _CLIP},
        "pixels": (
            "preprocessor_config.json",
            {**_CLIP_FILE, "image_processor_type": "CLIPImageProcessor"},
        ),
        "processor": {
            "processor_class": "LlavaProcessor",
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        "template": VICUNA,
    },
    "llava_next": {
        "tokens": ["<image>"],
        "named": {"image_token_index": "<image>"},
        "config": {
            "text_config": {"model_type": "llama"},
            "vision_config": _CLIP,
            "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]],
        },
        "pixels": (
            "preprocessor_config.json",
            {
                **_CLIP_FILE,
                "image_processor_type": "LlavaNextImageProcessor",
                "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112]],
            },
        ),
        "processor": {
            "processor_class": "LlavaNextProcessor",
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        "template": VICUNA,
    },
    "idefics3": {
        "tokens": [
            *["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"],
            *_ROWS,
        ],
        "named": {"image_token_id": "<image>"},
        "config": {
            "text_config": {"model_type": "llama"},
            "vision_config": {**_CLIP, "model_type": "idefics3_vision"},
            "scale_factor": 2,
        },
        "pixels": (
            "preprocessor_config.json",
            {
                "image_processor_type": "Idefics3ImageProcessor",
                "size": {"longest_edge": 112},
                "max_image_size": {"longest_edge": 56},
            },
        ),
        "processor": {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        "template": VICUNA,
    },
    "gemma3": {
        "tokens": ["<image>", "<start_of_image>", "<end_of_image>"],
        "attributes": {
            "image_token": "<image>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        "named": {
            "image_token_index": "<image>",
            "boi_token_index": "<start_of_image>",
            "eoi_token_index": "<end_of_image>",
        },
        "config": {
            "text_config": {"model_type": "gemma3_text", "head_dim": 8},
            "vision_config": _SIGLIP,
            "mm_tokens_per_image": 4,
        },
        "pixels": (
            "preprocessor_config.json",
            {
                "image_processor_type": "Gemma3ImageProcessor",
                "size": {"height": 56, "width": 56},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
            },
        ),
        "processor": {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        "template": VICUNA.replace("<image>", "<start_of_image>"),
    },
    "aya_vision": {
        "tokens": ["<image>", *_AYA],
        "named": {"image_token_index": "<|IMG_PATCH|>"},
        "config": {
            "text_config": {"model_type": "cohere2"},
            "vision_config": _SIGLIP,
            "downsample_factor": 2,
        },
        "pixels": (
            "preprocessor_config.json",
            {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 56, "width": 56}},
        ),
        "processor": {
            "processor_class": "AyaVisionProcessor",
            "patch_size": 14,
            "img_size": 56,
            "downsample_factor": 2,
        },
        "template": VICUNA,
    },
}


def make(folder: Path, family: str, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """A model of `family` in `folder`, which it returns. ``change``: what is done to its config."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    told = (FAMILIES | PICTURES)[family]
    ids = save_tokenizer(folder, told["tokens"], told.get("attributes", {}))
    config = json.loads(json.dumps(told["config"]))
    config["text_config"] |= {**_TEXT, "vocab_size": len(ids)}
    config |= {key: ids[token] for key, token in told["named"].items()}
    if family.startswith("qwen"):
        config["text_config"] |= {key: ids[token] for key, token in told["named"].items()}
        for end in ("start", "end"):
            config[f"vision_{end}_token_id"] = ids[f"<|vision_{end}|>"]
    if change is not None:
        change(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AutoConfig.for_model(family, **config)
        model = AutoModelForImageTextToText.from_config(made)
        for weight in model.parameters():  # norms and biases too, which begin as ones and zeros
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    file, pixels = told["pixels"]
    (folder / file).write_text(json.dumps(pixels))
    if "processor" in told:
        (folder / "processor_config.json").write_text(json.dumps(told["processor"]))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": told["template"]}))
    return folder


def save_tokenizer(
    folder: Path, special: list[str], attributes: dict[str, str] | None = None
) -> dict[str, int]:
    """Write a byte-level tokenizer, which begins texts with ``<s>`` unless its special tokens are
    Qwen's; the numbers of its tokens. ``attributes``: those that it has names for.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = byte_level([*_COMMON, *special])
    names = {}
    if "<|im_end|>" not in special:
        names = {"bos_token": "<s>"}
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=attributes or {},
        **names,
    )
    fast.save_pretrained(folder)
    return dict(fast.get_vocab())
