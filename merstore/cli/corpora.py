"""`merstore corpora`: the datasets whose folders merstore knows."""

from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.corpora import Table, find, tables


@click.command("corpora", short_help="the datasets whose folders are known")
@click.argument("key", required=False)
@click.option(
    "--tables",
    "path",
    type=click.Path(path_type=Path),
    help="A YAML file of more corpora (default: $MERSTORE_CORPORA).",
)
@console.as_json
def corpora_(key: str | None, path: Path | None, as_json: bool) -> None:
    """List the corpora whose media, labels, splits and transcripts merstore finds, or show corpus
    KEY, by any of its names.
    """
    if key is not None:
        table = find(key, path)
        if as_json:
            console.json_out(_facts(table))
        else:
            _show(table)
        return
    known = sorted(tables(path).values(), key=lambda table: table.key)
    if as_json:
        console.json_out([_facts(table) for table in known])
        return
    console.table(
        ["KEY", "SAMPLES", "MODALITIES", "SPLITS", "NAMES"],
        [
            [
                table.key,
                "" if table.samples is None else f"{table.samples:,}",
                " ".join(table.modalities),
                " ".join(_splits(table)),
                ", ".join(table.aliases),
            ]
            for table in known
        ],
        right="SAMPLES",
    )


def _splits(table: Table) -> list[str]:
    """The splits of all sets of labels, each once."""
    return list(dict.fromkeys(split for labels in table.labels.values() for split in labels.splits))


def _facts(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "names": table.aliases,
        "folders": table.folders,
        "samples": table.samples,
        "modalities": table.modalities,
        "labels": {
            name: {
                "samples": labels.samples,
                "splits": {split.name: list(split.sizes) for split in labels.splits.values()},
                "fields": {
                    field.name: list(field.classes) or field.type
                    for field in labels.fields.values()
                },
            }
            for name, labels in table.labels.items()
        },
        "transcripts": {name: text.sources for name, text in table.transcripts.items()},
        "media": {
            media.modality: {"folders": media.folders, "files": media.files}
            for media in table.media.values()
        },
        "declared": table.origin,
    }


def _show(table: Table) -> None:
    lines: dict[str, object] = {
        "key": table.key,
        "names": ", ".join(table.aliases) or None,
        "folders": ", ".join(table.folders) or None,
        "samples": None if table.samples is None else f"{table.samples:,}",
    }
    for name, labels in table.labels.items():
        for split in labels.splits.values():
            size = " or ".join(f"{size:,}" for size in split.sizes)
            told = f"{size} in " if size else ""
            lines[f"labels {name} {split.name}"] = told + " or ".join(split.sources)
        for field in labels.fields.values():
            lines[f"labels {name}: {field.name}"] = ", ".join(field.classes) or field.type
    for name, text in table.transcripts.items():
        lines[f"text {name}"] = " or ".join(text.sources)
    for media in table.media.values():
        lines[media.modality] = f"{' or '.join(media.folders)}: {' or '.join(media.files)}"
    console.fields(lines | {"declared in": table.origin})
