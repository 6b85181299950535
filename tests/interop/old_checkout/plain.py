"""A script of its own over ``.npy`` files: processes that load, and processes that save."""

import glob
import hashlib
import multiprocessing
import os
import subprocess
import sys

import numpy as np

HOME = os.path.join(os.environ["CHECKOUT_DATA"], "mer2023-dataset-process", "features")


def digest(file):
    array = np.load(file)
    return os.path.basename(file), array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def double(file):
    folder = os.path.join(HOME, "emonet_UTT")
    if not os.path.exists(folder):
        os.makedirs(folder, exist_ok=True)
    np.save(os.path.join(folder, os.path.basename(file)), 2 * np.load(file))


def main(how):
    if how == "child":
        print("child", *digest(os.path.join(HOME, "manet_UTT", "a.npy")))
        return
    files = sorted(glob.glob(os.path.join(HOME, "manet_UTT", "*.npy")))
    with multiprocessing.get_context(how).Pool(2) as pool:
        for line in pool.map(digest, files):
            print(*line)
        pool.map(double, files)
    print(sorted(os.listdir(os.path.join(HOME, "emonet_UTT"))))
    print(*digest(os.path.join(HOME, "emonet_UTT", "a.npy")), flush=True)
    subprocess.run([sys.executable, __file__, "child"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
