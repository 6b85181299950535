"""A batch as a TensorDict: sliced, stacked and moved as one thing, on the memory that was gathered into."""

import toy

from merstore.interop.tensordicts import to_tensordict
from merstore.load import FeatureDataset, FeatureLoader

with toy.store() as store:
    dataset = FeatureDataset(
        {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
        names=list(toy.LABELS),
        columns={"label": toy.LABELS},
        on_miss={"audio": "mask"},  # the last six clips have none
        layout={"audio": "nested"},
    )
    loader = FeatureLoader(dataset, batch_size=48)
    for batch in loader:
        features = to_tensordict(batch)
        print(
            f"{list(features.batch_size)}: frame {list(features['frame'].shape)}, "
            f"audio {features['audio'].offsets()[-1]} steps, {int(features['audio_mask'].sum())} with sound"
        )
        first = features[:4].to("cpu")
        print("first four:", *first["name"], "labels", first["label"].tolist())
