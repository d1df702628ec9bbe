"""Made-up speech: tones for words, so that a small network can tell them apart."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 8000
TONES = {"low": 400, "middle": 1000, "high": 2200}
"""A frequency for each word."""


def tone(word: str, seconds: float = 0.12, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A word: its tone, faded in and out, with a little noise; int16."""
    random = np.random.default_rng((seed, *word.encode()))
    t = np.arange(round(seconds * rate)) / rate
    pitch = TONES[word] * (1 + 0.05 * random.standard_normal())
    x = 0.4 * np.sin(2 * np.pi * pitch * t) * np.hanning(len(t)) + 0.003 * random.standard_normal(len(t))
    return (x * 32767).astype(np.int16)


def phrase(words: Sequence[str], seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Words with pauses between."""
    gap = np.zeros(rate // 20, np.int16)
    return np.concatenate([gap, *(x for i, w in enumerate(words) for x in (tone(w, rate=rate, seed=seed + i), gap))])


def encoded(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV file's content."""
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """A WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, samples)
    return path


def folders(folder: Path, each: int = 10, rate: int = RATE) -> Path:
    """A folder for each word."""
    for word in TONES:
        for i in range(each):
            write(folder / word / f"{i}.wav", tone(word, seed=i, rate=rate), rate)
    return folder


def named(folder: Path, each: int = 6, speakers: Sequence[str] = ("ann", "bob")) -> Path:
    """{label}_{speaker}_{index}.wav, all in one folder."""
    for word in TONES:
        for s, speaker in enumerate(speakers):
            for i in range(each):
                write(folder / f"{word}_{speaker}_{i}.wav", tone(word, seed=100 * s + i))
    return folder


def packed(folder: Path, archive: Path) -> Path:
    """A tar archive of a folder's files, in no order."""
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        for path in sorted(folder.rglob("*.wav"), reverse=True):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def transcribed(folder: Path, count: int = 30, table: str = "train.csv", seed: int = 0) -> Path:
    """A table of files and transcripts of one to three words."""
    random, rows = np.random.default_rng(seed), ["file,transcript"]
    for i in range(count):
        words = random.choice(list(TONES), int(random.integers(1, 4))).tolist()
        name = f"{Path(table).stem}/{i}.wav"
        write(folder / name, phrase(words, seed=1000 * seed + 10 * i))
        rows.append(f"{name},{' '.join(words)}")
    (folder / table).write_text("\n".join([*rows, ""]))
    return folder
