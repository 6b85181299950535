"""Views as safetensors files, for machines without merstore; and what reads them there."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import toy
from safetensors import safe_open

from merstore.interop.safetensors_export import export_safetensors

with toy.store() as store, TemporaryDirectory() as folder:
    # On the command line: merstore export features.mer ./out --format safetensors --shard-size 1GiB
    report = export_safetensors(store, folder, shard_bytes=20_000)
    for done in report.views:
        print(f"{done.view}: {done.written} samples, {done.bytes:,} bytes")

    same = 0
    for shard in sorted(Path(folder).rglob("*.safetensors")):
        with safe_open(shard, "np") as file:
            metadata = file.metadata()
            names, view = json.loads(metadata["names"]), store[metadata["view"]]
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        print(
            f"{shard.name}: {len(names)} samples,", *(f"{k} {v.shape}" for k, v in tensors.items())
        )
        for i, name in enumerate(names):
            if "features" in tensors:
                array = tensors["features"][i]
            else:  # entries of different lengths, back to back
                begin, end = tensors["offsets"][i : i + 2]
                array = tensors["values"][begin:end]
            same += np.array_equal(array, view[name])
    print(f"{same} samples as in the store")
