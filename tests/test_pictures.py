"""Folders of PNG and JPEG files."""

import io
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pyarrow import parquet

import nice_tf
from nice_tf.data import cache, dataset, pictures
from nice_tf.data.rows import Rows
from nice_tf.scoring import files as files_lib
from nice_tf.scoring.inputs import ArrayInput
from nice_tf.scoring.model import Model
from nice_tf.training import run

GREY = np.random.default_rng(0).integers(0, 256, [20, 6, 5, 1], np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, [20, 6, 5, 3], np.uint8)


def write(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values).save(path, **options)
    return path


@pytest.fixture
def load(tmp_path):
    """Loads `tmp_path / "set"`, in memory or on disk; what is cached goes to a folder of the test."""

    def load(folder=None, **settings):
        folder = folder or tmp_path / "set"
        return dataset.load(
            nice_tf.Config(
                dataset=str(folder),
                **{"batch_size": 4, "data_dir": str(tmp_path / "cache"), **settings},
            )
        )

    return load


def rows(values):
    return sorted(map(tuple, np.reshape(values, [len(values), -1]).tolist()))


def all_of(found):
    return np.concatenate([found.train, found.validation, found.test])


@pytest.mark.parametrize("values", [GREY, COLOUR])
def test_a_folder_and_those_below_it_are_the_array(load, tmp_path, values):
    for number, picture in enumerate(values):
        write(
            tmp_path
            / "set"
            / ("ab"[number % 2])
            / f"{number:02d}.{('png', 'PNG')[number % 3 == 0]}",
            picture,
        )
    write(tmp_path / "set" / ".hidden" / "other.png", values[0, :3])
    found = load()
    assert found.levels == 256 and found.train.dtype == np.uint8 and found.warnings == ()
    assert found.event_shape == [6, 5, values.shape[-1]] and rows(all_of(found)) == rows(values)
    np.save(tmp_path / "sorted.npy", np.concatenate([values[::2], values[1::2]]))
    np.testing.assert_array_equal(found.test, load(tmp_path / "sorted.npy").test)


def test_folders_of_splits(load, tmp_path):
    for number, picture in enumerate(GREY):
        split = "test" if number >= 16 else "validation" if number >= 12 else "train/more"
        write(tmp_path / "set" / split / f"{number:02d}.png", picture)
    found = load()
    for split, part in (
        (found.train, GREY[:12]),
        (found.validation, GREY[12:16]),
        (found.test, GREY[16:]),
    ):
        np.testing.assert_array_equal(split, part)
    write(tmp_path / "set" / "extra" / "a.png", GREY[0])
    write(tmp_path / "set" / "extra" / "b.png", GREY[0])
    with pytest.raises(
        nice_tf.UserError,
        match="holds the arrays test, the pictures, train, validation; it must hold",
    ):
        load()


def test_on_disk_as_in_memory(load, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="nice_tf")
    monkeypatch.setattr(pictures, "_CHUNK_BYTES", 100)  # several chunks, the last one smaller
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    (tmp_path / "set" / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "set" / "08.jpg").write_bytes(b"")
    for resize in ((), (4, 3)):
        settings = {"skip_bad": True, "resize": resize}
        expected, first = load(**settings), load(in_memory_mb=0, **settings)
        assert "copying the data to" in caplog.text
        caplog.clear()
        again = load(in_memory_mb=0, **settings)
        assert not caplog.text, "it is copied once"
        for found in (first, again):
            assert isinstance(found.train, Rows) and found.description() == expected.description()
            np.testing.assert_array_equal(found.train, expected.train, strict=True)
            assert (
                found.warnings
                == expected.warnings
                == ("2 of 21 pictures cannot be decoded and are left out: 07.png, 08.jpg",)
            )
    with pytest.raises(nice_tf.UserError, match=r"07\.png cannot be decoded"):
        load(in_memory_mb=0)


