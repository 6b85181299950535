"""A program that asks an adapter something that it will not answer: ``PIPE ADAPTER [HOW]``. HOW:
``forked``, where a fork of it lives on; ``wrapped``, where a shell stands before Python.
"""

import os
import signal
import sys

from merstore.extract.material import Material
from merstore.run.zeroshot.asked import Asked
from merstore.run.zeroshot.baselines import find
from merstore.run.zeroshot.foreign import Foreign


def main() -> None:
    pipe, adapter, *how = sys.argv[1:]
    python = [sys.executable, "-I", "-S"]
    if how == ["wrapped"]:
        python = ["sh", "-c", '"$0" "$@"; exit $?', *python]
    foreign = Foreign(find("otter"), adapter, python, {"pipe": pipe})
    foreign.spec()  # starts it
    if how == ["forked"] and not os.fork():
        signal.pause()  # with all that a fork inherits
    try:
        foreign.answer([Asked("a", "hang", Material("a"))], [0])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        print(foreign.answer([Asked("a", "empty", Material("a"))], [0]), flush=True)


if __name__ == "__main__":
    main()
