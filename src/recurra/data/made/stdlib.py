"""The source code of the Python that runs."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from zlib import crc32

from pydantic import Field

from recurra.data.made.source import Made
from recurra.errors import DataError

LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
"""Folders whose files are not read."""


class Stdlib(Made):
    """The standard library of the Python that runs, as running text: nothing to download, and code is what it holds.

    Every `.py` file in UTF-8, in the order of their paths, but those of tests and of installed packages. A file belongs
    to one part as a whole; which, its path alone says (by its CRC-32), so that a file stays in its part in another
    version of Python.
    """

    name: ClassVar[str] = "stdlib"
    task: ClassVar[str] = "language"
    summary: ClassVar[str] = "the source code of the running Python's standard library"

    validation: int = Field(
        default=5, ge=0, le=45, description="of a hundred files, those to choose the best weights by"
    )
    test: int = Field(default=5, ge=1, le=45, description="of a hundred files, those to measure on")
    package: str | None = Field(default=None, description="only the files of this package or folder, such as asyncio")

    def parts(self) -> dict[str, list[Path]]:
        """The files of each part.

        Raises:
            DataError: There are none, as where the library is kept in an archive; or no such package.
        """
        root = Path(sysconfig.get_path("stdlib"))
        folder = root / self.package if self.package else root
        found: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(root)
            if not LEFT_OUT.intersection(inside.parts) and _is_utf8(path):
                place = crc32(inside.as_posix().encode()) % 100
                part = "test" if place < self.test else "validation" if place < self.test + self.validation else "train"
                found[part].append(path)
        if not found["train"]:
            raise DataError(f"stdlib: {folder} holds no Python files to train on.")
        return {part: files for part, files in found.items() if files}

    def rows(self) -> Iterator[list[dict[str, object]]]:
        """The lines of the training part, each as a row of its own."""
        for path in self.parts()["train"]:
            for line in path.read_text("utf-8").splitlines():
                yield [{"text": line}]


def _is_utf8(path: Path) -> bool:
    """Whether a file can be read: some of the library's own say another encoding."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return bool(text) and "\0" not in text
