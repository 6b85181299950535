"""An adapter that does what the prompt of a sample says. Python's own library is all it needs."""

import json
import os
import random
import subprocess
import sys
import time


def load(options):
    print("the model of", os.getpid(), flush=True)
    if options.get("broken"):
        raise OSError(f"no weights at {options['broken']}")
    return {"process": os.getpid(), "options": options}


def answer(model, sample):
    return globals()[sample.prompt](model, sample)


def tell(model, sample):
    """All that it was given."""
    return json.dumps({**model, "sample": vars(sample)})


def draw(model, sample):
    return str(random.random())


def chatter(model, sample):
    """Whatever it prints and reads meets nobody."""
    print('{"answer": "not this"}', flush=True)
    os.write(1, b"nor this\n")
    subprocess.run(["echo", "nor this"], check=True)
    print("\N{GRINNING FACE}" * 100_000)
    print("\ud800")
    return repr(sys.stdin.read())


def fail(model, sample):
    raise ValueError("what a clip")


def fail_on_gpu(model, sample):
    raise RuntimeError("CUDA error: device-side assert triggered")


def leave(model, sample):
    sys.exit("enough")


def nothing(model, sample):
    return None


def labels(model, sample):
    return ["happy"]


def surrogate(model, sample):
    return "\ud800"


def empty(model, sample):
    return ""


def crash(model, sample):
    print("this is the end", file=sys.stderr)
    os._exit(3)


def hang(model, sample):
    """Say that it has begun, to whoever holds the other end of a pipe; it ends with all who hold it."""
    with open(sample.options["pipe"], "w") as pipe:
        subprocess.Popen(["sleep", "1000"], pass_fds=[pipe.fileno()])
        print("hanging", file=pipe, flush=True)
        time.sleep(1000)


def imports(model, sample):
    """Which of these it can import."""
    import importlib.util

    return " ".join(name for name in sample.options["names"] if importlib.util.find_spec(name))


def loaded(model, sample):
    return " ".join(name for name in ("numpy", "torch", "merstore") if name in sys.modules)
