"""Models that see: the tensors that they are given, against transformers' own processors, and that
they answer.
"""

import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

from run.zeroshot import reference_seeing
from run.zeroshot.seeing_models import FAMILIES, PICTURES, VICUNA, make

import merstore
from merstore.errors import DecodeError, EncoderError
from merstore.extract.material import Material
from merstore.extract.models import ModelFolder
from merstore.run.decoding import Decoding
from merstore.run.tasks import task_of
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.families import Family
from merstore.run.zeroshot.native import Native, baseline_of, families
from merstore.run.zeroshot.running import Runner

QUESTION = "What does she feel?"
CLIPS = {
    "wide frames of odd sizes": (5, 45, 83),
    "a single frame": (1, 60, 64),
    "two portrait frames": (2, 97, 31),
    "frames smaller than a patch": (3, 5, 9),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = make(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.fixture
def copy(folders: Any, tmp_path: Path) -> Any:
    """A folder of its own, to be damaged; the weights are only linked."""

    def copied(family: str) -> Path:
        for path in folders(family).iterdir():
            target = tmp_path / path.name
            if path.suffix == ".safetensors":
                target.symlink_to(path)
            else:
                target.write_bytes(path.read_bytes())
        return tmp_path

    return copied


def loaded(folder: Path) -> Family:
    found = ModelFolder(folder)
    return families()[found.kind](found)


def clip(*shape: int) -> np.ndarray:
    """Noise in large dots, so that resizing has edges to blur."""
    rng = np.random.default_rng(list(shape))
    count, height, width = shape
    dots = rng.integers(0, 256, (count, height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return dots.repeat(4, 1).repeat(4, 2)[:, :height, :width]


def asked(frames: np.ndarray | None, prompt: str = QUESTION, apart: float = 0.75) -> Asked:
    seconds = None if frames is None else np.arange(len(frames)) * apart + 60.5
    return Asked("her", prompt, Material("her"), frames, seconds)


def told(folder: Path, file: str, **changes: Any) -> None:
    path = folder / file
    kept = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(kept))


# --- against transformers ---------------------------------------------------------------------------


PROMPTS = {
    "video_llava": "USER: <video>\n{} ASSISTANT:",
    "llava_next_video": "USER: <video>\n{} ASSISTANT:",
    "llava_onevision": "<|im_start|>user\n<video>\n{}<|im_end|>\n<|im_start|>assistant\n",
    "internvl": "<|im_start|>user\n<video>\n{}<|im_end|>\n<|im_start|>assistant\n",
    "smolvlm": "<|im_start|>User: <video>{}<end_of_utterance>\nAssistant:",
} | dict.fromkeys(
    ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"],
    "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>{}<|im_end|>\n"
    "<|im_start|>assistant\n",
)


@pytest.mark.parametrize(
    ("family", "kind"),
    # transformers takes two frames of Qwen3-VL at least
    [each for each in product(FAMILIES, CLIPS) if each != ("qwen3_vl", "a single frame")],
)
def test_inputs_are_those_of_the_processor_in_transformers(
    family: str, kind: str, copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder = copy(family)
    told(folder, FAMILIES[family]["pixels"][0], resample=3)
    question = asked(clip(*CLIPS[kind]))
    found = dict(loaded(folder).inputs(question))
    reference = reference_seeing.processor(family, folder, monkeypatch)
    expected = reference_seeing.inputs(
        reference, PROMPTS[family].format(QUESTION), question.frames, question.seconds
    )
    if "pixel_attention_mask" in expected:
        assert expected.pop("pixel_attention_mask").all()  # what the model takes it for without
    if len(question.frames) == 1:  # nothing is apart from it
        found.pop("second_per_grid_ts", None), expected.pop("second_per_grid_ts", None)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(torch.as_tensor(found[key]), torch.as_tensor(value)), key


@pytest.mark.parametrize("settings", ["cap", "by size", "no resizing", "nothing but resizing"])
@pytest.mark.parametrize("family", ["llava_next_video", "qwen2_5_vl", "qwen3_vl"])
def test_settings_of_a_folder_count_as_in_transformers(
    family: str, settings: str, copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    folder, (file, pixels) = copy(family), FAMILIES[family]["pixels"]
    shape = (4, 64, 96)
    if settings == "cap":
        told(folder, file, cap_pixels_per_frame=True, max_video_tokens=8)
        shape = (8, 160, 224)
    elif settings == "by size":
        size = {key: value // 2 for key, value in pixels["size"].items()}
        told(folder, file, size=size, min_pixels=None, max_pixels=None)
    elif settings == "no resizing":
        told(folder, file, do_resize=False, do_normalize=False)
    else:
        told(folder, file, do_rescale=False, do_center_crop=False)
    question = asked(clip(*shape))
    if "qwen" in family and settings == "no resizing":
        question = asked(clip(4, 56, 112) if family == "qwen2_5_vl" else clip(4, 64, 96))
    found = loaded(folder).inputs(question)
    reference = reference_seeing.processor(family, folder, monkeypatch)
    expected = reference_seeing.inputs(
        reference, PROMPTS[family].format(QUESTION), question.frames, question.seconds
    )
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])
    assert torch.equal(found["input_ids"], expected["input_ids"])


# --- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, *PICTURES])
def test_a_model_of_each_family_answers(family: str, folders: Any) -> None:
    model = Native(folders(family), Decoding(max_tokens=3), device="cpu")
    questions = [asked(clip(*shape)) for shape in CLIPS.values()]
    first = model.answer(questions, [0] * len(questions))
    assert all(hasattr(said, "text") for said in first), first
    assert model.answer(questions[::-1], [0] * len(questions)) == first[::-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_place_for_pixels_too_few_is_noticed_by_the_model(family: str, folders: Any) -> None:
    import torch
    import transformers

    made = loaded(folders(family))
    given = dict(made.inputs(asked(clip(5, 45, 83))))
    model = getattr(transformers, made.kind).from_pretrained(folders(family)).eval()
    place = int((given["input_ids"][0] == made.place).nonzero()[0])
    for key in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if key in given:
            given[key] = torch.cat([given[key][:, :place], given[key][:, place + 1 :]], 1)
    with (
        torch.inference_mode(),
        pytest.raises((ValueError, RuntimeError), match=r"tokens|size|match"),
    ):
        model(**given)


def test_the_times_of_frames_are_the_places_of_their_patches(folders: Any) -> None:
    import transformers

    made = loaded(folders("qwen2_5_vl"))
    given = made.inputs(asked(clip(6, 56, 56), apart=1.5))
    kind = getattr(transformers, made.kind)
    model = kind.from_pretrained(folders("qwen2_5_vl")).model
    places, _ = model.get_rope_index(**{
        key: value for key, value in given.items() if key != "pixel_values_videos"
    })  # fmt: skip
    in_time = places[0, 0][given["input_ids"][0] == made.place]
    # Two frames deep, so 3 s apart, at 2 places a second; of 4 x 4 patches 2 x 2 merged ones each.
    first = int(in_time[0])
    assert in_time.tolist() == [first + 6 * group for group in range(3) for _ in range(4)]


@pytest.mark.shared
@pytest.mark.parametrize("family", ["video_llava", "qwen2_5_vl", "smolvlm", "idefics3"])
def test_models_answer_about_real_clips(
    family: str, folders: Any, shared: Path, tmp_path: Path
) -> None:
    names = ["talk_vr_face1", "odd_rotated90_face", "odd_one_frame", "one_pixel_5frames"]
    for name in (*names, "odd_random_bytes"):
        (tmp_path / f"{name}.mp4").symlink_to(shared / "media" / f"{name}.mp4")
    model = Native(folders(family), Decoding(max_tokens=2), device="cpu")
    baseline = dataclasses.replace(baseline_of(ModelFolder(folders(family))), frames="even_4frms")
    with merstore.open(tmp_path / "answers.mer", "a") as store:
        runner = Runner(store, baseline, model, jobs=0)
        report = runner.run(task_of(store, "meld", media=tmp_path))
    assert (report.answered, report.failed) == (4, {"decode_error": ["odd_random_bytes"]})


# --- what is asked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, *PICTURES])
def test_no_subtitle_acts_as_a_special_token(family: str, folders: Any) -> None:
    made = loaded(folders(family))
    frames = clip(2, 60, 64)
    plain = made.inputs(asked(frames))["input_ids"][0].tolist()
    special = [made.token, "<video>", "</s>", *FAMILIES.get(family, PICTURES.get(family))["tokens"]]
    asked_so = made.inputs(asked(frames, QUESTION + "".join(special)))["input_ids"][0].tolist()
    ids = set(made.tokenizer.all_special_ids) | {
        made.tokenizer.convert_tokens_to_ids(token) for token in special[:-1]
    }
    for number in ids - {None, made.tokenizer.unk_token_id}:
        assert asked_so.count(number) == plain.count(number)
    assert made.token[0] + " " + made.token[1:] in made.tokenizer.decode(asked_so)


def test_a_text_that_means_nothing_to_the_tokenizer_stays_as_it_is(folders: Any) -> None:
    made = loaded(folders("qwen2_vl"))
    ids = made.inputs(asked(clip(2, 60, 64), "A <b>word</b> and <video>, {prompt} {{ 7 }} é 好"))
    text = made.tokenizer.decode(ids["input_ids"][0])
    assert "<|vision_end|>A <b>word</b> and <video>, {prompt} {{ 7 }} é 好<|im_end|>" in text


@pytest.mark.parametrize("family", ["video_llava", "llava"])
def test_what_is_not_shown_is_not_made_up(family: str, folders: Any) -> None:
    with pytest.raises(DecodeError, match="is given no frames") as error:
        loaded(folders(family)).inputs(asked(None))
    assert error.value.kind == "no_video"


def test_numbers_of_frames_are_words_to_smolvlm(folders: Any) -> None:
    made = loaded(folders("smolvlm"))
    words = {1: "one", 12: "twelve", 20: "twenty", 64: "sixty-four", 100: "one hundred"}
    words |= {121: "one hundred and twenty-one"}
    for number, word in words.items():
        frames = np.zeros((number, 8, 8, 3), np.uint8)
        ids = made.inputs(asked(frames, apart=40.0))["input_ids"][0]
        text = made.tokenizer.decode(ids[ids != made.place])
        assert f"series of {word} frames from a" in text
    assert "from a 1:21:00 [H:MM:SS] video.\n\nFrame from 01:00:" in text
    assert "\nFrame from 81:00:" in text


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["chat_template.jinja", "processor_config.json", "tokenizer"])
def test_a_template_is_found_wherever_a_version_of_transformers_puts_it(
    file: str, copy: Any
) -> None:
    folder = copy("qwen2_5_vl")
    template = FAMILIES["qwen2_5_vl"]["template"].replace("assistant", "helper")
    (folder / "chat_template.json").unlink()
    if file.endswith(".jinja"):
        (folder / file).write_text(template)
    elif file == "tokenizer":
        told(folder, "tokenizer_config.json", chat_template=template)
    else:
        (folder / file).write_text(json.dumps({"chat_template": template}))
    made = loaded(folder)
    text = made.tokenizer.decode(made.inputs(asked(clip(2, 60, 64)))["input_ids"][0])
    assert text.endswith("<|im_start|>helper\n")


def test_what_newer_folders_say_of_frames_counts_before_older_files(copy: Any) -> None:
    folder = copy("llava_onevision")
    frames = {"size": {"height": 42, "width": 56}}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 9}}))
    assert loaded(folder).inputs(asked(clip(2, 60, 64)))["pixel_values_videos"].shape[-1] == 70
    (folder / "processor_config.json").write_text(json.dumps({"video_processor": frames}))
    shape = loaded(folder).inputs(asked(clip(2, 60, 64)))["pixel_values_videos"].shape
    assert shape[-2:] == (42, 56)


