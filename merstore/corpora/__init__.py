"""Corpora: where each dataset keeps its media, labels, splits and transcripts.

What is declared of a corpus is in ``tables/``, one YAML file each; more come from a file of yours.
"""

from merstore.corpora.check import Finding, check
from merstore.corpora.corpus import Corpus, open_corpus
from merstore.corpora.labels import Label, Labels
from merstore.corpora.materials import CorpusMaterials, beside, tracks
from merstore.corpora.problem import Missing, Problem
from merstore.corpora.registry import find, tables
from merstore.corpora.stored import read_labels, read_transcripts, store_labels
from merstore.corpora.table import Table
from merstore.corpora.transcripts import Transcripts, texts_from

__all__ = [
    "Corpus",
    "CorpusMaterials",
    "Finding",
    "Label",
    "Labels",
    "Missing",
    "Problem",
    "Table",
    "Transcripts",
    "beside",
    "check",
    "find",
    "open_corpus",
    "read_labels",
    "read_transcripts",
    "store_labels",
    "tables",
    "texts_from",
    "tracks",
]
