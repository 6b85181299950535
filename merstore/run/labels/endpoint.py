"""Language models behind an endpoint."""

import json
import os
import random
import re
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from merstore._version import __version__
from merstore.errors import MerstoreError
from merstore.extract.models import first_line
from merstore.extract.reading import Refusal
from merstore.run.decoding import GREEDY, Decoding
from merstore.run.labels.backend import NO_ANSWER, SAID_NOTHING, LanguageModel
from merstore.run.labels.prompts import clean

_RETRIED = {408: "timeout", 429: "rate_limited"}  # and 5xx
_HOPELESS = {
    401: "the key in OPENAI_API_KEY is missing or not accepted",
    402: "the account has nothing left",
    403: "the key in OPENAI_API_KEY is not allowed to",
    404: "no such path or model: the URL ends in /v1 as a rule",
}
_MAX_ANSWER = 16 << 20
_MAX_WAIT = 60.0
_SHOWN = 200


class Endpoint(LanguageModel):
    """A chat endpoint that speaks OpenAI's protocol, such as vLLM's, llama.cpp's or a provider's.

    ``url``: up to ``/chat/completions``, such as ``http://127.0.0.1:8000/v1``. The key, where one is
    needed, is that in the environment's OPENAI_API_KEY. ``timeout``: seconds without a sign of life.

    A time-out, too many requests, a server's error, and an answer that is none are tried again,
    ``attempts`` times in all, after waiting twice as long each time (or what the server asks for, up
    to a minute); then the message has a Refusal. What it says of the message itself (400, 413, 422)
    is one at once. Raises MerstoreError where nothing answers at the URL, or not securely, or it
    refuses whatever it is asked; and where urllib3 is not installed.
    """

    batch = 32

    def __init__(
        self,
        url: str,
        model: str,
        decoding: Decoding = GREEDY,
        *,
        timeout: float = 60.0,
        attempts: int = 6,
        together: int = 8,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__(decoding)
        try:
            import urllib3
        except ModuleNotFoundError:
            raise MerstoreError(
                "--backend openai needs urllib3: pip install 'merstore[api]'"
            ) from None
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MerstoreError(f"{url}: no URL of an endpoint, such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise MerstoreError("no password in the URL: put the key into OPENAI_API_KEY")
        self.asked_for = model
        self.name = re.sub(r"[^\w.+-]", "-", model.split("/")[-1], flags=re.ASCII).lstrip("._+-")
        if not self.name:
            raise MerstoreError(f"{model!r}: no name of a model")
        self._attempts = attempts
        self._together = together
        self._wait = wait
        self._headers = {
            "User-Agent": f"merstore/{__version__}",
            "Content-Type": "application/json",
        }
        if key := os.environ.get("OPENAI_API_KEY"):
            self._headers["Authorization"] = f"Bearer {key}"
        self._http = urllib3.PoolManager(
            maxsize=together, retries=False, timeout=urllib3.Timeout(connect=timeout, read=timeout)
        )

    def model(self) -> dict[str, Any]:
        return {"backend": "openai", "model": self.asked_for, "url": self.url}

    def answer(self, task: str, messages: Sequence[str]) -> list[str | Refusal]:
        todo: SimpleQueue[int] = SimpleQueue()
        for row in range(len(messages)):
            todo.put(row)
        found: dict[int, str | Refusal] = {}
        errors: list[Exception] = []
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    row = todo.get_nowait()
                    found[row] = self._ask(messages[row], stop)
            except Empty:
                pass
            except Exception as error:  # noqa: BLE001  (the caller's thread raises it)
                errors.append(error)
                stop.set()

        # daemons, so that Ctrl-C need not wait for what an endpoint still has to say
        threads = [
            threading.Thread(target=work, name="merstore-ask", daemon=True)
            for _ in range(min(self._together, len(messages)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            stop.set()
        if errors:
            raise errors[0]
        return [found[row] for row in range(len(messages))]

    def _ask(self, message: str, stop: threading.Event) -> str | Refusal:
        how = self.decoding
        body: dict[str, Any] = {
            "model": self.asked_for,
            "messages": [{"role": "user", "content": message}],
            "temperature": how.temperature,
            "top_p": how.top_p,
            "max_tokens": how.max_tokens,
            "seed": how.seed_of(message) >> 32,  # servers differ in how large a seed they take
        }
        if how.repetition_penalty != 1:  # vLLM's and others', not OpenAI's own
            body["repetition_penalty"] = how.repetition_penalty
        data = json.dumps(body).encode()
        jitter = random.Random(message)
        wait = stop.wait if self._wait is None else self._wait
        found: _Reply | str = ""
        for attempt in range(self._attempts):
            if attempt:
                asked = found.after if isinstance(found, _Reply) else 0.0
                grown = 2.0 ** (attempt - 1) * jitter.uniform(0.5, 1.0)
                wait(min(_MAX_WAIT, max(asked, grown)))
                if stop.is_set():
                    break
            found = self._once(data)
            if isinstance(found, str):
                return found
            if not found.again:
                break
        assert isinstance(found, _Reply)
        if found.hopeless:
            raise MerstoreError(f"{self.url}: {found.refusal.message}")
        return found.refusal

    def _once(self, data: bytes) -> "_Reply | str":
        import urllib3

        try:
            reply = self._http.request(
                "POST",
                f"{self.url}/chat/completions",
                body=data,
                headers=self._headers,
                preload_content=False,
                redirect=False,
            )
            content = reply.read(_MAX_ANSWER, decode_content=True)
            if len(content) < _MAX_ANSWER:
                reply.release_conn()
            else:
                reply.close()
        except urllib3.exceptions.NewConnectionError as error:
            return _Reply("unreachable", f"nothing answers there: {error}", hopeless=True)
        except urllib3.exceptions.SSLError as error:
            told = f"no secure connection: {first_line(error)}: is it http, or its certificate unknown?"
            return _Reply("unreachable", told, hopeless=True)
        except urllib3.exceptions.TimeoutError as error:
            return _Reply("timeout", f"no answer in time: {error}")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return _Reply("server_error", f"the connection broke: {first_line(error)}")
        told = " ".join(content[:_SHOWN].decode(errors="replace").split())
        status = reply.status
        if status in _HOPELESS:
            return _Reply(
                "refused", f"{status}, {_HOPELESS[status]}: {told}", again=False, hopeless=True
            )
        if status in _RETRIED or status >= 500:
            kind = _RETRIED.get(status, "server_error")
            return _Reply(
                kind, f"{status}: {told}", after=_seconds(reply.headers.get("Retry-After"))
            )
        if status != 200:
            return _Reply("refused", f"{status}: {told}", again=False)
        try:
            answer = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return _Reply("bad_answer", f"no chat completion: {told}")
        if not isinstance(answer, str | None) or not _is_utf8(answer or ""):
            return _Reply("bad_answer", f"its content is no text: {told}")
        return answer if answer and clean(answer) else _Reply(NO_ANSWER, SAID_NOTHING)


class _Reply:
    """Why an attempt failed, and what to do: try again, ``after`` seconds at the earliest; or, where
    it is ``hopeless`` to the last, ask nothing more at all.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        after: float = 0.0,
        again: bool = True,
        hopeless: bool = False,
    ) -> None:
        self.refusal = Refusal(kind, message)
        self.after = after
        self.again = again
        self.hopeless = hopeless


def _is_utf8(text: str) -> bool:
    """JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seconds(header: str | None) -> float:
    """A Retry-After in seconds; a date counts as none."""
    try:
        return min(max(float(header or 0), 0.0), _MAX_WAIT)
    except ValueError:
        return 0.0
