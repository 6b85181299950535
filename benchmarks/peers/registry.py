"""Who is compared, by the name that ``--only`` takes."""

from dataclasses import dataclass
from importlib import import_module

from .peer import Peer


@dataclass(frozen=True)
class Known:
    """title: in the table. package: on the package index. where: module and class."""

    title: str
    package: str
    where: str


OURS = "merstore"
CEILINGS = ("memcpy", "ram")
PEERS = {
    OURS: Known("merstore", "merstore", "ours:Merstore"),
    "memcpy": Known("memcpy of as many bytes", "", "ceilings:Memcpy"),
    "ram": Known("torch.index_select from RAM", "torch", "ceilings:Ram"),
    "npy": Known("`.npy` per sample", "numpy", "plain:Npy"),
    "memmap": Known("np.memmap", "numpy", "plain:Memmap"),
    "lmdb": Known("py-lmdb loop", "lmdb", "plain:Lmdb"),
    "h5py": Known("h5py", "h5py", "hdf5:H5py"),
    "safetensors": Known("safetensors", "safetensors", "safe_tensors:Safetensors"),
    "tensordict": Known("tensordict memmap", "tensordict", "tensor_dict:Tensordict"),
    "datasets": Known("HF datasets", "datasets", "hugging_face:HuggingFace"),
    "litdata": Known("LitData", "litdata", "lit_data:LitData"),
    "mds": Known("MDS", "mosaicml-streaming", "mosaic:Mosaic"),
    "webdataset": Known("WebDataset", "webdataset", "web_dataset:WebDataset"),
    "lance": Known("Lance", "pylance", "lance_table:Lance"),
    "arrayrecord": Known("ArrayRecord", "array_record", "array_records:ArrayRecord"),
    "zarr": Known("zarr v3", "zarr", "zarr_array:Zarr"),
    "tensorstore": Known("TensorStore, zarr v3", "tensorstore", "tensor_store:Tensorstore"),
}


def load(key: str) -> Peer:
    """ImportError where it is not installed."""
    module, _, name = PEERS[key].where.partition(":")
    peer: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)()
    return peer