def test_a_kill_does_not_part_a_copy_from_the_names_of_its_bad_pictures(
    load, tmp_path, monkeypatch
):
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    (tmp_path / "set" / "07.png").write_bytes(b"")
    write_copy = cache._write

    def killed(path, content):
        write_copy(path, content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache, "_write", killed)
        load(in_memory_mb=0, skip_bad=True)
    found = load(in_memory_mb=0, skip_bad=True)
    assert found.warnings == ("1 of 20 pictures cannot be decoded and are left out: 07.png",)


def test_every_kind_becomes_grey_or_rgb(tmp_path):
    picture, mask = Image.fromarray(COLOUR[0]), Image.fromarray(GREY[0, ..., 0] > 99)
    palette = picture.quantize(16)
    opaque = [Image.fromarray(GREY[0, ..., 0]).convert("LA"), picture.convert("RGBA")]
    expected = {
        "1.png": (mask, 255 * np.asarray(mask, np.uint8)[..., np.newaxis]),
        "P.png": (palette, np.asarray(palette.convert("RGB"))),
        "LA.png": (opaque[0], GREY[0]),
        "RGBA.png": (opaque[1], COLOUR[0]),
    }
    for name, (image, values) in expected.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(pictures.decode(str(tmp_path / name)), values, strict=True)
    flat = Image.new("RGB", (16, 16), (200, 100, 50))
    for name, image in (("rgb.jpg", flat), ("cmyk.jpeg", flat.convert("CMYK"))):
        image.save(tmp_path / name, quality=95)
        np.testing.assert_allclose(pictures.decode(str(tmp_path / name)), np.asarray(flat), atol=3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    write(tmp_path / "turned.png", COLOUR[0], exif=exif)
    np.testing.assert_array_equal(
        pictures.decode(str(tmp_path / "turned.png")), np.rot90(COLOUR[0], -1)
    )


def test_resize_is_height_and_width(load, tmp_path):
    for number in range(12):
        write(
            tmp_path / "set" / f"{number}.png",
            np.full([8 + 2 * number, 12, 1], 20 * number, np.uint8),
        )
    found = load(resize=(4, 6), batch_size=2)
    assert found.event_shape == [4, 6, 1] and {values.mean() for values in all_of(found)} == set(
        range(0, 240, 20)
    )
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[:, np.newaxis, np.newaxis], 8, axis=1)
    small = pictures.decode(str(write(tmp_path / "ramp.png", ramp)), (6, 8))[:, 0, 0]
    np.testing.assert_allclose(small[1:-1], np.arange(15, 240, 40)[1:-1], atol=1)  # means of four


def with_alpha(value):
    alpha = np.full([6, 5, 1], 255, np.uint8)
    alpha[2, 3] = value
    return np.concatenate([COLOUR[0], alpha], axis=-1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            COLOUR[0, :4],
            r"bad\.png is 4 pixels high and 5 wide, .*00\.png 6 and 5: .* resize brings them to one",
        ),
        (GREY[0], r"bad\.png is grey, .*00\.png coloured: all must be the one or the other"),
        (
            GREY[0].astype(np.uint16),
            r"bad\.png has 16 bits per value, 65,536 levels: 8 bits are needed",
        ),
        (
            with_alpha(254),
            r"bad\.png is transparent, of opacity 254 of 255 somewhere: put it on a background",
        ),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"skip_bad": True}])
def test_bad_pictures(load, tmp_path, values, message, settings):
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    write(tmp_path / "set" / "bad.png", values)
    with pytest.raises(nice_tf.UserError, match=message):
        load(**settings)
    (tmp_path / "set" / "bad.png").unlink()
    write(tmp_path / "set" / "good.png", with_alpha(255))
    load(**settings)


def test_a_transparent_colour_of_a_palette(tmp_path):
    palette = Image.fromarray(COLOUR[0]).quantize(4)
    palette.save(tmp_path / "a.png", transparency=int(np.asarray(palette)[0, 0]))
    with pytest.raises(nice_tf.UserError, match=r"a\.png is transparent, of opacity 0"):
        pictures.decode(str(tmp_path / "a.png"))


