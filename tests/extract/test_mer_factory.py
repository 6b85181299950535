"""Reading MER-Factory's outputs: what is there, whoever wrote it and when, and what is missing, by its kind."""

import json
import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import DecodeError, MerstoreError
from merstore.extract.mer_factory import (
    Actions,
    Analysis,
    Description,
    EmotionPeak,
    MerFactory,
    Nonverbal,
    PeakFrame,
    read,
)
from merstore.extract.sampling import emotion_peak

PEAK = {"peak_index": 10, "frames_before_peak": 10, "frames_after_peak": 34}
CHAT = "system\nDescribe the face.\nuser\nAU values\nassistant\n"
FORK = {
    "source_path": "/data/videos/a.mp4",
    "chronological_emotion_peaks": ["Peak at 0.40s: happy (moderate), contempt (slight)"],
    "per_frame_au_descriptions": [
        {
            "frame": 11,
            "timestamp": 0.4,
            "au_description": "Lip corner puller (smile) (intensity: 2.40)",
            "active_aus": {"AU12_r": 2.4},
            "is_peak_frame": True,
        },
        {"frame": 1, "timestamp": 0.0, "active_aus": {}, "is_peak_frame": False},
    ],
    "au_info": {"total_frames": 45, "peak_frames": [PEAK]},
    "fine_grained_descriptions": {"11": CHAT + "A smile.", "1": CHAT + "At rest."},
    "summary_description": {"11": "A smile.", "2": "Still.", "1": "At rest."},
}
UPSTREAM = {
    "source_path": "/data/videos/a.mp4",
    "chronological_emotion_peaks": ["neutral"],
    "overall_peak_au_description": "Jaw drop (intensity: 1.39)",
}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    path.write_bytes(content)
    return path


def analysis(tmp_path: Path, document: Any) -> Analysis:
    return read(write(tmp_path / "a_au_analysis.json", document))


def refusal(ask: Callable[[], object]) -> tuple[str, str]:
    """Kind and message of the failure that asking ends in; the file is named in it."""
    with pytest.raises(DecodeError) as caught:
        ask()
    assert caught.value.path in str(caught.value)
    assert caught.value.path.endswith(".json")
    return caught.value.kind, caught.value.message


def attempt(ask: Callable[[], Any]) -> tuple[Any, str | None]:
    """The answer, or the kind of failure."""
    try:
        return ask(), None
    except DecodeError as error:
        return None, error.kind


