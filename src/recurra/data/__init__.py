"""Sequences from files, folders, names and Python data, in one form: ragged, in flat arrays."""

from recurra.data import arrays, idx, table, text, ts, ucr
from recurra.data.describe import Description, describe
from recurra.data.load import Parts, is_known, load_part, load_parts
from recurra.data.records import FORMATS
from recurra.data.sequences import Schema, Sequences
from recurra.data.settings import DataSettings

for _format in (idx.IDX, arrays.NPY, ts.TS, ucr.UCR, text.FOLDER, table.LONG, text.LABELLED, table.WIDE):
    FORMATS[_format.name] = FORMATS.pop(_format.name)  # most specific first, which the order of imports does not give

__all__ = [
    "FORMATS",
    "DataSettings",
    "Description",
    "Parts",
    "Schema",
    "Sequences",
    "describe",
    "is_known",
    "load_part",
    "load_parts",
]
