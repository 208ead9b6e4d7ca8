"""TFRecord files to arrays."""

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from nice_tf.data import paths, pictures
from nice_tf.errors import UserError

_CHUNK_BYTES = 2**24
_MAX_AXES = 32
_OTHER_PICTURE = re.compile(b"GIF8|RIFF....WEBP", re.DOTALL)
_PICTURE = re.compile(b"\x89PNG\r\n\x1a\n|\xff\xd8\xff")  # how PNG and JPEG files start


def is_tfrecord(name: str) -> bool:
    """Whether a file's name is that of TFRecord files, such as a.tfrecord or
    a.TFRECORD-00001-of-00010.
    """
    return ".tfrecord" in os.path.basename(name).lower()


def tfrecord_files(name: str) -> list[str]:
    """The TFRecord files that a folder holds, in order; or the files that a path or a pattern
    names.
    """
    if os.path.isdir(name):
        return paths.files_named(name, is_tfrecord)
    return paths.files_named(name, os.path.isfile)


def left_out(name: str) -> tuple[str, ...]:
    """What the user should know of the other files of a folder, as `paths.left_out` says."""
    found = paths.files_named(name, os.path.isfile)
    return paths.left_out(name, tfrecord_files(name), found, "are no TFRecord files")


def examples(files: Sequence[str]) -> Iterator[np.ndarray]:
    """The values of all records in order, some megabytes at a time.

    A record is a `tf.train.Example`. Its values are the feature `image`, or else the only feature:
    floats, a PNG or JPEG picture, or raw 8-bit integers. An int64 feature `shape` beside it gives
    the shape of floats and of raw integers, which are flat without one. What the first record is,
    all must be, and of its shape.

    Args:
      files: paths of uncompressed files.

    Yields:
      `[n, *event_shape]`, float32 or uint8.

    Raises:
      UserError: no records, or one that breaks a rule, named by its file and its number.
    """
    encoding = None
    expected = None
    gathered: list[np.ndarray] = []
    for where, record in _records(files):
        feature, shape = _features(record, where)
        encoding = encoding or _encoding(feature, shape)
        values = _values(feature, shape, encoding, where)
        expected = expected or values.shape
        if values.shape != expected:
            raise UserError(
                f"{where} has values of shape {list(values.shape)}, the first record of shape "
                f"{list(expected)}: all must have the same"
            )
        gathered.append(values)
        if len(gathered) * values.nbytes >= _CHUNK_BYTES:
            yield np.stack(gathered)
            gathered = []
    if expected is None:
        raise UserError(f"{', '.join(files)}: there are no records")
    if gathered:
        yield np.stack(gathered)


def _records(files):
    for file in files:
        records = tf.data.TFRecordDataset(file).as_numpy_iterator()
        for number in itertools.count():
            where = f"record {number} of {file} (counted from 0)"
            try:
                record = next(records, None)
            except tf.errors.OpError as error:
                raise UserError(
                    f"{where} is damaged, or the file is compressed or no TFRecord file"
                ) from error
            if record is None:
                break
            yield where, record


def _features(record, where):
    """The feature with the values, and the shape that stands beside it."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError; only serving/ knows that package
        raise UserError(f"{where} is no tf.train.Example") from error
    shape = None
    if "shape" in features:
        shape = list(features["shape"].int64_list.value)
    names = sorted(set(features) - {"shape"})
    if "image" in names:
        names = ["image"]
    if len(names) != 1:
        raise UserError(
            f"{where} has the features {', '.join(names) or 'none'}: its values must be 'image', "
            "or the only one but 'shape'"
        )
    return features[names[0]], shape


def _encoding(feature, shape):
    """How the values are stored. Raw integers may start as a picture does, so that one record
    decides for all.
    """
    if feature.WhichOneof("kind") == "float_list":
        return "floats"
    content = b"".join(feature.bytes_list.value)
    is_raw = shape is not None and math.prod(shape) == len(content)
    if _PICTURE.match(content) and not is_raw:
        return "picture"
    return "integers"


def _values(feature, shape, encoding, where):
    kind = feature.WhichOneof("kind") or "float_list"
    content = getattr(feature, kind).value
    if encoding == "floats":
        is_as_needed = kind == "float_list"
    else:
        is_as_needed = kind == "bytes_list" and len(content) == 1
    if not is_as_needed:
        raise UserError(
            f"{where} has its values as {kind} of {len(content)}: floats are needed, or bytes of "
            "one picture or of raw 8-bit integers, in all records the same"
        )
    if encoding == "floats":
        return _in_shape(np.array(content, np.float32), shape, where)
    if shape is None and _OTHER_PICTURE.match(content[0]):
        raise UserError(f"{where} holds a GIF or WebP picture: PNG or JPEG is needed")
    if encoding == "picture":
        return _decoded(content[0], where)
    return _in_shape(np.frombuffer(content[0], np.uint8), shape, where)


def _in_shape(values, shape, where):
    """Flat values in the shape that stands beside them, if there is one."""
    if shape is None:
        return values
    if math.prod(shape) != len(values) or min(shape, default=1) < 0:
        raise UserError(f"{where} has {len(values)} values, which do not fill its shape {shape}")
    if len(shape) > _MAX_AXES:
        raise UserError(f"{where} has a shape of {len(shape)} axes: at most {_MAX_AXES} are read")
    return values.reshape(shape)


def _decoded(content, where):
    if content[24:25] == b"\x10" and content.startswith(b"\x89PNG"):  # its bit depth
        raise UserError(
            f"{where} holds a PNG picture of 16 bits per value, of 65,536 levels: 8 bits are needed"
        )
    try:
        pictures.open_picture(content, where)
        return tf.io.decode_image(content, expand_animations=False).numpy()
    except pictures.TooLarge:
        raise
    except Exception as error:  # Pillow and TensorFlow pass on whatever their decoders raise
        raise UserError(f"{where} holds no PNG or JPEG picture that can be decoded") from error
