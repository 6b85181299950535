"""Prompts and questions, letter by letter as the released checkpoints were trained with them."""

import math

import pytest

from merstore.errors import MerstoreError
from merstore.interop.affectgpt_config import MODES as NEEDED
from merstore.run.prompts import LABEL_TYPES, MODES, answer, multi_source, prompt, question

# Written out by hand, one whole prompt per mode; nothing here is taken from the module under test.
HUM = "###Human: "
MUL = "The audio and video merged info is: <Multi><MultiHere></Multi>. "
AUD = "The audio content is as follows: <Audio><AudioHere></Audio>. "
SUB = "The subtitle of this video is: <Subtitle>I'm {fine}.</Subtitle>. "
END = "Now, please answer my question based on all the provided information. Why so? ###Assistant: "
_FACES = (
    "e uniformly sample raw frames from the video and extract faces from these frames: "
    "<Video><FaceHere></Video>. "
)
_FRAMES = "e uniformly sample raw frames from the video: <Video><FrameHere></Video>. "
FAC, FAC_AFTER, FAC_FIRST = "Meanwhile, w" + _FACES, "Additionally, w" + _FACES, "W" + _FACES
FRM, FRM_FIRST, FRM_LOWER = "Meanwhile, w" + _FRAMES, "W" + _FRAMES, "w" + _FRAMES
IMG = "The image content is as follows: <Image><ImageHere></Image>. "
NV = (
    "The nonverbal clues (facial action units and audio emotion clues) are: "
    "<Nonverbal>a {frown}</Nonverbal>. "
)
AUF = "The AU (Action Unit) features are: <AU><AUHere></AU>. "

PROMPTS = {
    "faceframe": HUM + AUD + FRM + FAC_AFTER + SUB + END,
    "face": HUM + AUD + FAC + SUB + END,
    "frame": HUM + AUD + FRM + SUB + END,
    "audioonly": HUM + AUD + END,
    "textonly": HUM + SUB + END,
    "faceonly": HUM + FAC_FIRST + END,
    "frameonly": HUM + FRM_FIRST + END,
    "image": HUM + IMG + END,
    "audio_text": AUD + SUB + END,
    "face_text": FAC_FIRST + SUB + END,
    "frame_text": FRM_LOWER + SUB + END,
    "multiface_text": HUM + MUL + SUB + END,
    "multiface_audio_face_text": HUM + MUL + AUD + FAC + SUB + END,
    "multiframe_audio_frame_text": HUM + MUL + AUD + FRM + SUB + END,
    "multiface_audio_face_frame_text": HUM + MUL + AUD + FAC + FRM + SUB + END,
    "multiface_audio_face_frame_au_text": HUM + MUL + AUD + FAC + FRM + NV + SUB + END,
    "multiface_audio_face_au_text": HUM + MUL + AUD + FAC + NV + SUB + END,
}
WITH_NONVERBAL = [mode for mode in PROMPTS if "_au_" in mode]
WITHOUT_SUBTITLE = ["audioonly", "faceonly", "frameonly", "image"]


def test_there_are_the_seventeen_modes_that_the_store_knows_the_inputs_of() -> None:
    assert len(PROMPTS) == 17
    assert list(MODES) == list(PROMPTS) == list(NEEDED)


@pytest.mark.parametrize("mode", PROMPTS)
def test_the_prompt_of_a_mode(mode: str) -> None:
    nonverbal = "a {frown}" if mode in WITH_NONVERBAL else None
    assert prompt(mode, "Why so?", "I'm {fine}.", nonverbal) == PROMPTS[mode]


def test_the_released_checkpoints_prompt_in_full() -> None:
    asked = question("ovlabel")
    assert prompt("multiface_audio_face_text", asked, "Oh no!") == (
        "###Human: The audio and video merged info is: <Multi><MultiHere></Multi>. The audio "
        "content is as follows: <Audio><AudioHere></Audio>. Meanwhile, we uniformly sample raw "
        "frames from the video and extract faces from these frames: <Video><FaceHere></Video>. "
        "The subtitle of this video is: <Subtitle>Oh no!</Subtitle>. Now, please answer my "
        "question based on all the provided information. Please recognize all possible emotional "
        "states of the character. ###Assistant: "
    )


@pytest.mark.parametrize("mode", PROMPTS)
def test_every_modality_of_a_prompt_is_one_that_the_mode_loads(mode: str) -> None:
    text = PROMPTS[mode]
    shown = {
        name for name in ("audio", "face", "frame", "image") if f"<{name.title()}Here>" in text
    }
    if source := multi_source(mode):
        shown |= {source, "audio"}
    assert shown == set(NEEDED[mode])
    assert (source is not None) == ("<MultiHere>" in text)


@pytest.mark.parametrize("mode", WITH_NONVERBAL)
@pytest.mark.parametrize("nothing", [None, ""])
def test_without_clues_the_nonverbal_clause_is_left_out(mode: str, nothing: str | None) -> None:
    assert prompt(mode, "Why so?", "I'm {fine}.", nothing) == PROMPTS[mode].replace(NV, "")