def test_a_colour_picture_of_16_bits_is_refused(tmp_path):
    """Pillow would take it for one of 8 bits."""
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(COLOUR[0].astype(np.uint16)).numpy())
    with pytest.raises(nice_tf.UserError, match="16 bits"):
        pictures.decode(str(tmp_path / "a.png"))


def encoded(picture, kind, **options):
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind, **options)
    return content.getvalue()


BROKEN = {
    "cut PNG": encoded(COLOUR[0], "PNG")[:-40],
    "cut JPEG": encoded(COLOUR[0], "JPEG")[:-40],
    "changed": encoded(COLOUR[0], "PNG").replace(b"IDAT", b"IDXT"),
    "empty": b"",
    "text": b"no picture",
    "GIF": encoded(COLOUR[0], "GIF"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_picture_is_named_and_left_out_only_if_asked(load, tmp_path, content):
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    (tmp_path / "set" / "00.png").write_bytes(content)  # the first: it decides nothing then
    with pytest.raises(
        nice_tf.UserError,
        match=r"00\.png cannot be decoded as a PNG or JPEG picture \([^<]*\): skip_bad leaves it out",
    ):
        load()
    found = load(skip_bad=True)
    assert rows(all_of(found)) == rows(COLOUR[1:])
    assert found.warnings == ("1 of 20 pictures cannot be decoded and are left out: 00.png",)


def test_few_of_many_bad_ones_are_named(load, tmp_path):
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    for number in range(11):
        (tmp_path / "set" / f"bad{number:02d}.png").write_bytes(b"")
    (tmp_path / "set" / "Thumbs.db").write_bytes(b"")
    assert load(skip_bad=True).warnings == (
        "11 of 31 pictures cannot be decoded and are left out: "
        + ", ".join(f"bad0{k}.png" for k in range(8))
        + " and 3 more",
        "1 of 32 files are no pictures and are left out: Thumbs.db",
    )
    assert ArrayInput(str(tmp_path / "set"), [6, 5, 3], 256).warnings == (
        "1 of 32 files are no pictures and are left out: Thumbs.db",
    )
    for path in (tmp_path / "set").glob("[0-9]*.png"):
        path.unlink()
    with pytest.raises(
        nice_tf.UserError, match=r"none of 11 files from .*bad00\.png on can be decoded"
    ):
        load(skip_bad=True)


def test_a_pipe_is_not_waited_for(load, tmp_path):
    for number, picture in enumerate(COLOUR):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    os.mkfifo(tmp_path / "set" / "pipe.png")
    with pytest.raises(nice_tf.UserError, match=r"pipe\.png is no file: skip_bad leaves it out"):
        load()
    assert rows(all_of(load(skip_bad=True))) == rows(COLOUR)


def test_a_split_of_bad_pictures_alone(load, tmp_path):
    write(tmp_path / "set" / "train" / "a.png", COLOUR[0])
    write(tmp_path / "set" / "test" / "b.png", COLOUR[0]).write_bytes(b"")
    for in_memory_mb in (0, 512):
        with pytest.raises(
            nice_tf.UserError, match=r"none of 1 files from .*b\.png on can be decoded"
        ):
            load(skip_bad=True, in_memory_mb=in_memory_mb)


def test_folders_with_nothing_usable_say_so(load, tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(
        nice_tf.UserError, match=r"set: the folder holds no table .*, only nothing at all"
    ):
        load()
    for name in ("b.gif", "a.txt"):
        (tmp_path / "set" / name).write_bytes(b"1")
    with pytest.raises(
        nice_tf.UserError,
        match=r"no \.tfrecord file and no PNG or JPEG picture, only a\.txt, b\.gif",
    ):
        load()


def test_a_folder_of_several_kinds_is_refused(load, tmp_path):
    write(tmp_path / "set" / "below" / "a.png", GREY[0])
    (tmp_path / "set" / "labels.csv").write_text("a,b\n1,2\n")
    message = rf"set holds tables \(labels\.csv\), pictures \(below{os.sep}a\.png\): give a folder of one kind"
    with pytest.raises(nice_tf.UserError, match=message):
        load()


def test_a_run_on_a_folder(tmp_path):
    for number in range(60):
        path = tmp_path / "set" / str(number // 30) / f"{number:02d}.jpg"
        write(path, np.roll(COLOUR, number, axis=1)[number % 20], quality=95)
    config = nice_tf.Config(
        dataset=str(tmp_path / "set"),
        resize=(4, 4),
        num_couplings=3,
        hidden_units=(8,),
        epochs=2,
        batch_size=10,
        num_draws=2,
        precision="float32",
    )
    result = nice_tf.train_and_evaluate(config, tmp_path / "run")
    assert (
        result["levels"] == 256 and result["event_size"] == 48 and 4 < result["bits_per_dim"] < 12
    )
    assert (tmp_path / "run" / "samples.png").exists()
    assert run.Workdir(tmp_path / "run").read_config()[0] == config
    files_lib.score_file(
        str(tmp_path / "run"), str(tmp_path / "set"), str(tmp_path / "scores.parquet")
    )
    scores = parquet.read_table(tmp_path / "scores.parquet")
    files = pictures.files_below(str(tmp_path / "set"))
    resized = np.stack([pictures.decode(file, (4, 4)) for file in files])
    expected = Model.load(tmp_path / "run").score(resized)["log_prob"]
    np.testing.assert_allclose(scores["log_prob"].to_numpy(), expected, rtol=1e-5)
    assert len(scores) == 60 and expected.std() > 1
    assert scores["file"].to_pylist() == [os.path.relpath(file, tmp_path / "set") for file in files]
    (tmp_path / "set" / "60.png").write_bytes(b"")
    with pytest.raises(
        nice_tf.UserError, match=r"60\.png cannot be decoded as a PNG or JPEG picture \([^<]*\)$"
    ):
        files_lib.score_file(
            str(tmp_path / "run"), str(tmp_path / "set"), str(tmp_path / "more.parquet")
        )


def png_of_size(width, height):
    """A PNG picture whose header claims this size, with the right checksum: 70 bytes that are to
    fill the memory.
    """
    content = encoded(GREY[0, ..., 0], "PNG")
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def jpeg_of_size(width, height):
    content = encoded(GREY[0, ..., 0], "JPEG")
    place = content.index(b"\xff\xc0") + 5
    return (
        content[:place]
        + height.to_bytes(2, "big")
        + width.to_bytes(2, "big")
        + content[place + 4 :]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            png_of_size(12_000, 12_000),
            "12000 pixels high and 12000 wide: at most 134,217,728 pixels are decoded",
        ),
        (png_of_size(2**30, 2**30), "a picture of more than 134,217,728 pixels"),
        (png_of_size(0, 5), "cannot be decoded|holds no PNG or JPEG picture"),
        (jpeg_of_size(65_000, 65_000), "a picture of more than 134,217,728 pixels"),
        (jpeg_of_size(11_000, 13_000), "13000 pixels high and 11000 wide: at most"),
    ],
)
def test_pictures_that_are_to_fill_the_memory_are_not_decoded(load, tmp_path, content, message):
    """In a folder and in a record."""
    for number, picture in enumerate(GREY):
        write(tmp_path / "set" / f"{number:02d}.png", picture)
    (tmp_path / "set" / "bomb.png").write_bytes(content)
    for resize in ((), (4, 4)):
        with pytest.raises(nice_tf.UserError, match=rf"bomb\.png .*({message})"):
            load(resize=resize)
    assert rows(all_of(load(skip_bad=True))) == rows(GREY)
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
    record = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(record.SerializeToString())
    with pytest.raises(nice_tf.UserError, match=rf"record 0 of .*a\.tfrecord .*({message})"):
        load(tmp_path / "a.tfrecord")


def test_large_pictures_are_no_bombs(tmp_path):
    """Pillow warns from 89 million pixels on, and warnings are errors here."""
    Image.new("L", (9500, 9500), 7).save(tmp_path / "a.png")
    assert pictures.decode(str(tmp_path / "a.png"), (2, 3)).tolist() == [[[7]] * 3] * 2
