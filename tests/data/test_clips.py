"""Clips from arrays, animations and folders of pictures; and every fault told with its place."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recurra.data.clip_reader import ClipReader
from recurra.data.clips import Clips, ClipSchema, ClipSettings, collate
from recurra.errors import DataError, RecipeError
from recurra.run.recipe import load

READER = ClipReader()


def parts(source: Any, *, validation: Any = None, test: Any = None, seed: int = 0, **settings: Any) -> Any:
    made = ClipSettings.model_validate(settings)
    return READER.parts(source, "frames", made, validation=validation, test=test, seed=seed)


def whole(source: Any, **settings: Any) -> Clips:
    return parts(source, validation_fraction=0, test_fraction=0, **settings).train


def film(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save_pictures(folder: Path, frames: np.ndarray, name: str = "f{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(i))
    return folder


def save_gif(path: Path, frames: np.ndarray) -> Path:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=40, loop=0)
    return path


def scaled(clips: Clips) -> list[np.ndarray]:
    return [clips.clip(i).numpy() for i in range(len(clips))]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_an_archive_of_grey_frames(tmp_path: Path) -> None:
    frames = film(5, 4, 6, 3)
    np.savez(tmp_path / "film.npz", frames=frames, other=np.zeros(3))
    clips = whole(tmp_path / "film.npz")
    assert clips.lengths.tolist() == [4] * 5
    for found, expected in zip(scaled(clips), frames, strict=True):
        np.testing.assert_allclose(found[:, 0], expected / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "order"),
    [
        ((5, 4, 6, 3, 3), None, "NTHWC"),
        ((4, 5, 6, 7), "tnhw", "TNHW"),
        ((5, 4, 3, 6, 7), "NTCHW", "NTCHW"),
        ((4, 6, 7, 3), "THWC", "THWC"),
        ((6, 7, 4), "HWT", "HWT"),
    ],
)
def test_axes_of_arrays(shape: tuple[int, ...], axes: str | None, order: str, tmp_path: Path) -> None:
    array = film(*shape)
    np.save(tmp_path / "film.npy", array)
    wanted = "".join(letter for letter in "NTCHW" if letter in order)
    expected = np.einsum(f"{order}->{wanted}", array)
    expected = expected if "N" in order else expected[None]
    expected = expected if "C" in order else expected[:, :, None]
    clips = whole(tmp_path / "film.npy", **({"axes": axes} if axes else {}))
    np.testing.assert_allclose(np.stack(scaled(clips)), expected / 255, atol=1e-6)


def test_clips_of_several_lengths_from_python_and_from_padding(tmp_path: Path) -> None:
    long, short = film(7, 4, 4), film(3, 4, 4, seed=1)
    listed = whole([long, torch.from_numpy(short)])
    padded = np.zeros((2, 7, 4, 4), np.uint8)
    padded[0], padded[1, :3] = long, short
    np.savez(tmp_path / "a.npz", padded, lengths=np.array([7, 3]), ids=np.array(["long", "short"]))
    read = whole(tmp_path / "a.npz")
    assert listed.lengths.tolist() == read.lengths.tolist() == [7, 3]
    assert torch.equal(listed.frames, read.frames)
    assert read.ids == ["long", "short"]


def test_pictures_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    frames = film(12, 5, 4)
    save_pictures(tmp_path / "one", frames, "frame{}.png")
    (tmp_path / "one" / "notes.txt").write_text("nothing")
    one = whole(tmp_path / "one")
    np.testing.assert_array_equal(one.frames[:, 0].numpy(), frames)
    colours = film(3, 5, 4, 3)
    save_pictures(tmp_path / "two" / "b", colours, "{:03}.png")
    save_pictures(tmp_path / "two" / "a", film(2, 5, 4), "{:03}.bmp")
    two = whole(tmp_path / "two")
    assert two.ids == ["a", "b"]
    assert two.frames.shape == (5, 3, 5, 4)
    np.testing.assert_array_equal(two.frames[2:].permute(0, 2, 3, 1).numpy(), colours)
    assert (two.frames[:2] == two.frames[:2, :1]).all()  # grey in three channels beside the coloured ones


def test_animations(tmp_path: Path) -> None:
    frames = np.repeat(np.repeat(film(6, 3, 4), 2, 1), 2, 2)
    save_gif(tmp_path / "walk.gif", frames)
    one = whole(tmp_path / "walk.gif", length=3)
    np.testing.assert_array_equal(one.frames[:, 0].numpy(), frames)
    assert one.ids == ["walk:0", "walk:3"]
    (tmp_path / "all").mkdir()
    save_gif(tmp_path / "all" / "2.gif", frames[:4])
    save_gif(tmp_path / "all" / "10.gif", frames)
    assert whole(tmp_path / "all").ids == ["2", "10"]


def test_colours_become_grey_as_pillow_has_it(tmp_path: Path) -> None:
    frames = film(3, 5, 4, 3)
    np.save(tmp_path / "a.npy", frames[None])
    grey = whole(tmp_path / "a.npy", colour="grey").frames[:, 0].numpy()
    expected = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames])
    assert np.abs(grey.astype(int) - expected).max() <= 1
    assert whole(film(2, 3, 4, 4), colour="rgb").frames.shape == (6, 3, 4, 4)


def test_what_is_transparent_lies_before_black_and_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., :3], half[..., 3] = 200, 128
    deep = (np.arange(16, dtype=np.uint16) * 4096).reshape(4, 4)
    (tmp_path / "a").mkdir()
    Image.fromarray(half, "RGBA").save(tmp_path / "a" / "0.png")
    Image.fromarray(deep).save(tmp_path / "a" / "1.png")
    frames = whole(tmp_path / "a").frames[:, 0].numpy()
    assert np.abs(frames[0].astype(int) - 100).max() <= 1
    np.testing.assert_array_equal(frames[1], deep >> 8)


def test_depth_is_told_by_the_file_and_not_by_what_a_frame_shows(tmp_path: Path) -> None:
    deep = np.stack([np.full((4, 4), value, np.uint16) for value in (250, 260, 65535)])
    save_pictures(tmp_path / "a", deep)
    assert whole(tmp_path / "a").frames[:, 0, 0, 0].tolist() == [0, 1, 255]
    save_pictures(tmp_path / "b", deep, "{}.tif")
    assert whole(tmp_path / "b").frames[:, 0, 0, 0].tolist() == [0, 1, 255]


def test_pictures_of_wide_numbers_are_read_as_these(tmp_path: Path) -> None:
    shares = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    save_pictures(tmp_path / "a", shares, "{}.tif")
    found = whole(tmp_path / "a")
    np.testing.assert_array_equal(found.frames[:, 0].numpy(), shares)
    assert (found.low, found.high) == (0.0, 1.0)
    save_pictures(tmp_path / "b", (shares * 1e6).astype(np.int32), "{}.tif")
    np.testing.assert_array_equal(whole(tmp_path / "b").frames[:, 0].numpy(), (shares * 1e6).astype(np.int32))
    shares[2, 1, 3] = np.nan
    save_pictures(tmp_path / "a", shares, "{}.tif")
    refused(
        f"{tmp_path / 'a' / '2.tif'}: the value at (1, 3) is nan, where finite numbers are expected.", tmp_path / "a"
    )
    Image.fromarray(film(5, 6)).save(tmp_path / "b" / "2.tif")
    said = f"holds bytes, where {tmp_path / 'b' / '0.tif'} holds other numbers; one kind in all is expected."
    refused(f"{tmp_path / 'b' / '2.tif'}: {said}", tmp_path / "b")
    name = "the training data given, clip"
    said = f"{name} 1: holds other numbers, where {name} 0 holds bytes; one kind in all is expected."
    refused(said, [film(3, 4, 4), film(3, 4, 4) / 255.0])


def test_what_is_left_beside_is_told(tmp_path: Path) -> None:
    frames = film(3, 8, 8) // 128 * 255
    for i in range(2):
        save_gif(tmp_path / "mixed" / f"{i}.gif" if i else save_pictures(tmp_path / "mixed", frames) / "0.gif", frames)
    save_pictures(tmp_path / "mixed" / "more", frames)
    (tmp_path / "mixed" / "notes").mkdir()
    (tmp_path / "mixed" / "readme.txt").write_text("nothing")
    found = parts(tmp_path / "mixed", validation_fraction=0, test_fraction=0)
    said = "its 2 GIFs are read; beside them left out: f0.png, f1.png, f2.png, more (4)."
    assert found.warnings == [f"{tmp_path / 'mixed'}: {said}"]
    save_pictures(tmp_path / "root", frames)
    save_pictures(tmp_path / "root" / "sub", frames)
    found = parts(tmp_path / "root", validation_fraction=0, test_fraction=0)
    said = "its 3 pictures are read; beside them left out: sub (1)."
    assert found.warnings == [f"{tmp_path / 'root'}: {said}"]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_of_pictures_with_several_frames_the_first_is_read_and_told(kind: str, tmp_path: Path) -> None:
    frames = film(3, 4, 4)
    for i in range(2):
        save_gif(tmp_path / f"{i}.{kind}", frames + i)
    Image.fromarray(frames[0]).save(tmp_path / f"2.{kind}")
    found = parts(tmp_path, validation_fraction=0, test_fraction=0)
    assert len(found.train.frames) == 3
    assert len(found.warnings) == 1
    said = f"{tmp_path}: 2 pictures hold several frames, of which the first is read; the first such: {tmp_path}"
    assert found.warnings[0].startswith(f"{said}/0.{kind} (3).")


def test_one_clip_in_colours_is_asked_after(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", film(20, 6, 9, 3))
    (said,) = parts(tmp_path / "film.npy").warnings
    assert said.endswith("is read as 20 clips of 6 frames, 9 × 3 pixels high and wide; if it is one clip with 3 "
                         "channels: --set data.axes=THWC (else NTHW).")  # fmt: skip
    assert not parts(tmp_path / "film.npy", axes="NTHW").warnings


def test_frames_are_brought_to_one_size(tmp_path: Path) -> None:
    smooth = (np.add.outer(np.arange(24), np.arange(16)) * 5).astype(np.uint8)
    save_pictures(tmp_path / "big", np.stack([smooth, smooth]))
    save_pictures(tmp_path / "all" / "a", np.stack([smooth, smooth]))
    save_pictures(tmp_path / "all" / "b", np.stack([smooth[::2, ::2]] * 3))
    clips = whole(tmp_path / "all", size=[6, 4])
    assert clips.frames.shape == (5, 1, 6, 4)
    means = smooth.reshape(6, 4, 4, 4).mean((1, 3))
    assert np.abs(clips.frames[0, 0].numpy()[1:-1, 1:-1] - means[1:-1, 1:-1]).max() <= 2


# --- scale ------------------------------------------------------------------------------------------------------------


def test_what_stands_for_0_and_1() -> None:
    random = np.random.default_rng(0)
    share, wide = random.random((6, 4, 3, 3)), 7 * random.normal(size=(6, 4, 3, 3))
    for array, low_high in ((share, (0, 1)), (film(6, 4, 3, 3), (0, 255)), (film(6, 4, 3, 3).astype(bool), (0, 1))):
        found = parts(array)
        assert (found.schema.low, found.schema.high) == low_high
        assert not found.warnings
    found = parts(wide, test_fraction=0.5, validation_fraction=0)
    low, high = found.train.frames.min().item(), found.train.frames.max().item()
    assert (found.schema.low, found.schema.high) == pytest.approx((low, high))  # of the training part alone
    assert (low, high) != pytest.approx((wide.min(), wide.max()))
    assert "values of the training part go from" in found.warnings[0]
    told = parts(wide, range=[-30, 30])
    assert not told.warnings
    np.testing.assert_allclose(told.train.scaled(told.train.frames).mean(), 0.5, atol=0.05)


def test_bytes_and_shares_of_one_stand_for_each_other() -> None:
    frames = film(6, 4, 3, 3)
    of_bytes, of_shares = parts(frames).schema, parts(frames / 255.0).schema
    for schema in (of_bytes, of_shares):
        for array in (frames, frames / 255.0, frames.astype(np.float64)):
            clips, _ = READER.part(array, schema)
            np.testing.assert_allclose(np.stack(scaled(clips))[:, :, 0], frames / 255, atol=1e-6)


def test_a_hair_over_one_is_no_byte() -> None:
    """Floating-point numbers beside shares of 1 keep their scale, whatever a single clip holds; and it is told."""
    shares = np.random.default_rng(0).random((20, 4, 5, 5))
    for clip in range(20):
        over = shares.copy()
        over[clip, 2, 1, 1] = 1.5
        found = parts(over)
        assert (found.schema.high == 1.5) == (found.train.frames.max() == 1.5)
        assert {part.high for part in found.named.values()} == {found.schema.high}
        assert len(found.warnings) == 1  # of the training part's values, or of those that lie beyond
    schema = parts(shares).schema
    clips, warnings = READER.part(shares[:3] * 1.02, schema)
    assert (clips.low, clips.high) == (0.0, 1.0)
    said = f"values go from {shares[:3].min() * 1.02:g} to {shares[:3].max() * 1.02:g}, where those of the training"
    assert warnings[0].startswith(f"the data given: {said} part lie between 0 and 1; ")
    clips, warnings = READER.part(shares[:3] * 1.02, parts(film(20, 4, 5, 5)).schema)  # a run of bytes
    assert clips.high == 255
    assert "where 255 stands for 1 as in the training part" in warnings[0]
    masks = film(3, 4, 5, 5) % 2
    assert "values go from -1 to 0, where" in READER.part(masks - 1.0, schema)[1][0]


def test_a_going_on_run_keeps_its_scale() -> None:
    shares = np.random.default_rng(0).random((20, 4, 5, 5))
    kept = parts(shares).schema
    new = READER.parts(shares * 1.5, "frames", ClipSettings(), kept=kept).schema
    assert (new.low, new.high) == (0.0, 1.0)


def test_masks_in_bytes_are_zero_and_one() -> None:
    masks = film(20, 4, 5, 5) % 2
    found = parts(masks)
    assert (found.train.low, found.train.high) == (0.0, 1.0)
    assert found.warnings == [
        "the training data given: the largest byte of the training part is 1, which stands for 1; data.range = [0, "
        "255] has them as dark as they are written."
    ]
    assert READER.part(masks, found.schema)[0].high == 1
    assert READER.part(masks * 255, found.schema)[0].high == 255
    assert READER.part(masks, parts(masks * 255).schema)[0].high == 255  # dark, where 255 was white
    told = parts(masks, range=[0, 255])
    assert (told.train.high, told.warnings) == (255, [])


# --- parts ------------------------------------------------------------------------------------------------------------


def test_parts_by_name_and_by_seed(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("valid", 2), ("test", 3)):
        for clip in range(count):
            save_pictures(tmp_path / name / f"c{clip}", film(3, 4, 4, seed=clip))
    found = parts(tmp_path)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [5, 2, 3]
    drawn = parts(film(20, 3, 4, 4), seed=3)
    assert [len(part) for part in (drawn.train, drawn.validation, drawn.test)] == [14, 2, 4]
    assert drawn.sources["test"] == "0.2 of the training data given, split seed 3"


def test_pieces_of_a_film_stay_in_one_part() -> None:
    one = parts(film(1, 100, 4, 4), length=10)
    assert [part.ids for part in (one.validation, one.test)] == [
        ["0:70"],
        ["0:80", "0:90"],
    ]  # in time, the last for test
    assert len(one.train) == 7
    several = parts(film(10, 20, 4, 4), length=5)
    films = [{name.split(":")[0] for name in part.ids} for part in several.named.values()]
    assert not set.intersection(*films)
    assert sum(map(len, films)) == 10
    assert "10 clips cut into 40 of at most 5 frames" in several.warnings[0]


def test_a_piece_of_one_frame_and_a_clip_of_one_frame_are_left_out_and_told() -> None:
    assert whole(film(1, 11, 4, 4), length=5).lengths.tolist() == [5, 5]
    found = parts([film(3, 4, 4), film(1, 4, 4), film(2, 4, 4)], validation_fraction=0, test_fraction=0)
    assert found.train.lengths.tolist() == [3, 2]
    assert found.warnings == [
        "the training data given: 1 clip of one frame left out; the first: the training data given, clip 1."
    ]


def test_content_has_a_fingerprint(tmp_path: Path) -> None:
    frames = film(4, 3, 4, 4)
    prints = {parts(v).fingerprint for v in (frames, frames.copy(), frames[::-1], frames.astype(np.float32))}
    assert len(prints) == 3
    np.save(tmp_path / "a.npy", frames)
    before = parts(tmp_path / "a.npy").fingerprint
    np.save(tmp_path / "a.npy", frames[::-1])
    assert parts(tmp_path / "a.npy").fingerprint != before


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_beside_the_frames(tmp_path: Path) -> None:
    labels = np.array([[0, 1, -1], [2, 2, 1]])
    np.savez(tmp_path / "a.npz", frames=film(2, 3, 4, 4), labels=labels)
    clips = whole(tmp_path / "a.npz")
    schema = parts(tmp_path / "a.npz", validation_fraction=0, test_fraction=0).schema
    assert schema.classes == ["0", "1", "2"]
    assert clips.labels is not None
    assert clips.asked is not None
    assert clips.labels.tolist() == [0, 1, -1, 2, 2, 1]
    assert clips.asked.tolist() == [True, True, False, True, True, True]
    assert whole(tmp_path / "a.npz", target="next").labels is None


def test_labels_of_a_table(tmp_path: Path) -> None:
    for clip in ("a", "b"):
        save_pictures(tmp_path / "films" / clip, film(3, 4, 4))
    table = "clip,frame,label\na,0,up\na,2,down\nb,1,up\n"
    (tmp_path / "films" / "labels.csv").write_text(table)
    found = parts(tmp_path / "films", validation_fraction=0, test_fraction=0)
    assert found.schema.classes == ["down", "up"]
    assert found.train.labels.tolist() == [1, -1, 0, -1, 1, -1]
    (tmp_path / "films" / "labels.csv").rename(tmp_path / "films" / "said.csv")
    assert parts(tmp_path / "films", validation_fraction=0, test_fraction=0).schema.target == "next"
    said = parts(tmp_path / "films", labels="said.csv", validation_fraction=0, test_fraction=0)
    assert said.train.labels.tolist() == found.train.labels.tolist()
    new = tmp_path / "new"
    save_pictures(new / "c", film(2, 4, 4))
    clips, _ = READER.part(new, said.schema)  # without labels of its own
    assert clips.labels is None
    (new / "said.csv").write_text("clip,frame,label\nc,0,up\nc,1,sideways\n")
    clips, warnings = READER.part(new, said.schema, targets=True)
    assert clips.labels is not None
    assert clips.labels.tolist() == [1, -1]
    told = "1 frame has a label that the training part does not have (sideways); counted as wrong."
    assert warnings == [f"{new}: {told}"]


@pytest.mark.parametrize("between", [";", "\t"])
def test_labels_of_a_table_with_other_separators(between: str, tmp_path: Path) -> None:
    for clip in "ab":
        save_pictures(tmp_path / clip, film(3, 4, 4))
    rows = ["clip,frame,label", *(f"{clip},{i},{'x,y'[i]}" for clip in "ab" for i in (0, 2))]
    (tmp_path / "labels.csv").write_text("\n".join(rows).replace("x,y", "xy").replace(",", between) + "\n")
    found = whole(tmp_path)
    assert found.labels is not None
    assert found.asked is not None
    assert found.asked.tolist() == [True, False, True] * 2


def test_labels_from_python() -> None:
    labels = [["a", None, "b"], ["b", "b"]]
    found = parts((list(np.array_split(film(5, 4, 4), [3])), labels), validation_fraction=0, test_fraction=0)
    assert found.train.labels.tolist() == [0, -1, 1, 1, 1]


# --- further data -----------------------------------------------------------------------------------------------------


def test_further_data_are_read_as_the_training_data_were(tmp_path: Path) -> None:
    schema = parts(film(6, 4, 5, 3)).schema
    one = save_pictures(tmp_path / "one", film(1, 5, 3))  # of one frame a next one can be told
    assert READER.part(one, schema)[0].lengths.tolist() == [1]
    coloured = np.repeat(film(2, 5, 3)[..., None], 3, -1)
    coloured[0, 0, 0] = (9, 0, 200)
    clips, _ = READER.part(coloured[None], schema)
    assert clips.frames.shape == (2, 1, 5, 3)
    held = io.BytesIO()
    np.savez(held, film(2, 3, 5, 3))
    held.seek(0)
    assert len(READER.part(held, schema)[0]) == 2
    for part in ("train", "test"):
        save_pictures(tmp_path / "set" / part, film(3, 5, 3))
    assert READER.part(tmp_path / "set", schema)[1] == [f"{tmp_path / 'set'}: test is read."]


def test_a_made_source_is_read_with_the_options_of_the_run() -> None:
    made = load("frames", {"data.name": "swinging", "data.options": {"test": 3, "training": 4, "length": 6}})
    found = READER.parts(None, "frames", made.data)
    again, _ = READER.part("swinging", found.schema)
    assert found.test is not None
    assert torch.equal(again.frames, found.test.frames)


def test_what_is_described() -> None:
    made = load("frames", {"data.name": "moving_shapes", "data.options": {"test": 3, "training": 40}})
    said = READER.describe(None, made.data, "frames").splitlines()
    assert said[0] == "train: moving_shapes (train part) (moving_shapes)"
    assert said[1] == "  clips      40"
    assert "a frame: 16 × 16, whole numbers from 0 to 255; 0 stands for 0, 255 for 1" in said
    assert "labels of frames: 4 (down, left, right, up)" in said
    assert said[-1] == "told at every frame: its label"


# --- batches ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_batches_are_padded_with_nothing(lengths: list[int], seed: int) -> None:
    clips = whole([film(length, 3, 2, seed=seed + i) for i, length in enumerate(lengths)])
    order = torch.randperm(len(clips))
    batch = collate(clips, order, "next")
    read, within, _ = batch.inputs
    assert len(read) == max(lengths) - 1
    for row, index in enumerate(order.tolist()):
        length = lengths[index]
        assert torch.equal(batch.frames[:length, row], clips.clip(index))
        assert not batch.frames[length:, row].any()
        assert batch.within[:, row].tolist() == [t < length - 1 for t in range(max(lengths) - 1)]
        assert within is None or int(within[row]) == length - 1
    assert batch.steps == sum(lengths) - len(lengths)


# --- faults -----------------------------------------------------------------------------------------------------------


def refused(said: str, source: Any, **settings: Any) -> None:
    with pytest.raises(DataError) as told:
        parts(source, **settings)
    assert str(told.value) == said


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", film(2, 4, 6))
    Image.fromarray(film(5, 6)).save(tmp_path / "a" / "f2.png")
    mend = "frames of one size are expected, or one that all are brought to: --set 'data.size=[4, 6]'."
    name = tmp_path / "a" / "f2.png"
    refused(
        f"{name}: is 5 × 6 pixels high and wide, where {tmp_path / 'a' / 'f0.png'} is 4 × 6; {mend}", tmp_path / "a"
    )
    save_gif(tmp_path / "one.gif", film(2, 4, 6))
    save_gif(tmp_path / "two.gif", film(2, 4, 7))
    said = f"{tmp_path / 'two.gif'}: is 4 × 7 pixels high and wide, where {tmp_path / 'one.gif'} is 4 × 6; {mend}"
    refused(said, tmp_path, format="gif")
    name = "the training data given, clip"
    refused(f"{name} 1: is 4 × 7 pixels high and wide, where {name} 0 is 4 × 6; {mend}", [film(3, 4, 6), film(3, 4, 7)])
    schema = parts(film(6, 4, 4, 6)).schema
    with pytest.raises(DataError, match=r"its frames are 5 × 6 pixels high and wide; the training data had 4 × 6\."):
        READER.part(film(1, 3, 5, 6), schema)


def test_a_folder_that_is_no_clip_is_named(tmp_path: Path) -> None:
    for clip in "abc":
        save_pictures(tmp_path / clip, film(3, 4, 4))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").write_text("nothing")
    said = f"holds no picture, as folders beside it do; every folder in {tmp_path} is a clip."
    refused(f"{tmp_path / 'notes'}: {said}", tmp_path)


def test_a_single_clip_is_to_be_cut() -> None:
    refused(
        "the training data given: is a single clip, of which no part can be split off. With data.length = 5, say, it "
        "is cut into clips of 5 frames, which are parted in time, the last for the test; or give parts apart (--test "
        "PATH).",
        film(1, 50, 4, 4),
    )
    assert len(whole(film(1, 50, 4, 4))) == 1


def test_arrays_that_are_no_film(tmp_path: Path) -> None:
    name = "the training data given"
    kinds = "(N, T, H, W), (N, T, H, W, C) or (T, H, W)"
    refused(f"{name}: an array of shape (3, 4) is no film; {kinds} is expected.", film(3, 4))
    said = "has 5 channels, where 1, 3 or 4 are expected; data.axes names its axes, such as NTCHW."
    refused(f"{name}: an array of shape (2, 3, 4, 4, 5) {said}", film(2, 3, 4, 4, 5))
    refused(
        f"{name}: an array of shape (2, 3, 4) is no film; an axis for each of NTHW is expected.",
        film(2, 3, 4),
        axes="NTHW",
    )
    refused(f"{name}: an array of shape (0, 3, 4, 4) holds no frame.", film(0, 3, 4, 4))
    broken = np.ones((2, 3, 4, 4))
    broken[1, 2, 0, 3] = np.nan
    refused(f"{name}: the value at (1, 2, 0, 3, 0) is nan, where finite numbers are expected.", broken)
    refused(f"{name}: every value of every frame is 7; there is nothing to be told.", np.full((6, 3, 4, 4), 7.0))
    refused(f"{name}: no clip has a second frame, which is to be told from the first.", film(6, 1, 4, 4))
    words = np.array([[["a", "b"], ["c", "d"]]])
    refused(f"{name}: holds <U1, where numbers are expected.", words)
    listed = "an array of frames (N, T, H, W) or (N, T, H, W, C), a list of such clips, or (frames, labels) is expected"
    refused(f"{name}: {listed}, not dict.", {"frames": film(2, 3, 4, 4)})
    np.savez(tmp_path / "a.npz", a=film(2, 3, 4, 4), b=film(2, 3, 4, 4))
    path = tmp_path / "a.npz"
    refused(f"{path}: holds a, b; name the one with the frames: --set data.frames=NAME.", path)
    refused(f"{path}: data.frames: unknown array 'c'. Known: a, b", path, frames="c")
    np.savez(path, frames=film(2, 3, 4, 4), lengths=np.array([3, 4]))
    refused(f"{path}, clip 1: its length is 4; 1 to 3 is expected.", path)


def test_files_that_are_damaged_or_no_film(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", film(2, 3, 4, 4))
    whole_file = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole_file[:60])
    with pytest.raises(DataError, match=r"cut\.npz: is no NumPy file that can be read"):
        parts(tmp_path / "cut.npz")
    np.save(tmp_path / "a.npy", film(2, 3, 4, 4))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"4), }", b"4, } "))  # NumPy reads its header as Python does
    with pytest.raises(DataError, match=r"a\.npy: is no NumPy file that can be read"):
        parts(tmp_path / "a.npy")
    save_gif(tmp_path / "b.gif", film(4, 16, 16))
    (tmp_path / "b.gif").write_bytes((tmp_path / "b.gif").read_bytes()[:40])
    with pytest.raises(DataError, match=r"b\.gif: is no picture that can be read"):
        parts(tmp_path / "b.gif")
    save_pictures(tmp_path / "c", film(3, 4, 4))
    (tmp_path / "c" / "f1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"f1\.png: is no picture that can be read \(cannot identify image file"):
        parts(tmp_path / "c")
    (tmp_path / "d.txt").write_text("hello")
    said = f"{tmp_path / 'd.txt'}: holds no frames that are known; it starts with the bytes 68 65 6c 6c; expected npz, "
    with pytest.raises(DataError) as told:
        parts(tmp_path / "d.txt")
    assert str(told.value) == said + "npy, gif, pictures, named by --input-format."
    np.savez(tmp_path / "e.npz", frames=np.array([None, 1], dtype=object))
    with pytest.raises(DataError, match=r"e\.npz: is no NumPy file that can be read \(Object arrays cannot be loaded"):
        parts(tmp_path / "e.npz")
    with pytest.raises(DataError, match=r"unknown format 'gifs'; did you mean 'gif'\?"):
        parts(tmp_path / "c", format="gifs")


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    frames, name = film(2, 3, 4, 4), "the training data given"
    rows = "labels: a row for each of 2 clips is expected, with a label for each frame, not"
    refused(f"{name}: {rows} (2,).", (frames, np.array([0, 1])))
    refused(f"{name}, clip 0: has 3 frames, but 2 labels.", (frames, np.array([[0, 1], [0, 1]])))
    two = "at least two different labels are expected in the training part; found only '1'."
    refused(f"{name}: {two}", (film(8, 3, 4, 4), np.ones((8, 3), int)))
    refused(
        f"{name}: has no labels, which data.target = 'label' needs; data.labels names them.", frames, target="label"
    )
    path = tmp_path / "labels.csv"
    save_pictures(tmp_path / "a", film(3, 4, 4))
    save_pictures(tmp_path / "b", film(3, 4, 4))
    for text, said in (
        (
            "clip,frame,tag\n",
            f"{path}, line 1: unknown column 'label'. Known: clip, frame, tag; expected clip, frame, label.",
        ),
        ("clip,frame,label\na,0,x\nc,0,x\n", f"{path}, line 3: unknown clip 'c'. Known: a, b"),
        ("clip,frame,label\na,3,x\n", f"{path}, line 2: frame '3': clip a has frames 0 to 2."),
        (
            "clip,frame,label\na,0,x\na,1,y\na,0,x\na,1,x\n",
            f"{path}, line 5: frame 1 of clip a is 'x', but 'y' in line 3; one label is expected.",
        ),
        ("clip,frame,label\na,0\n", f"{path}, line 2: has 2 cells, where the first line has 3."),
    ):
        path.write_text(text)
        refused(said, tmp_path)
    test = film(2, 3, 4, 4)
    with pytest.raises(DataError, match="the test data given: has no labels, which are needed to measure on it"):
        parts((film(8, 3, 4, 4), np.arange(24).reshape(8, 3) % 2), test=test)


def contents() -> dict[str, bytes]:
    """A whole file of each kind."""
    found = {}
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed), ("a.npy", np.save)):
        held = io.BytesIO()
        save(held, film(2, 3, 4, 4))  # pyright: ignore[reportArgumentType]
        found[name] = held.getvalue()
    for name in ("a.gif", "a.png", "a.jpg", "a.bmp", "a.webp", "a.tiff"):
        held = io.BytesIO()
        first, *rest = (Image.fromarray(frame) for frame in film(3, 4, 4))
        more: dict[str, Any] = {"save_all": True, "append_images": rest} if name == "a.gif" else {}
        first.save(held, Image.registered_extensions()[f".{name.partition('.')[2]}"], **more)
        found[name] = held.getvalue()
    return found


WHOLE = contents()


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_no_content_of_a_file_breaks_reading(name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 6)))
        content[start:stop] = data.draw(st.binary(max_size=6))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "film"
        folder.mkdir()
        (folder / name).write_bytes(content)
        with contextlib.suppress(DataError):
            whole(folder / name if name.endswith(("z", "y", "gif")) else folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data.axes": "NTHH"}, "data.axes: 'NTHH': T, H and W are expected, perhaps N and C, once each, such as NTHW"),
        ({"data.range": [1, 0]}, "range: .*two rising numbers are expected"),
        ({"data.size": [0, 4]}, "size: .*height and width from 1 on are expected"),
        ({"data.size": [4]}, "data.size"),
        ({"data.length": 1}, "data.length"),
        ({"data.colour": "gray"}, "data.colour.*'grey'"),
        ({"data.framez": "a"}, "data.framez.*data.frames"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load("frames", settings)


def test_the_schema_is_kept_whole() -> None:
    schema = parts((film(8, 3, 4, 4), np.arange(24).reshape(8, 3) % 2), colour="grey").schema
    assert ClipSchema.model_validate_json(schema.model_dump_json()) == schema
    assert READER.settings_of(schema).colour == "grey"
