"""Frames as pictures: strips, animations, and both in a page."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image

LEAST = 96
"""Pixels of the shorter side of an enlarged frame, at least."""

MILLISECONDS = 120
"""How long a frame of an animation stands."""

GAP = 1
"""Pixels of a strip between two frames, before it is enlarged."""


def as_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames from 0 to 1, (…, C, H, W), as bytes (…, H, W, C)."""
    return np.moveaxis((255 * np.clip(frames, 0, 1)).round().astype(np.uint8), -3, -1)


def enlarged(frames: np.ndarray, least: int = LEAST) -> np.ndarray:
    """Frames (…, H, W, C) whose pixels are squares, so many that the shorter side has at least `least`."""
    times = max(1, -(-least // min(frames.shape[-3:-1])))
    return frames.repeat(times, -3).repeat(times, -2)


def gif(frames: np.ndarray) -> bytes:
    """An animated GIF, which is repeated without end, of frames (T, C, H, W) from 0 to 1, enlarged."""
    pictures = [_picture(frame) for frame in enlarged(as_bytes(frames))]
    held = io.BytesIO()
    how = {"duration": MILLISECONDS, "loop": 0, "optimize": False, "disposal": 1}
    pictures[0].save(held, "GIF", save_all=True, append_images=pictures[1:], **how)
    return held.getvalue()


def strip(rows: Sequence[np.ndarray], least: int = LEAST) -> bytes:
    """A PNG of frames side by side, a row below the other.

    Args:
        rows: Of each the frames, (T, C, H, W) from 0 to 1; a frame of NaN is left out.
        least: Pixels of the shorter side of a frame, at least.
    """
    longest, (channels, height, width) = max(map(len, rows)), rows[0].shape[1:]
    sheet = np.full((len(rows) * (height + GAP) - GAP, longest * (width + GAP) - GAP, channels), 128, np.uint8)
    opaque = np.zeros((*sheet.shape[:2], 1), np.uint8)
    for r, frames in enumerate(rows):
        for t, frame in enumerate(frames):
            if np.isfinite(frame).all():
                place = np.s_[r * (height + GAP) :, t * (width + GAP) :][0:2]
                sheet[place][:height, :width] = as_bytes(frame)
                opaque[place][:height, :width] = 255
    times = max(1, -(-least // min(height, width)))
    sheet = np.concatenate([np.repeat(sheet, 3, -1) if channels == 1 else sheet, opaque], -1)
    sheet = sheet.repeat(times, 0).repeat(times, 1)
    held = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(held, "PNG")
    return held.getvalue()


def _picture(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)


def embedded(data: bytes, kind: str, alternative: str, wide: bool = False) -> Markup:
    """A picture within a page.

    Args:
        data: Its file.
        kind: "png" or "gif".
        alternative: The picture in words.
        wide: Whether it takes the page's whole width.
    """
    source = base64.b64encode(data).decode()
    image = Markup('<img class="film{}" alt="{}" src="data:image/{};base64,{}">')
    return image.format(" wide" if wide else "", alternative, kind, source)
