"""Answers kept in the store, so that nothing is asked twice: not by another run, nor by another
process, nor after a kill.

A view ``texts/<task>@<model>/<digest>`` holds the answers to one task by one model under one set of
prompts and settings, which are its spec; the digest is of that. An entry is an answer as it was
given (UTF-8, uint8 ``[T]``), its name the digest of the message that it answers: the text, and the
prompt around it. So the same text is asked about once, whichever corpus or file it comes from. A
message without an answer has a failure record.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from merstore.extract.reading import Refusal
from merstore.run.labels.backend import NO_ANSWER, SAID_NOTHING, Backend
from merstore.run.labels.prompts import clean
from merstore.run.texts import read_texts
from merstore.store.leases import Owner, await_commit
from merstore.store.spec import fingerprint
from merstore.store.store import Store

DATASET = "texts"
LEASE_SECONDS = 1800.0  # more than a batch may take; it ends with its process anyway

Progress = Callable[[int, int], None]
"""Called with how many answers there are, of how many."""


class Asked(NamedTuple):
    """``found``: the answer, or why there is none, of each message, in order. ``asked``: how many
    different messages the backend was given; ``view``: the path of the cache.
    """

    found: list[str | Refusal]
    asked: int
    view: str | None


def ask(
    messages: Sequence[str],
    backend: Backend,
    task: str,
    store: Store | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Asked:
    """The answers to messages; the same message is asked once. With a store, what it holds is not
    asked again, and each batch of answers is committed as it comes. Failures are tried again only if
    `retry_failed`. Several processes may ask under one store: they share the work.

    An answer of which the clean-up leaves nothing is a failure, ``no_answer``.
    """
    tell = progress or (lambda done, total: None)
    if store is None:
        return _without_store(messages, backend, task, tell)
    cache = _Cache(store, backend, task)
    keys = [_key(message) for message in messages]
    found = cache.read(keys)
    by_key = dict(zip(keys, messages, strict=True))
    wanted = dict.fromkeys(
        key
        for key, answer in zip(keys, found, strict=True)
        if answer is None or (retry_failed and isinstance(answer, Refusal))
    )
    asked = 0
    if wanted:
        have = len(by_key) - len(wanted)
        asked = cache.fill(
            {key: by_key[key] for key in wanted},
            "all" if retry_failed else None,
            lambda done: tell(have + done, len(by_key)),
        )
        found = cache.read(keys)
    return Asked([_known(answer) for answer in found], asked, cache.view.path)


class _Cache:
    def __init__(self, store: Store, backend: Backend, task: str) -> None:
        self.store = store
        self.backend = backend
        self.task = task
        spec = {"kind": "answers", "task": task, **backend.spec(task)}
        path = f"{DATASET}/{task}@{backend.name}/{fingerprint(spec)[:16]}"
        if store.mode == "r":
            self.view = store.view(path, spec)
        else:
            self.view = store.create_view(
                path, dtype="uint8", shape=(None,), spec=spec, exist_ok=True
            )

    def read(self, keys: Sequence[str]) -> list[str | Refusal | None]:
        """The answer to each, or why there is none; None where it was not asked yet."""
        texts = read_texts(self.view, keys)
        if None not in texts:
            return list(texts)
        failures = {each.name: Refusal(each.kind, each.message) for each in self.view.failures()}
        return [
            failures.get(key) if text is None else text
            for key, text in zip(keys, texts, strict=True)
        ]

    def fill(self, wanted: dict[str, str], retry: str | None, tell: Callable[[int], None]) -> int:
        """Have all messages answered, by us or by somebody else; the number that we asked."""
        owner = Owner()
        todo, asked = list(wanted), 0
        done = 0
        while todo:
            busy: list[str] = []
            for begin in range(0, len(todo), self.backend.batch):
                some = todo[begin : begin + self.backend.batch]
                claim = owner.claim(self.view, some, [retry] if retry else [], LEASE_SECONDS)
                busy += claim.busy
                if claim.mine:
                    self._answer(owner, claim.mine, [wanted[key] for key in claim.mine])
                    asked += len(claim.mine)
                done += len(some) - len(claim.busy)
                tell(done)
            todo, retry = busy, None  # what somebody else tries again is not tried a third time
            if todo:
                await_commit(self.store)
        self.store.refresh()  # to see what others have answered
        return asked

    def _answer(self, owner: Owner, keys: list[str], messages: list[str]) -> None:
        try:
            answers = list(self.backend.answer(self.task, messages))
            with self.store.writer() as writer:
                for key, answer in zip(keys, answers, strict=True):
                    answer = _checked(answer)
                    if isinstance(answer, Refusal):
                        writer.fail(self.view, key, *answer)
                    else:
                        writer.put(self.view, key, np.frombuffer(answer.encode(), np.uint8))
        except BaseException:
            owner.release(self.view, keys)
            raise


def _without_store(messages: Sequence[str], backend: Backend, task: str, tell: Progress) -> Asked:
    different = list(dict.fromkeys(messages))
    answers: dict[str, str | Refusal] = {}
    for begin in range(0, len(different), backend.batch):
        some = different[begin : begin + backend.batch]
        answers |= zip(some, map(_checked, backend.answer(task, some)), strict=True)
        tell(len(answers), len(different))
    return Asked([_known(answers[message]) for message in messages], len(different), None)


def _checked(answer: str | Refusal) -> str | Refusal:
    if isinstance(answer, str) and not clean(answer):
        return Refusal(NO_ANSWER, SAID_NOTHING)
    return answer


def _known(answer: str | Refusal | None) -> str | Refusal:
    assert answer is not None  # filled by us, or seen to be there
    return clean(answer) if isinstance(answer, str) else answer


def _key(message: str) -> str:
    return hashlib.blake2b(message.encode(), digest_size=16).hexdigest()
