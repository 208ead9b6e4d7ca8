"""PNG and JPEG files to arrays."""

import io
import os
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from nice_tf.config import MAX_PIXELS
from nice_tf.data import paths
from nice_tf.errors import UserError

_CHUNK_BYTES = 2**24
_PNG = b"\x89PNG\r\n\x1a\n"


class BadPicture(UserError):
    """A file that cannot be decoded."""


class TooLarge(BadPicture):
    """A file of more pixels than are decoded."""


class OtherSize(UserError):
    """Pictures of two sizes."""


def files_below(folder: str) -> list[str]:
    """All files of a folder and of those below it, as `paths.files_below` says of pictures."""
    return paths.files_below(folder, is_picture)


def is_picture(file: str) -> bool:
    """Whether a file's name is that of a PNG or JPEG picture."""
    return file.lower().endswith((".png", ".jpg", ".jpeg"))


def left_out(folder: str, below: list[str]) -> tuple[str, ...]:
    """What the user should know of files that are no pictures, as `paths.left_out` says; `below`
    are all that `files_below` gave.
    """
    return paths.left_out(folder, list(filter(is_picture, below)), below, "are no pictures")


def open_picture(content: bytes, what: str) -> Image.Image:
    """Reads the header of a picture, whose size is looked at before anything is decoded.

    Args:
      content: of a PNG or JPEG file.
      what: the picture, for the message.

    Raises:
      TooLarge: it has more than `MAX_PIXELS`.
      Exception: whatever Pillow raises of a damaged one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        try:
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        except Image.DecompressionBombError as error:
            raise TooLarge(
                f"{what} is a picture of more than {MAX_PIXELS:,} pixels, which are not decoded"
            ) from error
    if image.width * image.height > MAX_PIXELS:
        raise TooLarge(
            f"{what} is a picture {image.height} pixels high and {image.width} wide: at most "
            f"{MAX_PIXELS:,} pixels are decoded"
        )
    return image


def decode(file: str, resize: Sequence[int] = ()) -> np.ndarray:
    """A picture as it is shown: turned as its camera noted; palettes and CMYK become RGB, black and
    white grey.

    Args:
      file: of PNG or JPEG.
      resize: height and width that it is brought to by triangle-shaped averages, if any; its aspect
        is not kept.

    Returns:
      `[height, width, 1 or 3]` in uint8.

    Raises:
      BadPicture: it is damaged, cut off or of another format; or has more than `MAX_PIXELS`.
      UserError: 16 bits per value, or transparent somewhere.
    """
    picture = _decoded(file)
    _check_opaque(picture, file)
    mode = "RGB"
    if picture.mode in ("1", "L", "LA", "La"):
        mode = "L"
    picture = picture.convert(mode)
    if resize:
        height, width = resize
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(picture)
    if values.ndim == 2:
        return values[..., np.newaxis]
    return values


def _decoded(file):
    """A picture of 8 bits per value, turned as its camera noted."""
    try:
        if not os.path.isfile(file):  # a pipe would be waited for
            raise BadPicture(f"{file} is no file")
        with open(file, "rb") as opened:
            content = opened.read()
        with open_picture(content, file) as image:
            picture = ImageOps.exif_transpose(image)  # also decodes
    except BadPicture:
        raise
    except Exception as error:  # Pillow passes on whatever its decoders raise
        cause = str(error).split(" <_io.")[0]  # what follows is our buffer
        raise BadPicture(f"{file} cannot be decoded as a PNG or JPEG picture ({cause})") from error
    if content.startswith(_PNG) and content[24] == 16:  # its bit depth
        raise UserError(f"{file} has 16 bits per value, 65,536 levels: 8 bits are needed")
    return picture


def _check_opaque(picture, file):
    if not picture.has_transparency_data:
        return
    opacity = np.asarray(picture.convert("RGBA"))[..., 3].min()
    if opacity < 255:
        raise UserError(
            f"{file} is transparent, of opacity {opacity} of 255 somewhere: put it on a background"
        )


def first(
    files: Sequence[str], resize: Sequence[int], *, skip_bad: bool
) -> tuple[str, tuple[int, ...]]:
    """The first picture that can be decoded, and its shape; for the rest see `examples`."""
    for file in files:
        try:
            return file, decode(file, resize).shape
        except BadPicture:
            if not skip_bad:
                raise
    raise _none_decoded(files)


def _none_decoded(files):
    return UserError(
        f"none of {len(files)} files from {files[0]} on can be decoded as a PNG or JPEG picture"
    )


def examples(
    files: Sequence[str],
    resize: Sequence[int],
    like: tuple[str, tuple[int, ...]],
    bad: list[str] | None = None,
) -> Iterator[np.ndarray]:
    """The pictures in order, some megabytes at a time.

    Args:
      files: paths.
      resize: as for `decode`.
      like: what `first` gave: the picture whose size and colours all must have.
      bad: takes the names of pictures that cannot be decoded, which are then left out; `None`: they
        are an error.

    Yields:
      `[n, height, width, 1 or 3]` in uint8.

    Raises:
      UserError: a picture that breaks a rule, named by its file; none that can be decoded.
    """
    gathered: list[np.ndarray] = []
    is_empty = True
    for file in files:
        try:
            values = decode(file, resize)
        except BadPicture:
            if bad is None:
                raise
            bad.append(file)
            continue
        if values.shape != like[1]:
            raise _unlike(file, values.shape, *like)
        gathered.append(values)
        is_empty = False
        if len(gathered) * values.nbytes >= _CHUNK_BYTES:
            yield np.stack(gathered)
            gathered = []
    if is_empty:
        raise _none_decoded(files)
    if gathered:
        yield np.stack(gathered)


def _unlike(file, shape, other, other_shape):
    if shape[:2] != other_shape[:2]:
        return OtherSize(
            f"{file} is {shape[0]} pixels high and {shape[1]} wide, {other} {other_shape[0]} and "
            f"{other_shape[1]}: all must be of one size"
        )
    colours = {1: "grey", 3: "coloured"}
    return UserError(
        f"{file} is {colours[shape[2]]}, {other} {colours[other_shape[2]]}: all must be the one or "
        "the other"
    )