@pytest.mark.parametrize("family", ["llava_next_video", "llava"])
def test_a_text_begins_once_whether_its_template_says_so_or_not(family: str, copy: Any) -> None:
    folder = copy(family)
    plain = loaded(folder).inputs(asked(clip(2, 60, 64)))["input_ids"]
    told(folder, "chat_template.json", chat_template="{{ bos_token }}" + VICUNA)
    assert loaded(folder).inputs(asked(clip(2, 60, 64)))["input_ids"].tolist() == plain.tolist()
    assert plain[0].tolist().count(1) == 1


def test_without_a_template_a_published_form_is_used_where_there_is_one(copy: Any) -> None:
    folder = copy("video_llava")
    (folder / "chat_template.json").unlink()
    made = loaded(folder)
    text = made.tokenizer.decode(made.inputs(asked(clip(2, 60, 64)))["input_ids"][0])
    assert text.replace("<video>", "") == f"<s>USER: \n{QUESTION} ASSISTANT:"


@pytest.mark.parametrize("family", ["qwen2_vl", "internvl", "idefics3"])
def test_without_a_template_or_a_published_form_a_model_is_refused(family: str, copy: Any) -> None:
    folder = copy(family)
    (folder / "chat_template.json").unlink()
    with pytest.raises(EncoderError, match=r"chat_template\.jinja missing"):
        loaded(folder)


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_a_template_that_fails_or_shows_no_clip_is_named(family: str, copy: Any) -> None:
    folder = copy(family)
    for template, message in (
        ("{{ raise_exception('never') }}", "its chat template fails: never"),
        ("{{ messages[0]['content'][-1]['text'] }}", r"has not one \S+ (for a video|a picture)"),
    ):
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
        with pytest.raises(EncoderError, match=message):
            loaded(folder).inputs(asked(clip(2, 60, 64)))


