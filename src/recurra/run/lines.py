"""Rows written as JSON Lines or CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any


def to_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """JSON Lines: one object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def to_csv(rows: Iterable[Mapping[str, Any]], header: bool = True) -> str:
    """CSV with a header unless it is not wanted, its columns those of the first row; empty without rows."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(first), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerow(first)
    writer.writerows(rows)
    return text.getvalue()
