"""Reads a feature folder with a pool of processes."""

import multiprocessing
import os

import numpy as np


def func_read_one_feat(argv):
    feature_root, name = argv[:2]
    single = os.path.join(feature_root, name + ".npy")
    several = os.path.join(feature_root, name)
    if os.path.exists(single):
        found = [np.load(single).squeeze()]
    elif os.path.isdir(several):
        found = [np.load(os.path.join(several, frame)) for frame in sorted(os.listdir(several))]
    else:
        raise Exception("no feature " + single)
    found = np.array(found).squeeze()
    if len(found) == 0:
        print("feature has no rows: " + single)
    elif found.ndim == 1:
        found = found[np.newaxis, :]
    return found


def func_read_multiprocess(feature_root, names, processor=None, read_type="feat", model_name=None):
    jobs = [(feature_root, name, processor, model_name) for name in names]
    with multiprocessing.get_context(os.environ.get("CHECKOUT_START")).Pool(4) as pool:
        found = pool.map(func_read_one_feat, jobs)
    return found, found[0].shape[-1]
