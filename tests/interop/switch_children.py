"""What pools of processes run under the switch: a module, so that spawned ones can import it."""

import os

import numpy as np


def load_and_save(path: str) -> float:
    array = np.load(path)
    np.save(path.replace("/a.npy", f"/by{os.getpid()}.npy"), array)
    return float(array.sum())
