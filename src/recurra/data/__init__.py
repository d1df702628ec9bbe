"""Sequences from files, folders, names and Python data, in one form: ragged, in flat arrays."""

from recurra.data import arrays, brackets, idx, table, text, ts, ucr
from recurra.data.describe import Description, describe
from recurra.data.load import load_part, load_parts
from recurra.data.reader import Data, Parts, Reader
from recurra.data.records import FORMATS
from recurra.data.sequences import Schema, Sequences
from recurra.data.settings import DataSettings, PlaceSettings
from recurra.data.sources import is_known

for _format in (
    idx.IDX,
    arrays.NPY,
    ts.TS,
    brackets.BRACKETS,
    ucr.UCR,
    text.FOLDER,
    table.LONG,
    text.LABELLED,
    table.WIDE,
):
    FORMATS[_format.name] = FORMATS.pop(_format.name)  # most specific first, which the order of imports does not give

__all__ = [
    "FORMATS",
    "Data",
    "DataSettings",
    "Description",
    "Parts",
    "PlaceSettings",
    "Reader",
    "Schema",
    "Sequences",
    "describe",
    "is_known",
    "load_part",
    "load_parts",
]
