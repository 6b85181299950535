"""`merstore encoders`: the encoders whose names merstore knows, and which of them run here."""

from dataclasses import asdict
from typing import Any

import click

from merstore.cli import console
from merstore.extract.registry import SAMPLINGS, Encoder, encoders


@click.command("encoders", short_help="the encoders that are known, and which run here")
@click.option("--modality", type=click.Choice(list(SAMPLINGS)), help="Only those of this modality.")
@console.as_json
def encoders_(modality: str | None, as_json: bool) -> None:
    """List the encoders of MERTools, AffectGPT and installed packages by the names that they have in
    views, and what those need that do not run here.
    """
    listed = encoders(modality)
    if as_json:
        console.json_out([_facts(encoder) for encoder in listed])
        return
    console.table(
        ["NAME", "MODALITY", "WIDTH", "HUB", "RUNS HERE"],
        [
            [
                encoder.name,
                " ".join(encoder.modalities) if encoder.modality else "",
                _width(encoder),
                encoder.hub or "",
                encoder.missing or "yes",
            ]
            for encoder in listed
        ],
    )


def _facts(encoder: Encoder) -> dict[str, Any]:
    return asdict(encoder) | {"modalities": encoder.modalities, "missing": encoder.missing}


def _width(encoder: Encoder) -> str:
    if encoder.dim is None or isinstance(encoder.dim, int):
        return "" if encoder.dim is None else str(encoder.dim)
    return " ".join(f"{level}:{dim}" for level, dim in encoder.dim.items())