def test_action_unit_features_take_the_place_of_the_nonverbal_clause() -> None:
    mode = "multiface_audio_face_frame_au_text"
    expected = PROMPTS[mode].replace(NV, AUF)
    assert prompt(mode, "Why so?", "I'm {fine}.", au_features=True) == expected
    with pytest.raises(MerstoreError, match="no place for action unit features"):
        prompt("multiface_audio_face_au_text", "Why so?", "", au_features=True)
    with pytest.raises(MerstoreError, match="no nonverbal clause beside action unit features"):
        prompt(mode, "Why so?", "", "a {frown}", au_features=True)


def test_an_empty_subtitle_and_an_empty_cell_are_the_same() -> None:
    empty = prompt("face", "Why so?", "")
    assert "<Subtitle></Subtitle>" in empty
    assert prompt("face", "Why so?", math.nan) == empty


@pytest.mark.parametrize("mode", sorted(set(PROMPTS) - set(WITHOUT_SUBTITLE)))
@pytest.mark.parametrize("subtitle", [None, 3.0])
def test_what_is_no_subtitle_is_refused_where_one_is_needed(
    mode: str, subtitle: float | None
) -> None:
    with pytest.raises(MerstoreError, match=f"{mode}.*needs the subtitle"):
        prompt(mode, "Why so?", subtitle)


@pytest.mark.parametrize("mode", WITHOUT_SUBTITLE)
def test_other_modes_need_none_and_show_none(mode: str) -> None:
    assert prompt(mode, "Why so?") == prompt(mode, "Why so?", "said") == PROMPTS[mode]


@pytest.mark.parametrize(
    "mode", ["face_frame_audio_au", "face_frame_audio", "frame_au", "Face", ""]
)
def test_an_unknown_mode_is_an_error_that_lists_the_modes(mode: str) -> None:
    for function in (lambda: prompt(mode, "Why so?", "said"), lambda: multi_source(mode)):
        with pytest.raises(MerstoreError) as caught:
            function()
        assert repr(mode) in str(caught.value)
        assert all(name in str(caught.value) for name in PROMPTS)


def test_clues_for_a_mode_without_the_clause_are_refused_and_not_dropped() -> None:
    with pytest.raises(MerstoreError, match=r"no nonverbal clause: .*multiface_audio_face_au_text"):
        prompt("face", "Why so?", "said", "a frown")


def test_questions() -> None:
    assert question("description") == (
        "Please infer the person's emotional state and provide your reasoning process."
    )
    assert question("ovlabel") == "Please recognize all possible emotional states of the character."
    assert question("onehot_w_candidates", candidates=["sad", "happy"]) == (
        "Please select the label that can best describe the person's emotional state from the "
        "provided candidate labels: sad,happy."
    )
    assert question("onehot_wo_candidates") == (
        "Please recognize the character's most likely emotional state."
    )
    # U+FB02 in both, as in what the checkpoints were trained on.
    assert question("valence", span=(-3.0, 2.8)) == (
        "Please identify the overall positive or negative emotional polarity of the main "
        "characters. The output should be a \ufb02oating-point number ranging from -3.0 to 2.8. "
        "Here, -3.0 indicates extremely negative emotions, 0 indicates neutral emotions, and 2.8 "
        "indicates extremely positive emotions. Please provide your judgment as a "
        "\ufb02oating-point number."
    )
    assert question("sentiment") == (
        "Please select the most likely sentiment label that can best describe the person's "
        "emotional state: positive, negative, neutral."
    )


def test_answers() -> None:
    assert answer("description", "In the text, {he} smiles.") == "In the text, {he} smiles."
    assert answer("ovlabel", "happy, calm") == "The character's emotional state is happy, calm."
    assert answer("onehot_w_candidates", "happy") == "The most likely label is happy."
    assert answer("onehot_wo_candidates", "sad") == "The character's emotional state is sad."
    assert answer("valence", -1.005) == "The valence score is %.2f." % -1.005
    assert answer("valence", 2) == "The valence score is 2.00."
    assert answer("sentiment", "neutral") == "The character's sentiment state is neutral."


def test_bad_label_types_and_labels_are_refused() -> None:
    for function in (question, lambda kind: answer(kind, "x")):
        with pytest.raises(MerstoreError) as caught:
            function("hybird")
        assert all(kind in str(caught.value) for kind in LABEL_TYPES)
    with pytest.raises(MerstoreError, match="needs candidates"):
        question("onehot_w_candidates")
    with pytest.raises(MerstoreError, match="needs a span"):
        question("valence")
    with pytest.raises(MerstoreError, match="'glad' is no number"):
        answer("valence", "glad")
    with pytest.raises(MerstoreError, match=r"3\.0 of type 'ovlabel' is no text"):
        answer("ovlabel", 3.0)
