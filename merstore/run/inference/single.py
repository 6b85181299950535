"""One clip, one question: from a file to an answer."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from merstore.errors import MerstoreError
from merstore.extract.material import Material
from merstore.models.affectgpt import Settings
from merstore.run import answers
from merstore.run.answers import Stored
from merstore.run.inference.runner import Runner
from merstore.run.inference.sources import recipes_of
from merstore.run.inference.templates import Template, read_template
from merstore.run.tasks import Task
from merstore.store.store import open_store

_NAME, _DATASET = "clip", "single"
_DETECTOR = "detector=centerface"


def ask(
    video: str | Path,
    checkpoint: str | Path | Sequence[str | Path],
    llm: str | Path,
    *,
    subtitle: str | float | None = "",
    template: str | Path | Template = "realtime",
    mode: str | None = None,
    question: str = "",
    audio: str | Path | None = None,
    face: str | Path | None = None,
    analysis: str | Path | None = None,
    models: str | Path | None = None,
    weights: Mapping[str, str] | None = None,
    backend: str = "transformers",
    device: str = "auto",
    settings: Settings | None = None,
    seed: int = 0,
) -> Stored:
    """The answer to a question about one clip.

    subtitle: what is said; None is refused in modes that have one, NaN and "" are nothing said.
    audio: a sound file; by default the clip's own sound. face: an OpenFace track (``.npy``); without
    one faces are looked for in the clip. analysis: MER-Factory's (``.json``). Otherwise as `Runner`.

    Raises MerstoreError, which says why, where the clip cannot be answered about.
    """
    if not Path(video).is_file():
        raise MerstoreError(f"{video}: no such file")
    chosen = template if isinstance(template, Template) else read_template(template)
    wanted = chosen.features.get("face")
    if face is None and wanted is not None and "detector=" not in wanted.options:
        options = f"{wanted.options}&{_DETECTOR}" if wanted.options else _DETECTOR
        features = {**chosen.features, "face": replace(wanted, options=options)}
        chosen = replace(chosen, features=features)
    material = Material(
        _NAME,
        video=Path(video),
        audio=Path(audio or video),
        face=None if face is None else Path(face),
        au=None if analysis is None else Path(analysis),
    )
    task = Task(_DATASET, [_NAME], {_NAME: subtitle}, materials={_NAME: material})
    with (
        tempfile.TemporaryDirectory(prefix="merstore-") as folder,
        open_store(Path(folder) / "single.mer", "a", durability="fast") as store,
    ):
        runner = Runner(
            store,
            [checkpoint],
            llm,
            chosen,
            mode=mode,
            question=question,
            recipes=recipes_of(models, weights, device),
            settings=settings,
            seed=seed,
            backend=backend,
            batch=1,
            device=device,
            jobs=1,
        )
        (report,) = runner.run([task])
        view = store[report.view]
        if failure := view.failure(_NAME):
            raise MerstoreError(f"{video}: {failure.kind}: {failure.message}")
        return answers.read(view)[_NAME]
