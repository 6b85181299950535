"""A model that runs by code of its own, asked as a zero-shot baseline.

The first part is the adapter, for a Python that has never heard of merstore; an adapter of your own is
a file with just that. Run as a program, it asks itself about a few clips, as does
``merstore zero-shot run otter --adapter zero_shot_adapter.py --python PYTHON ...``.
"""

import random

NEEDS = "frames"  # those of the baseline's policy; "sound", or both; nothing: paths are enough


def load(options):
    """Once. Import what is heavy here, and load the weights that `options` names."""
    import numpy

    print("loading", options["weights"])  # what it prints is shown when something goes wrong
    return {"read": numpy.load, "words": options["words"]}


def answer(model, sample):
    """For each sample. What it raises is recorded as this sample's failure."""
    frames = model["read"](sample.frames).astype(float)  # [T, H, W, 3]
    change = abs(frames[1:] - frames[:-1]).mean()
    mood = model["words"][min(int(change), len(model["words"]) - 1)]
    sure = random.choice(["surely", "perhaps"])  # seeded for each sample, as NumPy and torch are
    return f"{len(frames)} frames, {change:.2f} between two of them: {sure} {mood}."


def main() -> None:
    import sys
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import merstore
    from merstore.demo.clips import make_clips
    from merstore.run import answers
    from merstore.run.tasks import Task
    from merstore.run.zeroshot.baselines import find
    from merstore.run.zeroshot.foreign import Foreign
    from merstore.run.zeroshot.running import Runner

    with TemporaryDirectory() as folder:
        clips = {clip.stem: clip for clip in make_clips(Path(folder) / "clips")[-8:]}
        options = {"weights": "none.pth", "words": ["calm", "attentive", "excited"]}
        otter = find("otter")
        model = Foreign(otter, __file__, sys.executable, options)
        with merstore.open(Path(folder) / "answers.mer", "a") as store:
            runner = Runner(store, otter, model)
            task = Task("clips", list(clips), materials=clips)
            report = runner.run(task)
            model.close()
            view = store[report.view]
            for name, kept in answers.read(view).items():
                print(f"{name}: {kept.text}")
            for failure in view.failures():
                print(f"{failure.name}: {failure.kind}")
            print(f"answered {report.answered}, again {runner.run(task).answered}")


if __name__ == "__main__":
    main()