class TestFork:
    def test_au_info_is_what_emotion_peak_needs(self, tmp_path: Path) -> None:
        told = analysis(tmp_path, FORK)
        assert told.format == "fork"
        assert told.source == "/data/videos/a.mp4"
        assert told.au_info() == FORK["au_info"]
        assert emotion_peak(told.au_info(), 45) == [0, 8, 9, 10, 11, 12, 18, 31]

    def test_all_peaks_are_kept_but_later_ones_that_are_broken(self, tmp_path: Path) -> None:
        later = PEAK | {"peak_index": 30, "emotion": "happy"}
        info = {"total_frames": 45, "peak_frames": [PEAK, {"peak_index": 20}, None, later]}
        peaks = analysis(tmp_path, FORK | {"au_info": info}).au_info()["peak_frames"]
        assert peaks == [PEAK, PEAK | {"peak_index": 30}]

    @pytest.mark.parametrize(
        ("info", "expected"),
        [
            ({"total_frames": 45, "peak_frames": []}, {"total_frames": 45, "peak_frames": []}),
            ({"total_frames": 45}, {"total_frames": 45, "peak_frames": []}),
            ({"total_frames": None, "peak_frames": []}, {"peak_frames": []}),
        ],
    )
    def test_no_peak_is_a_finding(self, tmp_path: Path, info: Any, expected: Any) -> None:
        told = analysis(tmp_path, FORK | {"au_info": info}).au_info()
        assert told == expected
        assert emotion_peak(told, 45) == [0, 6, 12, 18, 25, 31, 37, 44]

    @pytest.mark.parametrize(
        ("info", "why"),
        [
            (None, "no au_info in it; analyse"),
            ({}, "no au_info in it; analyse"),
            ([PEAK], "au_info is a list"),
            ("yes", "au_info is a text"),
            ({"frames": 45}, "neither total_frames nor peak_frames"),
            ({"total_frames": 45, "peak_frames": PEAK}, "peak_frames is an object, not a list"),
            ({"total_frames": 45, "peak_frames": [10]}, "a peak is 10, not an object"),
            ({"peak_frames": [PEAK]}, "total_frames is missing"),
            ({"total_frames": "45", "peak_frames": [PEAK]}, "total_frames is a text"),
            ({"total_frames": 45, "peak_frames": [{"peak_index": 10}]}, "before_peak is missing"),
            ({"total_frames": 45, "peak_frames": [PEAK | {"peak_index": "10"}]}, "is a text"),
            ({"total_frames": 45, "peak_frames": [PEAK | {"peak_index": -1}]}, "is -1"),
            ({"total_frames": 45, "peak_frames": [PEAK | {"peak_index": True}]}, "a truth value"),
            ({"total_frames": 45, "peak_frames": [PEAK | {"peak_index": 1.5}]}, r"is 1\.5"),
            ({"total_frames": 10, "peak_frames": [PEAK]}, r"is frame 10 \(from 0\) of 10"),
        ],
    )
    def test_what_would_have_to_be_guessed_at_is_no_au_info(
        self, tmp_path: Path, info: Any, why: str
    ) -> None:
        told = analysis(tmp_path, FORK | {"au_info": info})
        kind, message = refusal(told.au_info)
        assert kind == "no_au_info"
        assert re.search(why, message)
        assert [d.text for d in told.descriptions()] == ["At rest.", "Still.", "A smile."]

    def test_descriptions_are_in_the_order_of_the_numbers(self, tmp_path: Path) -> None:
        document = FORK | {"summary_description": {"2": "two", "10": "ten", "1": "one"}}
        assert analysis(tmp_path, document).descriptions() == [
            Description(0, "one", "one"),
            Description(1, "two", "two"),
            Description(9, "ten", "ten"),
        ]

    @pytest.mark.parametrize("summary", [{}, None, [], "A smile."])
    def test_without_summaries_conversations_end_in_the_descriptions(
        self, tmp_path: Path, summary: Any
    ) -> None:
        told = analysis(tmp_path, FORK | {"summary_description": summary})
        assert told.descriptions() == [
            Description(0, "At rest.", CHAT + "At rest."),
            Description(10, "A smile.", CHAT + "A smile."),
        ]

    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            ("A smile.", "A smile."),
            ("\n A smile. \n", "A smile."),
            (CHAT + "A smile.", "A smile."),
            (CHAT.replace("\n", "\r\n") + "A smile.", "A smile."),
            (CHAT + "No.\nuser\nAgain.\nassistant\nA smile.", "A smile."),
            ("assistant\nA smile.\nTwo lines.", "A smile.\nTwo lines."),
            ("He greets an assistant\nwith a smile.", "He greets an assistant\nwith a smile."),
        ],
    )
    def test_of_a_conversation_the_last_answer_counts(
        self, tmp_path: Path, raw: str, text: str
    ) -> None:
        told = analysis(tmp_path, {"fine_grained_descriptions": {"3": raw}})
        assert told.descriptions() == [Description(2, text, raw)]

    def test_a_frame_without_a_number_or_a_text_spoils_no_other(self, tmp_path: Path) -> None:
        entries = {
            "1": "one", "summary_description": "all", "0": "none", "-1": "none", "01": "one?",
            "1.5": "half", " 2": "two?", "٣": "three?", "4": "", "5": " \n", "6": None, "7": 7,
            "8": CHAT, "9": "\ud83d", "9" * 5000: "far", "12": "twelve",
        }  # fmt: skip
        told = analysis(tmp_path, {"summary_description": entries})
        assert [(d.frame, d.text) for d in told.descriptions()] == [(0, "one"), (11, "twelve")]
        assert told.unusable() == [key for key in entries if key not in {"1", "12"}]

    @pytest.mark.parametrize(
        ("entries", "why"),
        [
            ({}, "no description of a frame in it; analyse"),
            ({"summary_description": "A smile."}, "only under 'summary_description'$"),
            ({"0": "A smile."}, "summary_description describes no frame .* only under '0'$"),
        ],
    )
    def test_without_a_described_frame_it_is_no_au_description(
        self, tmp_path: Path, entries: dict[str, str], why: str
    ) -> None:
        document = FORK | {"summary_description": entries, "fine_grained_descriptions": {}}
        told = analysis(tmp_path, document)
        kind, message = refusal(told.descriptions)
        assert kind == "no_au_description"
        assert re.search(why, message)
        assert told.au_info() == FORK["au_info"]

    def test_summaries_that_are_all_broken_are_not_replaced(self, tmp_path: Path) -> None:
        told = analysis(tmp_path, FORK | {"summary_description": {"x": "A smile."}})
        assert refusal(told.descriptions)[0] == "no_au_description"

    def test_actions_of_each_frame(self, tmp_path: Path) -> None:
        text = "Lip corner puller (smile) (intensity: 2.40)"
        assert analysis(tmp_path, FORK).actions() == [
            Actions(0, 0.0, "", {}, False),
            Actions(10, 0.4, text, {"AU12": 2.4}, True),
        ]

    def test_actions_that_are_none_are_left_out(self, tmp_path: Path) -> None:
        aus = {"AU01_r": 1, "AU02": 1.0, "AU04_r": "1", "AU05_r": 9.0, "AU06_r": True, "x": 1}
        listed = [
            {"frame": 2, "timestamp": 10**400, "au_description": 5, "active_aus": aus},
            {"frame": 2, "timestamp": 0.04},
            {"frame": 0},
            {"frame": "3"},
            {"timestamp": 1.0},
            7,
        ]
        told = analysis(tmp_path, {"per_frame_au_descriptions": listed})
        assert told.actions() == [Actions(1, None, "", {"AU01": 1.0}, False)]
        assert analysis(tmp_path, {"per_frame_au_descriptions": {"1": {}}}).actions() == []


