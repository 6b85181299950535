"""Specs: equal declarations have equal fingerprints, on every machine."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore import InvalidTensor, SpecMismatch
from merstore.store.spec import canonical, check_shape, differences, fingerprint

_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
specs = st.dictionaries(_texts, values, max_size=5)


@given(specs)
def test_the_order_of_keys_does_not_matter(spec: dict[str, Any]) -> None:
    turned = dict(reversed(spec.items()))
    assert canonical(turned) == canonical(spec)
    assert fingerprint(turned) == fingerprint(spec)


@given(specs)
def test_it_survives_json(spec: dict[str, Any]) -> None:
    """What is stored has the fingerprint of what was declared."""
    stored = json.loads(canonical(spec))
    assert canonical(stored) == canonical(spec)
    assert fingerprint(json.loads(json.dumps(stored))) == fingerprint(spec)


@given(specs, specs)
def test_other_specs_have_other_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = canonical(one) == canonical(other)
    assert (fingerprint(one) == fingerprint(other)) == same
    assert (differences(one, other) == []) <= (one == other)


def test_the_canonical_text() -> None:
    spec = {"n": 8, "rule": "uniform", "mean": (0.5, 1), "ö": {"b": None, "a": True}}
    assert canonical(spec) == '{"mean":[0.5,1],"n":8,"rule":"uniform","ö":{"a":true,"b":null}}'


def test_a_known_fingerprint() -> None:
    # SHA-256 of {} and of {"n":8}, by sha256sum
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert (
        fingerprint({"n": 8}) == "b300633032f2001b3ee950efc80290f4ad20b887fadc76c19af57774ad110354"
    )


def test_tuples_are_lists_and_any_mapping_will_do() -> None:
    assert canonical(MappingProxyType({"size": (224, 224)})) == canonical({"size": [224, 224]})


def test_number_keys_are_text() -> None:
    """JSON knows no others; the order is that of the text."""
    assert canonical({10: "a", 9: "b"}) == '{"10":"a","9":"b"}'


@pytest.mark.parametrize(
    "spec",
    [
        {"a": float("nan")}, {"a": float("inf")}, {"a": object()}, {"a": b"bytes"}, {"a": {1, 2}},
        {"a": "\udcff"}, {("a",): 1}, {"a": complex(1)},
    ],
)  # fmt: skip
def test_what_json_cannot_hold_is_refused(spec: dict[Any, Any]) -> None:
    with pytest.raises(SpecMismatch, match="JSON"):
        canonical(spec)


@pytest.mark.parametrize("spec", [["n", 8], "n=8", 8, None])
def test_a_spec_is_a_mapping(spec: object) -> None:
    with pytest.raises(SpecMismatch, match="mapping"):
        canonical(spec)  # type: ignore[arg-type]


def test_a_spec_within_itself_is_refused() -> None:
    spec: dict[str, Any] = {}
    spec["self"] = spec
    with pytest.raises(SpecMismatch):
        canonical(spec)


def test_differences_say_where() -> None:
    one = {"sampling": {"n": 8, "rule": "uniform"}, "encoder": "a", "old": 1}
    other = {"sampling": {"n": 16, "rule": "uniform"}, "encoder": "a", "new": None}
    assert differences(one, other) == [
        "new: (absent) against None",
        "old: 1 against (absent)",
        "sampling.n: 8 against 16",
    ]


@pytest.mark.parametrize("shape", [(), (8, 768), (None, 1024), (None,), [3], (1, 2, 3, 4, 5, 6)])
def test_shapes_of_views(shape: Any) -> None:
    assert check_shape(shape) == tuple(shape)


@pytest.mark.parametrize(
    "shape",
    [
        (0,),
        (-1,),
        (8, None),
        (None, None),
        (1,) * 7,
        5,
        None,
        ("a",),
        (None, 0),
        (1 << 20, 1 << 12),
    ],
)
def test_other_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(InvalidTensor):
        check_shape(shape)
