"""Asking an endpoint that is slow, busy, broken or not there."""

import socket
from typing import Any

import pytest

from merstore.errors import MerstoreError
from merstore.run.labels import PUBLISHED, Decoding, Endpoint, Refusal, extract
from merstore.store.store import Store

from .server import Reply, Server, says


class Waits(list[float]):
    """Instead of waiting, writes down for how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def endpoint(server: Server, waits: Waits) -> Endpoint:
    return Endpoint(server.url, "org/some model", wait=waits)


def ask(endpoint: Endpoint, *messages: str) -> list[Any]:
    return list(endpoint.answer("openset", messages or ["hello"]))


class TestRequests:
    def test_a_message_is_one_turn_of_a_chat(self, endpoint: Endpoint, server: Server) -> None:
        assert ask(endpoint, "How are you? 你好") == ["[happy]"]
        (request,) = server.requests
        assert request["model"] == "org/some model"
        assert request["messages"] == [{"role": "user", "content": "How are you? 你好"}]
        assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0, 1, 512)
        assert "repetition_penalty" not in request  # OpenAI's own endpoint refuses it
        assert server.paths == ["/v1/chat/completions"]

    def test_answers_come_in_the_order_of_the_messages(
        self, endpoint: Endpoint, server: Server
    ) -> None:
        server.always = says
        messages = [str(n) for n in range(50)]
        assert ask(endpoint, *messages) == messages

    def test_the_published_settings_are_sent_with_a_seed_of_each_message(
        self, server: Server
    ) -> None:
        for seed in (0, 0, 1):
            settings = Decoding(0.7, 0.8, 1.05, seed=seed)
            ask(Endpoint(server.url, "m", settings), "one", "two")
        told = {(each["seed"], each["messages"][0]["content"]) for each in server.requests}
        assert len(server.requests) == 6
        assert len(told) == len({seed for seed, _ in told}) == 4
        first = server.requests[0]
        assert (first["temperature"], first["top_p"], first["repetition_penalty"]) == (
            PUBLISHED.temperature,
            PUBLISHED.top_p,
            PUBLISHED.repetition_penalty,
        )

    def test_the_key_is_sent_and_not_kept(
        self, server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        found = extract({"a": "text"}, Endpoint(server.url, "m"), store=store)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
        assert "secret" not in str(store[str(found.view)].spec)

    def test_without_a_key_none_is_sent(self, endpoint: Endpoint, server: Server) -> None:
        ask(endpoint)
        assert "Authorization" not in server.headers[0]

    @pytest.mark.parametrize("ending", ["", "/", "/chat/completions"])
    def test_a_url_may_end_as_people_write_it(self, server: Server, ending: str) -> None:
        assert ask(Endpoint(server.url + ending, "m")) == ["[happy]"]

    @pytest.mark.parametrize("url", ["localhost:8000", "file:///etc", "http://", "http://a:b@c/v1"])
    def test_another_url_is_refused(self, url: str) -> None:
        with pytest.raises(MerstoreError, match=r"endpoint|OPENAI_API_KEY"):
            Endpoint(url, "m")


PASSING = {
    "timeout": Reply(hold=True),
    "rate limit": Reply(429, "slow down"),
    "server error": Reply(500, "oops"),
    "overload": Reply(503, "<html>busy</html>"),
    "cut": Reply(body=None),
    "a page": Reply(200, "<html>welcome</html>"),
    "nothing at all": Reply(200, ""),
    "no text": Reply(200, "\ufffd{"),
    "other JSON": Reply(200, "[]"),
    "no choices": Reply(200, '{"choices": []}'),
    "a number": says(7),
    "half a character": Reply(200, r'{"choices": [{"message": {"content": "[sad] \ud83d"}}]}'),
    "null": says(None),
    "an empty answer": says(""),
    "a blank answer": says("\n Output: \n"),
}
KINDS = {
    "timeout": "timeout",
    "rate limit": "rate_limited",
    "server error": "server_error",
    "overload": "server_error",
    "cut": "server_error",
    "null": "no_answer",
    "an empty answer": "no_answer",
    "a blank answer": "no_answer",
}


class TestTrouble:
    @pytest.mark.parametrize("trouble", PASSING)
    def test_what_may_pass_is_tried_again(self, server: Server, waits: Waits, trouble: str) -> None:
        endpoint = Endpoint(server.url, "m", wait=waits, timeout=0.3)
        server.replies = [PASSING[trouble], PASSING[trouble], says("[sad]")]
        assert ask(endpoint) == ["[sad]"]
        assert len(waits) == 2

    @pytest.mark.parametrize("trouble", PASSING)
    def test_what_does_not_pass_is_a_refusal_of_its_kind(
        self, server: Server, waits: Waits, trouble: str
    ) -> None:
        endpoint = Endpoint(server.url, "m", wait=waits, timeout=0.1, attempts=3)
        server.always = lambda message: PASSING[trouble]
        (refusal,) = ask(endpoint)
        assert isinstance(refusal, Refusal)
        assert refusal.kind == KINDS.get(trouble, "bad_answer")
        assert len(server.requests) == 3

    def test_the_waits_grow(self, endpoint: Endpoint, server: Server, waits: Waits) -> None:
        server.always = lambda message: Reply(500)
        ask(endpoint)
        assert len(waits) == 5
        assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(waits))

    @pytest.mark.parametrize(
        ("header", "at_least", "at_most"),
        [("7", 7, 7), ("0.5", 0.5, 1), ("99999", 60, 60), ("-3", 0, 1), ("Fri, 1 Jan", 0, 1)],
    )
    def test_the_server_says_how_long_within_reason(
        self,
        endpoint: Endpoint,
        server: Server,
        waits: Waits,
        header: str,
        at_least: float,
        at_most: float,
    ) -> None:
        server.replies = [Reply(429, headers={"Retry-After": header})]
        assert ask(endpoint) == ["[happy]"]
        assert at_least <= waits[0] <= at_most

    @pytest.mark.parametrize("status", [400, 413, 422, 301])
    def test_a_message_that_is_refused_is_not_sent_again(
        self, endpoint: Endpoint, server: Server, status: int
    ) -> None:
        server.replies = [Reply(status, '{"error": "context length exceeded"}')]
        (refusal,) = ask(endpoint)
        assert refusal.kind == "refused"
        assert f"{status}: " in refusal.message
        assert "context length" in refusal.message
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("status", "advice"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "/v1")]
    )
    def test_an_endpoint_that_refuses_whatever_is_asked_stops_the_run(
        self, server: Server, waits: Waits, store: Store, status: int, advice: str
    ) -> None:
        endpoint = Endpoint(server.url, "m", wait=waits)
        server.always = lambda message: Reply(status, "no such model")
        with pytest.raises(MerstoreError, match=advice) as caught:
            extract({str(n): f"text {n}" for n in range(100)}, endpoint, store=store)
        assert server.url in str(caught.value)
        assert "no such model" in str(caught.value)
        assert len(server.requests) <= endpoint.batch
        assert not any(store.failures(path) for path in store.views())

    def test_where_nothing_listens_the_run_stops(self, waits: Waits) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "m", wait=waits, attempts=2)
        with pytest.raises(MerstoreError, match="nothing answers there"):
            ask(endpoint)
        assert len(waits) == 1

    def test_where_no_secure_connection_is_to_be_had_the_run_stops(
        self, server: Server, waits: Waits
    ) -> None:
        url = server.url.replace("http:", "https:")
        endpoint = Endpoint(url, "m", wait=waits, attempts=2)
        with pytest.raises(MerstoreError, match=r"no secure connection: .*is it http"):
            ask(endpoint)
        assert len(waits) == 1

    def test_a_refusal_is_a_failure_record_that_keeps_the_others(
        self, server: Server, waits: Waits, store: Store
    ) -> None:
        endpoint = Endpoint(server.url, "m", wait=waits, attempts=2)
        server.always = lambda message: Reply(502) if "text b" in message else says("[calm]")
        texts = {"a": "text a", "b": "text b"}
        found = extract(texts, endpoint, store=store)
        assert found.answers == {"a": "[calm]"}
        assert found.failed["b"].kind == "server_error"
        asked = len(server.requests)
        assert extract(texts, endpoint, store=store).failed == found.failed
        assert len(server.requests) == asked
        server.always = lambda message: says("[calm]")
        again = extract(texts, endpoint, store=store, retry_failed=True)
        assert (again.answers, again.asked) == ({"a": "[calm]", "b": "[calm]"}, 1)
