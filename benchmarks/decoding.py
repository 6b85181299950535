"""Reading the frames of a clip: one decode for many views against one view, and one each."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .figures import Figure
from .measure import interleave, settle

PART = "Decoding: clips of talking heads of 512x512 to 844x844 pixels, 5 to 8 s, one thread"
ROUNDS = 7
SHARED = Path(os.environ.get("MERSTORE_SHARED", Path(__file__).parents[2] / "shared"))


def run(folder: Path) -> Iterator[Figure]:
    try:
        import av  # noqa: F401

        from merstore.extract.sampling import headtail, segments, uniform
        from merstore.extract.video import FrameRequest, read_clip
    except ImportError as error:
        print(f"  left out: {error}")
        return
    clips = sorted(SHARED.glob("media/talk_*.mp4"))
    if not clips:
        print(f"  left out: no clips in {SHARED}/media")
        return

    one = [FrameRequest(partial(uniform, n=8))]
    four = [
        *one,
        FrameRequest(partial(headtail, n=6, seed=0)),
        FrameRequest(partial(segments, n=8)),
        FrameRequest(partial(uniform, n=8), (336, 336)),
    ]
    sides = {"one": [one], "four": [four], "each": [[request] for request in four]}

    def read(side: str, number: int) -> Iterator[None]:
        settle(
            16 << 20
        )  # from here on the allocator keeps so much, as in any process that lives on
        yield
        for clip in clips:
            for requests in sides[side]:
                read_clip(clip, requests)
        yield

    seconds = interleave({side: partial(read, side) for side in sides}, ROUNDS)
    for side, bar in (("one", 1.2), ("each", None)):
        against = {"one": "one view", "each": "each of the four by itself"}[side]
        ratios = seconds["four"] / seconds[side]
        low, value, high = (float(each) for each in np.percentile(ratios, (25, 50, 75)))
        yield Figure(
            PART,
            "four views of the same clips by one decode: the time that it takes",
            value,
            "x",
            against,
            bar,
            True,
            low,
            high,
            ROUNDS,
            *(f"{np.median(seconds[key]) / len(clips) * 1e3:.0f} ms" for key in ("four", side)),
        )
