"""An adapter that gives back the files that it is handed."""

import base64
import json
from pathlib import Path

NEEDS = ("frames", "sound")


def load(options):
    return None


def answer(model, sample):
    files = {
        name: base64.b64encode(Path(path).read_bytes()).decode()
        for name, path in (("frames", sample.frames), ("sound", sample.sound))
    }
    return json.dumps(files | {"paths": [sample.frames, sample.sound], "seconds": sample.seconds})
