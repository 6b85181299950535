"""A store as a file system of .npy files, for code that opens those: merstore:// paths, by fsspec."""

import fsspec
import numpy as np
import toy

with toy.store() as store:
    root = f"merstore://{store.path}"

    # One file, as any fsspec-aware code opens it.
    url = f"{root}/{toy.FRAME}/clip_007.npy"
    with fsspec.open(url) as file:
        array = np.load(file)
    print(
        f"clip_007: {array.dtype} {array.shape}, as stored: {np.array_equal(array, store[toy.FRAME]['clip_007'])}"
    )

    # Folders, sizes and patterns.
    files = fsspec.filesystem("merstore")
    print("datasets:", *(path.rpartition("/")[2] for path in files.ls(root, detail=False)))
    sound = files.glob(f"{root}/{toy.AUDIO}/*.npy")
    print(f"{len(sound)} files of sound, the first of {files.size(sound[0])} bytes")

    # A sample without sound has no file, and it is said why.
    try:
        files.open(f"{root}/{toy.AUDIO}/clip_095.npy")
    except FileNotFoundError as error:
        print("clip_095:", "lacks" in str(error) and "no file")
    files.close()
