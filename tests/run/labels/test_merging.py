"""Clues and subtitles merged."""

import pytest

from merstore.errors import MerstoreError, MissingEntry
from merstore.run.labels import Endpoint, Rule, merge
from merstore.run.labels.prompts import NOTHING_TO_GO_BY
from merstore.store.store import Store

from .server import Server, says


@pytest.fixture
def endpoint(server: Server) -> Endpoint:
    server.always = lambda message: says(f"It follows.\n{message}")
    return Endpoint(server.url, "model", together=1)


def test_the_model_is_asked_about_clues_and_subtitle(endpoint: Endpoint, server: Server) -> None:
    found = merge({"a": "a frown {subtitle}"}, {"a": "Well, {text}!", "b": "more"}, endpoint)
    (request,) = server.requests
    message = request["messages"][0]["content"]
    assert "a frown {subtitle}" in message
    assert "Well, {text}!" in message
    assert found.answers["a"].startswith("It follows.")
    assert "\n" not in found.answers["a"]


def test_without_clues_it_is_asked_about_the_subtitle_alone(
    endpoint: Endpoint, server: Server
) -> None:
    merge({"a": "", "b": "a frown"}, {"a": "Well!", "b": "Well!"}, endpoint)
    alone, both = (request["messages"][0]["content"] for request in server.requests)
    assert "Well!" in alone
    assert "Clues" not in alone
    assert "Clues" in both


@pytest.mark.parametrize("nothing", ["", " ", float("nan"), None])
def test_without_a_subtitle_the_clues_stay_as_they_are(
    endpoint: Endpoint, server: Server, nothing: object
) -> None:
    found = merge({"a": "a frown", "b": nothing}, {"a": nothing, "b": nothing}, endpoint)
    assert found.answers == {"a": "a frown", "b": NOTHING_TO_GO_BY}
    assert found.empty == ["a", "b"]
    assert server.requests == []


def test_the_order_is_that_of_the_clues_and_answers_are_kept(
    endpoint: Endpoint, server: Server, store: Store
) -> None:
    clues = {"b": "one", "a": "two", "c": "three"}
    subtitles = {"a": "", "b": "x", "c": "y"}
    found = merge(clues, subtitles, endpoint, store)
    assert list(found.answers) == ["b", "a", "c"]
    assert merge(clues, subtitles, endpoint, store).answers == found.answers
    assert len(server.requests) == 2


def test_names_without_any_subtitle_are_listed(endpoint: Endpoint) -> None:
    with pytest.raises(MissingEntry, match=r"2 of 3 samples.*: b, c;"):
        merge({"a": "x", "b": "x", "c": "x"}, {"a": "y"}, endpoint)


def test_it_takes_a_language_model(rule: Rule) -> None:
    with pytest.raises(MerstoreError, match="needs a language model"):
        merge({"a": "x"}, {"a": ""}, rule)
