"""What is odd about samples: recorded beside their features, asked for by flag."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import merstore
from merstore.errors import CorruptEntry, InvalidKey, InvalidTensor, MerstoreError, StaleView
from merstore.quality import FLAGS, MEDIA, Quality
from merstore.store.quality import Qualities, pack, quality_view
from merstore.store.store import Store

Records = dict[str, dict[str, Quality]]


def record(store: Store, medium: str, **samples: tuple[list[str], dict[str, Any]]) -> None:
    view = quality_view(store, "demo", medium)
    view.update({name: pack(flags, facts) for name, (flags, facts) in samples.items()})


def test_records_come_back_by_sample_and_medium(store: Store) -> None:
    record(store, "audio", b=(["silent"], {"content": "00", "rate": 16000}), a=([], {}))
    record(store, "video", b=(["rotated", "edit_list"], {"文": 1.5}))
    qualities = store.quality("demo")
    assert list(qualities) == ["a", "b"]
    assert qualities["b"] == {
        "video": Quality(("edit_list", "rotated"), {"文": 1.5}),
        "audio": Quality(("silent",), {"content": "00", "rate": 16000}),
    }
    assert qualities["a"] == {"audio": Quality((), {})}
    assert list(store.quality("demo", flags=["silent"])) == ["b"]


def test_they_are_views_of_json_like_any_other(store: Store) -> None:
    record(store, "text", a=(["empty_text"], {"characters": 0}))
    view = store["demo/quality/text"]
    assert (str(view.dtype), view.shape) == ("uint8", (None,))
    assert view.spec == {"kind": "quality", "version": 1, "encoding": "JSON, UTF-8"}
    assert json.loads(view["a"].tobytes()) == {"flags": ["empty_text"], "facts": {"characters": 0}}
    assert quality_view(store, "demo", "text").path == view.path
    assert not list(store.verify())


def test_samples_by_flag_and_without_it(store: Store) -> None:
    record(store, "audio", a=(["silent"], {}), b=([], {}), c=(["clipped", "silent"], {}))
    record(store, "video", b=(["rotated"], {}), d=([], {}))
    qualities = store.quality("demo")
    assert qualities.names("silent") == ["a", "c"]
    assert qualities.names("rotated", "clipped") == ["b", "c"]
    assert qualities.without("silent") == ["b", "d"]
    assert qualities.without("silent", among=["unheard", "c", "b", "a"]) == ["unheard", "b"]
    assert qualities.names("no_face") == []
    assert qualities.counts() == {"clipped": 1, "rotated": 1, "silent": 2}


def test_a_flag_that_nobody_knows_is_an_error_and_one_of_your_own_is_known(store: Store) -> None:
    record(store, "video", a=(["my_flag"], {}))
    qualities = store.quality("demo")
    assert qualities.names("my_flag") == ["a"]
    with pytest.raises(
        MerstoreError, match=r"no flag 'silnt'; there is absurd_duration, .*my_flag"
    ):
        qualities.without("silnt")
    assert set(qualities.known()) == {*FLAGS, "my_flag", "duplicate"}


def test_duplicates_are_groups_of_equal_content_and_all_but_the_first_of_each(store: Store) -> None:
    one, two = {"content": "01"}, {"content": "02"}
    record(store, "video", c=([], one), a=([], one), b=([], two), d=([], one))
    record(store, "audio", b=([], one), e=([], one))
    record(store, "text", a=([], one), b=([], one))
    qualities = store.quality("demo")
    assert qualities.duplicates() == {
        "video": [["a", "c", "d"]],
        "audio": [["b", "e"]],
        "text": [["a", "b"]],  # the same words are no duplicated clip
    }
    assert qualities.names("duplicate") == ["c", "d", "e"]
    assert qualities.without("duplicate") == ["a", "b"]
    assert qualities.counts() == {"duplicate": 3}


def test_of_duplicates_the_first_of_those_that_are_asked_for_stays(store: Store) -> None:
    one = {"content": "01"}
    record(store, "video", a=([], one), b=([], one), c=([], one))
    record(store, "text", a=(["failed_text"], {}))
    qualities = store.quality("demo")
    assert qualities.without("duplicate", among=["c", "b"]) == ["b"]
    assert qualities.without("duplicate", "failed_text") == ["b"]


def test_nothing_is_no_duplicate_of_nothing(store: Store) -> None:
    one = {"content": "01"}
    record(store, "audio", a=(["silent"], one), b=(["silent"], one))
    record(store, "face", a=(["no_face"], one), b=(["no_face"], one))
    record(store, "video", a=(["unreadable"], {}), b=(["unreadable"], {}))
    assert store.quality("demo").duplicates() == {}
    assert store.quality("demo").names("duplicate") == []


names = st.sampled_from("abcdefgh")
found = st.builds(
    lambda flags, content: Quality(tuple(sorted(flags)), {"content": content}),
    st.sets(st.sampled_from(["silent", "clipped", "rotated"])),
    st.sampled_from("123"),
)


@given(
    st.dictionaries(names, st.dictionaries(st.sampled_from(MEDIA), found)),
    st.lists(names, unique=True),
    st.sets(st.sampled_from(["silent", "clipped", "rotated", "duplicate"])),
)
def test_what_is_left_is_what_a_plain_loop_leaves(
    records: Records, among: list[str], flags: set[str]
) -> None:
    left = []
    for name in among:
        media = records.get(name, {})
        if not any(flag in flags for each in media.values() for flag in each.flags):
            left.append(name)
    if "duplicate" in flags:

        def clips(name: str) -> set[tuple[str, str]]:
            return {
                (medium, each.facts["content"])
                for medium, each in records.get(name, {}).items()
                if medium != "text" and "silent" not in each.flags
            }

        left = [
            name
            for name in left
            if not any(clips(other) & clips(name) for other in left if other < name)
        ]
    qualities = Qualities("demo", records)
    assert qualities.without(*flags, among=among) == left
    assert set(qualities.names(*flags)) == set(records) - set(qualities.without(*flags))


@pytest.mark.parametrize("flags", [["no audio"], [""], ["Silent"], ["duplicate"]])
def test_what_is_no_flag_is_not_recorded(flags: list[str]) -> None:
    with pytest.raises(InvalidTensor, match="no flag of a sample"):
        pack(flags, {})


@pytest.mark.parametrize("facts", [{"rate": math.nan}, {"path": object()}, {"rate": np.int64(3)}])
def test_facts_are_json_values(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidTensor, match="no JSON values"):
        pack([], facts)


def test_a_medium_or_dataset_without_records(store: Store) -> None:
    with pytest.raises(MerstoreError, match="quality is recorded of video, audio, face, text"):
        quality_view(store, "demo", "au")
    with pytest.raises(InvalidKey):
        quality_view(store, "de mo", "video")
    with pytest.raises(merstore.UnknownView, match="no records of quality of demo"):
        store.quality("demo")


def test_records_of_another_version_and_damaged_ones_are_not_served(store: Store) -> None:
    view = quality_view(store, "demo", "video")
    for entry in (
        b"[]",
        b"{",
        b'{"flags": []}',
        b'{"flags": 3, "facts": {}}',
        b'{"flags": [], "facts": 1}',
    ):
        view["a"] = np.frombuffer(entry, np.uint8)
        with pytest.raises(CorruptEntry, match="demo/quality/video/a is no record"):
            store.quality("demo")
    store.create_view("other/quality/video", dtype="uint8", shape=(None,), spec={"version": 2})
    with pytest.raises(StaleView):
        store.quality("other")