@pytest.mark.parametrize(
    ("family", "file"),
    [
        ("video_llava", "preprocessor_config.json"),
        ("qwen2_5_vl", "video_preprocessor_config.json"),
        ("smolvlm", "preprocessor_config.json"),
        ("llava", "preprocessor_config.json"),
        ("llava", "processor_config.json"),
        ("qwen2_vl", "tokenizer.json"),
        ("qwen2_vl", "chat_template.json"),
        ("qwen2_vl", "config.json"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "a list", "empty"])
def test_a_damaged_file_is_named(family: str, file: str, damage: str, copy: Any) -> None:
    folder = copy(family)
    whole = (folder / file).read_text()
    (folder / file).write_text({"cut": whole[:-9], "a list": "[1]", "empty": ""}[damage])
    with pytest.raises(EncoderError, match=rf"{file}|{folder.name}"):
        loaded(folder)


@pytest.mark.parametrize(("family", "file"), [
    ("video_llava", "preprocessor_config.json"),
    ("qwen3_vl", "video_preprocessor_config.json"),
    ("llava", "preprocessor_config.json"),
    ("internvl", "tokenizer.json"),
])  # fmt: skip
def test_a_missing_file_is_named(family: str, file: str, copy: Any) -> None:
    folder = copy(family)
    (folder / file).unlink()
    with pytest.raises(EncoderError, match=r"preprocessor_config\.json missing|cannot be loaded"):
        loaded(folder)


@pytest.mark.parametrize(
    ("family", "setting", "value"),
    [
        ("video_llava", "size", {"shortest_edge": 0}),
        ("video_llava", "size", {"longest_edge": 56}),
        ("video_llava", "size", "large"),
        ("video_llava", "crop_size", {"height": 56}),
        ("video_llava", "resample", 0),
        ("video_llava", "resample", "bicubic"),
        ("video_llava", "rescale_factor", 0),
        ("video_llava", "image_mean", [0.5, 0.5]),
        ("video_llava", "image_mean", ["a", "b", "c"]),
        ("video_llava", "image_std", [0.5, 0.0, 0.5]),
        ("qwen2_vl", "min_pixels", -1),
        ("qwen2_vl", "patch_size", 0),
        ("qwen2_vl", "merge_size", 1.5),
        ("smolvlm", "max_image_size", None),
        ("smolvlm", "max_image_size", {"shortest_edge": 56}),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_its_file(
    family: str, setting: str, value: Any, copy: Any
) -> None:
    folder = copy(family)
    told(folder, "preprocessor_config.json", **{setting: value})
    if value is None:  # as if it were not there
        loaded(folder)
        return
    shown = "size" if setting == "min_pixels" else setting
    with pytest.raises(EncoderError, match=rf"preprocessor_config\.json: no code for {shown} "):
        loaded(folder)


def test_a_tokenizer_of_another_version_is_refused(copy: Any) -> None:
    folder = copy("video_llava")
    told(folder, "config.json", video_token_index=4096)
    with pytest.raises(EncoderError, match="puts pixels at token 4096, and its tokenizer has"):
        loaded(folder)


def test_frames_that_no_model_takes_are_refused_and_others_go_on(folders: Any) -> None:
    model = Native(folders("qwen2_vl"), Decoding(max_tokens=2), device="cpu")
    refused, said = model.answer([asked(clip(2, 4, 900)), asked(clip(2, 60, 64))], [0, 0])
    assert refused[0] == "model_error"
    assert "900 x 4 pixels" in refused[1]
    assert hasattr(said, "text")
