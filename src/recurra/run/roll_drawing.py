"""Piano rolls as drawings: time to the right, keys upward; in a page with its colours, and by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from recurra.data.midi import METER, runs
from recurra.data.rolls import KEYS, LOWEST, name_of_key

ROW, LEFT, ABOVE, BELOW = 7.0, 34.0, 20.0, 18.0
"""Height of a key; what stands left of the first frame, above each roll and below the last, in pixels."""

WIDEST, NARROWEST, WIDTH = 14.0, 2.0, 900.0
"""Of a frame at the most and the least, and the width that a whole roll is to have."""

FAINTEST = 0.02
"""Probability below which nothing is drawn."""

_STYLE = """
.roll { color: var(--ink, #1d2126); font: 12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.roll text { fill: var(--muted, #5a636e); font-size: 11px; }
.roll .dark { fill: var(--grid, #eef0f3); }
.roll .bar, .roll .octave { stroke: var(--line, #dde1e6); stroke-width: 1; }
.roll .note { fill: var(--first, #2b6cb0); }
.roll .given { fill: var(--muted, #5a636e); }
.roll .chance { fill: var(--second, #b44a12); }
.roll .true { fill: none; stroke: var(--ink, #1d2126); stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  .roll { color: var(--ink, #e7e9ec); }
  .roll text { fill: var(--muted, #a3acb7); }
  .roll .dark { fill: var(--grid, #2c3238); }
  .roll .bar, .roll .octave { stroke: var(--line, #2f353c); }
  .roll .note { fill: var(--first, #6cabf2); }
  .roll .given { fill: var(--muted, #a3acb7); }
  .roll .chance { fill: var(--second, #f2935c); }
  .roll .true { stroke: var(--ink, #e7e9ec); }
}
"""


@dataclass(frozen=True)
class Roll:
    """A piano roll to draw.

    Attributes:
        sounding: (T, 88): true where a key sounds.
        title: What stands above it.
        given: So many of the first frames are drawn as a beginning that was given.
        chances: (T, 88) probabilities, which are drawn as the stronger the larger, what sounds as outlines over them.
    """

    sounding: np.ndarray
    title: str = ""
    given: int = 0
    chances: np.ndarray | None = None


def drawing(rolls: Sequence[Roll], step: float, meter: tuple[int, int] = METER) -> str:
    """Rolls below each other, with the same keys and the same pace, as SVG.

    Args:
        rolls: At least one.
        step: Beats of a frame.
        meter: Time signature, for the lines between bars.
    """
    longest = max(1, *(len(roll.sounding) for roll in rolls))
    wide = min(WIDEST, max(NARROWEST, WIDTH / longest))
    low, high = _span(rolls)
    tall = ROW * (high - low + 1)
    width, height = LEFT + wide * longest + 2, len(rolls) * (ABOVE + tall) + BELOW
    parts: list[str] = []
    for number, roll in enumerate(rolls):
        top = number * (ABOVE + tall) + ABOVE
        parts.append(f'<text x="{LEFT:g}" y="{top - 6:.1f}">{escape(roll.title)}</text>')
        parts += _ground(low, high, top, LEFT + wide * longest)
        parts += _bars(longest, wide, top, tall, step, meter)
        parts += _notes(roll, low, high, top, wide)
    bar = _beats(meter)
    every = max(1, round(longest * step / bar / 8))
    for number in range(0, int(longest * step / bar) + 1, every):
        x = LEFT + wide * number * bar / step
        if x <= width - 12:
            parts.append(f'<text x="{x:.1f}" y="{height - 4:.1f}">{number + 1}</text>')
    told = "; ".join(f"{roll.title}: {len(roll.sounding)} frames" for roll in rolls)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="roll" role="img" aria-label="{escape(told, quote=True)}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _span(rolls: Sequence[Roll]) -> tuple[int, int]:
    """The lowest and the highest key that are drawn: an octave at the least."""
    met = np.zeros(KEYS, bool)
    for roll in rolls:
        met |= (np.asarray(roll.sounding) != 0).any(0)
        if roll.chances is not None:
            met |= (roll.chances >= 0.2).any(0)
    keys = np.flatnonzero(met)
    low, high = (int(keys[0]), int(keys[-1])) if len(keys) else (39, 51)
    spare = max(4, 12 - (high - low)) // 2
    return max(0, low - spare), min(KEYS - 1, high + spare)


def _ground(low: int, high: int, top: float, right: float) -> list[str]:
    parts = []
    for key in range(low, high + 1):
        y = top + ROW * (high - key)
        note = (key + LOWEST) % 12
        if note in (1, 3, 6, 8, 10):
            parts.append(f'<rect class="dark" x="{LEFT:g}" y="{y:g}" width="{right - LEFT:.1f}" height="{ROW:g}"/>')
        if note == 0:
            parts.append(f'<line class="octave" x1="{LEFT:g}" x2="{right:.1f}" y1="{y + ROW:g}" y2="{y + ROW:g}"/>')
            parts.append(f'<text x="2" y="{y + ROW:g}">{name_of_key(key)}</text>')
    return parts


def _beats(meter: tuple[int, int]) -> float:
    """Quarter notes of a bar."""
    return meter[0] * 4 / meter[1]


def _bars(longest: int, wide: float, top: float, tall: float, step: float, meter: tuple[int, int]) -> list[str]:
    bar = _beats(meter) / step * wide
    if bar < 4:  # too near each other to be told apart
        return []
    count = int(longest * wide / bar)
    places = (LEFT + bar * number for number in range(count + 1))
    return [f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{top + tall:g}"/>' for x in places]


def _notes(roll: Roll, low: int, high: int, top: float, wide: float) -> list[str]:
    parts = []
    if roll.chances is not None:
        for t, key in np.argwhere(roll.chances[:, low : high + 1] >= FAINTEST).tolist():
            chance = float(roll.chances[t, low + key])
            parts.append(
                f'<rect class="chance" x="{LEFT + wide * t:.1f}" y="{top + ROW * (high - low - key):g}" '
                f'width="{wide:.1f}" height="{ROW:g}" opacity="{chance:.2f}"/>'
            )
    for key in range(low, high + 1):
        y = top + ROW * (high - key) + 0.5
        for first, stop in runs(roll.sounding[:, key]):
            for kind, begin, end in _kinds(roll, first, stop):
                parts.append(
                    f'<rect class="{kind}" x="{LEFT + wide * begin + 0.5:.1f}" y="{y:g}" '
                    f'width="{wide * (end - begin) - 1:.1f}" height="{ROW - 1:g}" rx="1.5">'
                    f"<title>{name_of_key(key)}</title></rect>"
                )
    return parts


def _kinds(roll: Roll, first: int, stop: int) -> list[tuple[str, int, int]]:
    """How a note is drawn, from its first frame to before the last: whole, or in two parts where the prompt ends."""
    if roll.chances is not None:
        return [("true", first, stop)]
    edge = min(max(roll.given, first), stop)
    return [(kind, a, b) for kind, a, b in (("given", first, edge), ("note", edge, stop)) if a < b]
