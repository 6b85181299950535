"""Runs a model's adapter in an environment of its own; `foreign` starts it and talks to it.

Started as ``python host.py ADAPTER``. It knows nothing of merstore and needs Python 3.8 and its
standard library alone. A line of JSON comes in, a line goes out:

* first, unasked, once the adapter is imported: ``{"needs": [...], "versions": {...}}``;
* for ``{"load": OPTIONS}``: ``{"loaded": true}``;
* for ``{"ask": SAMPLE}``: ``{"answer": TEXT}``, ``{"bad": TYPE}`` where the adapter gives no text,
  or ``{"error": MESSAGE}`` where it raises.

What fails before a sample is asked about ends the program, and standard error says why.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import random
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import IO, Any, NoReturn

NEEDS = ("frames", "sound")
PACKAGES = ("torch", "transformers")  # whose versions are told
_LOOK = 1.0  # seconds between two looks at whether the parent is still there


def main() -> None:
    requests, replies = _lines()
    adapter = _imported(sys.argv[1])
    _say(replies, {"needs": _needs(adapter), "versions": _versions()})
    options: dict[str, Any] = {}
    model = None
    while True:
        request = json.loads(requests.get())
        if "load" in request:
            options = request["load"]
            model = adapter.load(dict(options))
            _say(replies, {"loaded": True})
        else:
            _say(replies, _answer(adapter, model, dict(request["ask"], options=dict(options))))


def _lines() -> tuple[queue.Queue[bytes], IO[bytes]]:
    """What comes in, line by line, and where replies go. Nothing that an adapter prints or reads,
    nor a program that it starts, meets either.
    """
    incoming, replies = os.dup(0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):  # a print must not fail, whatever the locale
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    return requests, replies


def _listen(incoming: int, requests: queue.Queue[bytes]) -> None:
    with os.fdopen(incoming, "rb") as lines:
        for line in lines:
            requests.put(line)
    _end()


def _watch(parent: int) -> None:
    """A process that was forked off the parent may hold its end of the pipe open for ever."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    _end()


def _end() -> NoReturn:
    """There is nobody to answer: end at once, and with this whatever the adapter has started."""
    if os.getpgrp() == os.getsid(0):  # the session that was begun for this program
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _imported(path: str) -> ModuleType:
    folder, own = os.path.dirname(path), os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder] + [entry for entry in sys.path if entry not in ("", own)]
    sys.argv[:] = [path]
    spec = importlib.util.spec_from_file_location("adapter", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: an adapter is a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["adapter"] = module
    spec.loader.exec_module(module)
    for name in ("load", "answer"):
        if not callable(getattr(module, name, None)):
            raise SystemExit(f"the adapter has no function {name}")
    return module


def _needs(adapter: ModuleType) -> list[str]:
    named = getattr(adapter, "NEEDS", ())
    needs = [named] if isinstance(named, str) else list(named)
    for each in needs:
        if each not in NEEDS:
            raise SystemExit(f"the adapter's NEEDS names {each!r}; there is {', '.join(NEEDS)}")
    return needs


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _answer(adapter: ModuleType, model: Any, sample: dict[str, Any]) -> dict[str, str]:
    _seed(sample["seed"])
    try:
        text = adapter.answer(model, SimpleNamespace(**sample))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whoever asked is told
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    if not isinstance(text, str):
        return {"bad": type(text).__name__}
    return {"answer": text}


def _seed(seed: int) -> None:
    """Of all generators that there are, so that a draw does not depend on what was asked before."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _say(replies: IO[bytes], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
