"""What a corpus lacks, sample by sample."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Something in a corpus's files that is not as it should be.

    ``sample`` is empty where nothing tells which sample it is of. Kinds of label files:
    ``missing_split``, ``repeated_sample``, ``bad_name``, ``missing_label``, ``unknown_label``,
    ``bad_number``, ``placeholder``; of csv files: ``shifted_row``, ``bad_quotes``, ``undecodable``,
    ``repeated_header``; of transcripts: ``missing_text``, ``empty_text``, ``nan_text``,
    ``ambiguous_text``, ``failed_text``, ``wrong_language``.
    """

    kind: str
    sample: str
    message: str


class Missing(NamedTuple):
    """Why a sample has no media file: ``missing_file``, ``empty_file``, or ``no_<modality>`` where
    the corpus has none of that modality. Fits ``view.fail(sample, *missing)``.
    """

    kind: str
    message: str