class TestUpstream:
    def test_an_au_analysis(self, tmp_path: Path) -> None:
        told = analysis(tmp_path, UPSTREAM)
        assert told.format == "upstream"
        assert told.emotion_peaks() == []
        assert told.peak_frame() is None
        assert told.actions() == []
        assert told.texts() == {"overall_peak_au_description": "Jaw drop (intensity: 1.39)"}

    def test_has_no_au_info_and_no_descriptions_and_says_whose_has(self, tmp_path: Path) -> None:
        told = analysis(tmp_path, UPSTREAM)
        for ask, expected in (
            (told.au_info, "no_au_info"),
            (told.descriptions, "no_au_description"),
        ):
            kind, message = refusal(ask)
            assert kind == expected
            assert "upstream MER-Factory never writes; analyse the clip with AffectGPT's" in message

    def test_emotion_peaks(self, tmp_path: Path) -> None:
        lines = [
            "Peak at 2.88s: angry (slight), contempt (strong)",
            "Peak at 12.00s: worried (moderate)",
            "neutral",
            "Peak at x: angry (slight)",
            None,
        ]
        told = analysis(tmp_path, UPSTREAM | {"chronological_emotion_peaks": lines})
        assert told.emotion_peaks() == [
            EmotionPeak(2.88, [("angry", "slight"), ("contempt", "strong")]),
            EmotionPeak(12.0, [("worried", "moderate")]),
        ]

    def test_a_peak_frame_counts_from_zero_here(self, tmp_path: Path) -> None:
        info = {"frame_number": 88, "timestamp": 3.48, "top_aus_intensities": {"AU26_r": 1.39}}
        told = analysis(tmp_path, {"overall_peak_frame_info": info})
        assert told.peak_frame() == PeakFrame(87, 3.48, {"AU26": 1.39})
        for broken in ({}, {"frame_number": "88"}, {"frame_number": 0}, [88], None):
            assert analysis(tmp_path, {"overall_peak_frame_info": broken}).peak_frame() is None

    @pytest.mark.parametrize(
        ("document", "form", "source", "texts"),
        [
            (  # 2025-06-24
                {"video_id": "a", "peak_au_text": "Blink", "llm_facial_summary": "Calm."},
                "upstream-early",
                "a",
                {"peak_au_text": "Blink", "llm_facial_summary": "Calm."},
            ),
            (
                {
                    "video_id": "a",
                    "source_video": "v/a.mp4",
                    "detected_emotions": ["happy"],
                    "peak_frame_info": {"frame_number": 3, "timestamp": 0.08},
                    "coarse_descriptions": {"visual_expression": "Blink", "audio_tone": "Soft."},
                    "final_summary": "Calm.",
                },
                "upstream-early",
                "v/a.mp4",
                {"visual_expression": "Blink", "audio_tone": "Soft.", "final_summary": "Calm."},
            ),
            (  # 2025-07-02
                {"video_id": "a", "chronological_emotion_peaks": ["neutral"]},
                "upstream-early",
                "a",
                {},
            ),
            (  # before 2025-07-04
                {"video_id": "a", "audio_analysis": {"transcript": "Oh.", "tone_description": ""}},
                "upstream-early",
                "a",
                {"transcript": "Oh."},
            ),
            (
                {"image_id": "a", "source_image": "a.png", "final_summary": "Calm."},
                "upstream-early",
                "a.png",
                {"final_summary": "Calm."},
            ),
            (  # today
                {"source_path": "/a.mp4", "audio_analysis": "A low voice."},
                "upstream",
                "/a.mp4",
                {"audio_analysis": "A low voice."},
            ),
            (
                {
                    "source_path": "/a.mp4",
                    "coarse_descriptions_at_peak": {
                        "visual_expression": "Blink",
                        "visual_objective": "N/A",
                        "audio_analysis": "A low voice.",
                        "video_content": "",
                    },
                    "ground_truth_label": "happy",
                },
                "upstream",
                "/a.mp4",
                {
                    "ground_truth_label": "happy",
                    "visual_expression": "Blink",
                    "audio_analysis": "A low voice.",
                },
            ),
        ],
    )
    def test_every_version(
        self, tmp_path: Path, document: Any, form: str, source: str, texts: dict[str, str]
    ) -> None:
        told = analysis(tmp_path, document)
        assert told.format == form
        assert told.source == source
        assert told.texts() == texts
        if "peak_frame_info" in document:
            assert told.peak_frame() == PeakFrame(2, 0.08, {})


