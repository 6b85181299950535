"""Views as a Hugging Face Dataset: typed columns in Arrow's memory, to map, filter, save and upload."""

import datasets
import toy

from merstore.interop.hugging_face import to_dataset

with toy.store() as store:
    # The samples that both views have; audio is a list of steps for each sample.
    made = to_dataset(
        {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
        names=toy.TRAINING + toy.HELD_OUT,
        columns={"label": toy.LABELS},
    )
    for name, feature in made.features.items():
        print(f"{name}: {feature}")

datasets.disable_progress_bars()
long = made.filter(lambda audio: len(audio) >= 20, input_columns="audio")
print(f"{len(made)} samples, {len(long)} of 20 steps or more")

parts = made.train_test_split(test_size=18, shuffle=False)
for batch in parts["train"].with_format("torch").iter(batch_size=24):
    print(f"frame {list(batch['frame'].shape)}, first step {list(batch['audio'][0].shape)}")
