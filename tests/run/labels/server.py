"""An endpoint on this machine that says what it is told to."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Reply:
    """``body`` None cuts the connection; ``hold`` keeps it open without a word until the end."""

    status: int = 200
    body: str | None = ""
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False


def says(content: Any) -> Reply:
    """A chat completion."""
    return Reply(200, json.dumps({"choices": [{"message": {"content": content}}]}))


class Server:
    """``replies``: what is answered, in turn; then ``always`` is asked, with the message."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.always: Callable[[str], Reply] = lambda message: says("[happy]")
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    reply = outer.replies.pop(0) if outer.replies else None
                reply = reply or outer.always(body["messages"][0]["content"])
                if reply.hold:
                    outer._over.wait()
                if reply.hold or reply.body is None:
                    self.close_connection = True
                    return
                data = reply.body.encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