class TestFiles:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    def test_an_encoding_that_shows_is_read(self, tmp_path: Path, encoding: str) -> None:
        text = json.dumps({"summary_description": {"1": "微笑 🙂"}}, ensure_ascii=False)
        told = analysis(tmp_path, text.encode(encoding))
        assert told.descriptions() == [Description(0, "微笑 🙂", "微笑 🙂")]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "cut short"),
            (b" \n", "cut short"),
            (b"\0" * 64, "cut short"),
            (json.dumps(FORK).encode()[:300], "cut short"),
            ('{"source_path": "微'.encode()[:-1], "cut short"),
            ('{"source_path": "惊讶"}'.encode("gbk"), "not UTF-8 at byte 17; .* iconv"),
            ('{"source_path": "é"}'.encode("cp1252"), "not UTF-8 at byte 17; .* iconv"),
            (b'{"source_path": "a"}}', "not JSON: Extra data"),
            (b"{'source_path': 'a'}", "not JSON: Expecting property name"),
            (b'{"source_path": "a", "source_path": "b"}', "'source_path' more than once"),
            (
                b'{"au_info": {"total_frames": 45' + b"9" * 5000 + b"}}",
                r"not JSON: .* \(4300 digits\)",
            ),
            (b'{"source_path": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
            (b"[]", "not an analysis by MER-Factory"),
            (b"null", "not an analysis by MER-Factory"),
            (b"{}", "not an analysis by MER-Factory"),
            (b'{"clip_0001": {"AU_list": []}}', "not an analysis by MER-Factory"),
        ],
    )
    def test_a_file_that_is_no_analysis_is_named_with_what_to_do(
        self, tmp_path: Path, content: bytes, why: str
    ) -> None:
        path = write(tmp_path / "a_au_analysis.json", content)
        kind, message = refusal(lambda: read(path))
        assert kind == "decode_error"
        assert re.search(why, message)

    @given(end=st.integers(0, len(json.dumps(FORK)) - 1))
    def test_every_cut_of_a_file_is_a_decode_error(
        self, tmp_path_factory: pytest.TempPathFactory, end: int
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "cut_au_analysis.json"
        write(path, json.dumps(FORK).encode()[:end])
        kind, message = refusal(lambda: read(path))
        assert kind == "decode_error"
        assert "run MER-Factory on this sample again" in message

    def test_a_file_that_is_not_there_or_is_a_folder(self, tmp_path: Path) -> None:
        assert refusal(lambda: read(tmp_path / "a.json"))[0] == "missing_file"
        (tmp_path / "b.json").mkdir()
        kind, message = refusal(lambda: read(tmp_path / "b.json"))
        assert (kind, message) == ("decode_error", "cannot be read: Is a directory")

    @given(
        document=st.recursive(
            st.none() | st.booleans() | st.integers(-5, 60) | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [*FORK, *UPSTREAM, *PEAK, "total_frames", "peak_frames", "frame", "1", "x"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=20,
        )
    )
    def test_whatever_a_file_holds_is_told_or_refused_by_kind(
        self, tmp_path_factory: pytest.TempPathFactory, document: Any
    ) -> None:
        path = write(tmp_path_factory.getbasetemp() / "any_au_analysis.json", document)
        told, kind = attempt(lambda: read(path))
        if told is None:
            assert kind == "decode_error"
            return
        told.actions(), told.emotion_peaks(), told.peak_frame(), told.texts(), told.unusable()
        info, kind = attempt(told.au_info)
        assert kind in {None, "no_au_info"}
        if info is not None:
            assert len(emotion_peak(info, 10**6)) == 8
        described, kind = attempt(told.descriptions)
        assert kind in {None, "no_au_description"}
        assert (kind is None) == bool(described)

    def test_an_analysis_can_be_pickled(self, tmp_path: Path) -> None:
        told = analysis(tmp_path, FORK)
        assert pickle.loads(pickle.dumps(told)) == told


class TestFolder:
    def tree(self, root: Path, *samples: str, run: str = "au_analysis") -> Path:
        for sample in samples:
            write(root / sample / f"{sample}_{run}.json", FORK)
        return root

    def test_samples_lie_in_folders_of_their_own(self, tmp_path: Path) -> None:
        self.tree(tmp_path, "b", "a", "-MeT_0")
        (tmp_path / "c").mkdir()
        (tmp_path / ".llm_cache").mkdir()
        write(tmp_path / "d_au_analysis.json", FORK)
        analyses = MerFactory(tmp_path)
        assert analyses.samples() == ["-MeT_0", "a", "b"]
        assert analyses.samples("merr_data") == []
        assert analyses.read("a").au_info() == FORK["au_info"]
        assert pickle.loads(pickle.dumps(analyses)).samples() == analyses.samples()

    @pytest.mark.parametrize(
        ("folder", "dataset"),
        [
            ("MER2023", "mer2023"),
            ("mer2023", "MER2023"),
            ("IEMOCAPFour", "iemocap"),
            ("IEMOCAP", "iemocapfour"),
            ("CMUMOSEI", "CMU-MOSEI"),
            ("SIMS", "CH-SIMS"),
            ("SIMSv2", "CH-SIMS v2"),
            ("OVMERDPlus", "OV-MERD+"),
            ("MERCaptionPlus", "mercaptionplus"),
        ],
    )
    def test_a_datasets_folder_has_any_of_its_spellings(
        self, tmp_path: Path, folder: str, dataset: str
    ) -> None:
        self.tree(tmp_path / folder, "a")
        self.tree(tmp_path / "OVMERD", "x")
        assert MerFactory(tmp_path, dataset).samples() == ["a"]
        assert MerFactory(tmp_path / folder, dataset).samples() == ["a"]
        assert MerFactory(tmp_path / folder).samples() == ["a"]

    def test_a_folder_in_one_of_the_same_name_comes_first(self, tmp_path: Path) -> None:
        self.tree(tmp_path / "mer2023/MER2023", "a")
        assert MerFactory(tmp_path / "mer2023", "mer2023").samples() == ["a"]

    def test_datasets_repeat_each_others_names(self, tmp_path: Path) -> None:
        self.tree(tmp_path / "SIMS", "video_0001_0001")
        other = FORK | {"au_info": {"total_frames": 9, "peak_frames": []}}
        write(tmp_path / "SIMSv2/video_0001_0001/video_0001_0001_au_analysis.json", other)
        totals = [
            MerFactory(tmp_path, dataset).read("video_0001_0001").au_info()["total_frames"]
            for dataset in ("sims", "simsv2")
        ]
        assert totals == [45, 9]

    def test_a_dataset_that_is_there_twice_or_not_at_all_is_named(self, tmp_path: Path) -> None:
        self.tree(tmp_path / "MER2023", "a")
        self.tree(tmp_path / "mer2023", "a")
        with pytest.raises(MerstoreError, match="mer2023 twice, as MER2023 and mer2023; keep one"):
            MerFactory(tmp_path, "mer2023")
        with pytest.raises(MerstoreError, match=r"meld among MER2023, mer2023; leave the dataset"):
            MerFactory(tmp_path, "meld")

    def test_a_root_that_is_none_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match="none: No such file or directory; name the folder"):
            MerFactory(tmp_path / "none")
        (tmp_path / "file").write_text("")
        with pytest.raises(MerstoreError, match="file: Not a directory; name the folder"):
            MerFactory(tmp_path / "file", "meld")

    def test_a_missing_sample_comes_with_the_reason_if_there_is_one(self, tmp_path: Path) -> None:
        self.tree(tmp_path, "b", run="merr_data")
        log = tmp_path / "error_logs/c_error.log"
        log.parent.mkdir()
        log.write_text(f"Error processing video: c\n{'=' * 20}\nOpenFace gave\nan empty CSV.\n")
        analyses = MerFactory(tmp_path)
        reasons = {
            "a": "no such file; run MER-Factory on this sample",
            "b": "no such file; MER-Factory was run for merr_data; run it with --type AU too",
            "c": "no such file; MER-Factory failed on this sample: OpenFace gave an empty CSV.",
            "x" * 300: "no such file; run MER-Factory on this sample",
            "n\0": "no such file; run MER-Factory on this sample",
        }
        for sample, reason in reasons.items():
            assert refusal(lambda sample=sample: analyses.read(sample)) == ("missing_file", reason)

    def test_a_broken_sample_spoils_no_other(self, tmp_path: Path) -> None:
        self.tree(tmp_path, "a", "c")
        write(tmp_path / "b/b_au_analysis.json", b'{"source_path": ')
        analyses = MerFactory(tmp_path)
        assert analyses.samples() == ["a", "b", "c"]
        kinds = [attempt(partial(analyses.read, sample))[1] for sample in analyses.samples()]
        assert kinds == [None, "decode_error", None]


CAPTIONS = {
    "MER2023": {"a": {"caption": "A smile, a soft voice.", "seconds": 2}, "b": {"caption": ""}},
    "CH-SIMS v2": {"a": {"caption": "Frowns."}, "c": "Frowns.", "d": {"caption": 7}},
    "IEMOCAP": {},
}


class TestNonverbal:
    def test_captions_by_any_spelling_of_the_dataset(self, tmp_path: Path) -> None:
        file = write(tmp_path / "captions.json", CAPTIONS)
        assert Nonverbal(file, "mer2023").caption("a") == "A smile, a soft voice."
        assert Nonverbal(file, "SIMSv2").caption("a") == "Frowns."
        assert Nonverbal(file, "MER2023").samples() == ["a"]
        assert Nonverbal(file, "simsv2").samples() == ["a"]
        assert Nonverbal(file, "IEMOCAPFour").samples() == []

    @pytest.mark.parametrize(("dataset", "sample"), [("mer2023", "b"), ("mer2023", "x")])
    def test_a_sample_without_one_is_no_nonverbal_text(
        self, tmp_path: Path, dataset: str, sample: str
    ) -> None:
        captions = Nonverbal(write(tmp_path / "captions.json", CAPTIONS), dataset)
        assert refusal(lambda: captions.caption(sample)) == (
            "no_nonverbal_text",
            f"no caption of {sample} in it",
        )

    @pytest.mark.parametrize(
        ("document", "why"),
        [
            (b'{"MER2023": {', "cut short.*get it anew"),
            ([], "a list, not an object with a key per dataset"),
            ({"MELD": {}, "SIMS": {}}, "no key for mer2023 among MELD, SIMS$"),
            ({}, "no key for mer2023 among none$"),
            ({"MER2023": []}, "MER2023 is a list, not an object with a key per sample"),
            ({"MER2023": {}, "mer2023": {}}, "mer2023 twice, as MER2023 and mer2023; keep one key"),
            (b'{"MER2023": {"a": {}, "a": {}}}', "key 'a' more than once"),
        ],
    )
    def test_a_file_that_holds_none_is_named(self, tmp_path: Path, document: Any, why: str) -> None:
        file = write(tmp_path / "captions.json", document)
        with pytest.raises(MerstoreError, match=rf"captions\.json: .*{why}"):
            Nonverbal(file, "mer2023")

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MerstoreError, match=r"none\.json: no such file; get it anew"):
            Nonverbal(tmp_path / "none.json", "mer2023")


@pytest.mark.shared
class TestSharedExamples:
    """The example documents, and what the fork's readers make of their variants for a clip of 45 frames."""

    PEAKED = (0, 8, 9, 10, 11, 12, 18, 31)

    @pytest.fixture
    def examples(self, shared: Path) -> Path:
        folder = shared / "data/mer-factory"
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
        return folder

    @pytest.mark.parametrize(
        ("variant", "frames", "described"),
        [
            ("dense_three_frames", (0, 0, 0, 1, 1, 1, 2, 2), [2]),
            ("empty_peak_frames", (0, 6, 12, 18, 25, 31, 37, 44), [1, 11, 36]),
            ("keys_need_int_sort", PEAKED, [1, 2, 10]),
            ("nested_summary_as_in_guide", PEAKED, "no_au_description"),
            ("no_au_info", "no_au_info", [1, 11, 36]),
            ("no_descriptions", PEAKED, "no_au_description"),
            ("only_fine_grained", PEAKED, [1, 11, 36]),
            ("peak_without_neighbour_counts", "no_au_info", [1, 11, 36]),
            ("upstream_only_keys", "no_au_info", "no_au_description"),
        ],
    )
    def test_variants(self, examples: Path, variant: str, frames: Any, described: Any) -> None:
        told = read(examples / "fork_variants" / f"{variant}.json")
        assert told.format == ("upstream" if variant == "upstream_only_keys" else "fork")
        if isinstance(frames, str):
            assert refusal(told.au_info)[0] == frames
        else:
            assert emotion_peak(told.au_info(), 45) == list(frames)
        if isinstance(described, str):
            assert refusal(told.descriptions)[0] == described
        else:
            assert [description.frame + 1 for description in told.descriptions()] == described
            assert not any("assistant" in description.text for description in told.descriptions())

    def test_the_truncated_variant(self, examples: Path) -> None:
        kind, message = refusal(lambda: read(examples / "fork_variants/truncated.json"))
        assert (kind, message[:9]) == ("decode_error", "cut short")

    def test_every_variant_is_in_the_table(self, examples: Path) -> None:
        assert len(list((examples / "fork_variants").iterdir())) == 9 + 1

    def test_the_forks_clip(self, examples: Path) -> None:
        analyses = MerFactory(examples / "fork", "mer2023")
        assert analyses.samples() == ["clip_0001"]
        told = analyses.read("clip_0001")
        assert emotion_peak(told.au_info(), 45) == list(self.PEAKED)
        assert [actions.frame for actions in told.actions()] == [0, 10, 35]
        assert told.actions()[1].is_peak
        assert told.actions()[1].active == {"AU06": 1.9, "AU12": 2.4, "AU14": 1.3, "AU25": 0.9}
        assert told.descriptions()[0].text.startswith("The face is at rest")

    def test_upstreams_clip(self, examples: Path) -> None:
        analyses = MerFactory(examples / "upstream")
        assert analyses.samples() == analyses.samples("merr_data") == ["clip_0001"]
        assert refusal(analyses.read("clip_0001").au_info)[0] == "no_au_info"
        told = analyses.read("clip_0001", "merr_data")
        active = {"AU06": 1.9, "AU12": 2.4, "AU14": 1.3, "AU25": 0.9}
        assert told.peak_frame() == PeakFrame(10, 0.4, active)
        assert told.emotion_peaks() == [
            EmotionPeak(0.4, [("happy", "moderate"), ("contempt", "slight")])
        ]
        assert set(told.texts()) == {
            "visual_expression", "visual_objective", "audio_analysis", "video_content",
            "final_summary", "ground_truth_label",
        }  # fmt: skip
        spoken = analyses.read("clip_0001", "audio_analysis").texts()["audio_analysis"]
        assert spoken == told.texts()["audio_analysis"]
        seen = analyses.read("clip_0001", "video_analysis").texts()["llm_video_summary"]
        assert seen == told.texts()["video_content"]
