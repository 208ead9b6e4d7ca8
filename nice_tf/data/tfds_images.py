"""Image sets of TensorFlow Datasets: prepared, and read in their stored order."""

import logging
import os
import socket
import urllib.request
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from nice_tf.errors import UserError

_LOG = logging.getLogger(__name__)


def find(name: str, *, data_dir: str, manual_dir: str) -> tfds.core.DatasetBuilder | None:
    """The builder of a set, prepared or not; `None` where TensorFlow Datasets does not know the
    name.

    Args:
      name: of the set.
      data_dir: folder of prepared sets; empty for the usual one.
      manual_dir: folder of the set's original files; may be empty.

    Raises:
      UserError: there is no folder `manual_dir`.
    """
    if manual_dir and not os.path.isdir(manual_dir):
        raise UserError(f"manual_dir {manual_dir}: there is no such folder")
    tfds.disable_progress_bar()
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except (tfds.core.registered.DatasetNotFoundError, ValueError):
        return None


def shape_and_dtype(builder: tfds.core.DatasetBuilder) -> tuple[tuple[int, ...], np.dtype]:
    """Of one picture.

    Raises:
      UserError: the set has no `image`, or not one of a fixed shape.
    """
    features = builder.info.features
    image = None
    if isinstance(features, tfds.features.FeaturesDict) and "image" in features:
        image = features["image"]
    if not isinstance(image, tfds.features.Image) or None in image.shape:
        raise UserError(
            f"dataset {builder.name!r} of TensorFlow Datasets has no 'image' of one fixed shape"
        )
    return image.shape, np.dtype(image.np_dtype)


def class_labels(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Names of the features that say the class of an example."""
    features = builder.info.features
    kind = tfds.features.ClassLabel
    return [name for name, feature in features.items() if isinstance(feature, kind)]


def examples(builder: tfds.core.DatasetBuilder, split: str) -> Iterator[np.ndarray]:
    """All pictures of a split, as blocks `[n, *shape]`."""
    # The stored order is already a fixed pseudo-random one; reading it in order keeps the split the
    # same everywhere.
    found = builder.as_dataset(split=split, shuffle_files=False)
    batches = found.map(_feature("image")).batch(1000)
    return batches.prefetch(1).as_numpy_iterator()


def labels(builder: tfds.core.DatasetBuilder, split: str, name: str) -> np.ndarray:
    """The classes of all examples by name, in the order of `examples`; an empty text where one is
    kept secret.
    """
    pictures_left = {"image": tfds.decode.SkipDecoding()}
    found = builder.as_dataset(split=split, shuffle_files=False, decoders=pictures_left)
    batches = found.map(_feature(name)).batch(1000)
    numbers = np.concatenate(list(batches.as_numpy_iterator()))
    return np.array([*builder.info.features[name].names, ""])[numbers]  # -1 stands for a secret one


def _feature(name):
    """A function that takes this feature of an example."""

    def feature(example):
        return example[name]

    return feature


_MNIST_FILES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]
_ORIGINAL_FILES = {
    "mnist": _MNIST_FILES,
    "fashion_mnist": _MNIST_FILES,
    "kmnist": _MNIST_FILES,
    "cifar10": ["cifar-10-binary.tar.gz"],
    "cifar100": ["cifar-100-binary.tar.gz"],
    "svhn_cropped": ["train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"],
}


def prepare(builder: tfds.core.DatasetBuilder, manual_dir: str) -> None:
    """Writes the set to its data_dir if it is not there, from `manual_dir` if given, else by
    download.

    Raises:
      UserError: neither can be done; the message says what would help.
    """
    if builder.is_prepared():
        return
    way_out = _way_out(builder)
    _check_can_be_prepared(builder, manual_dir, way_out)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    _LOG.info("preparing dataset %s in %s", builder.name, builder.data_path)
    download = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    try:
        builder.download_and_prepare(download_config=download)
    except Exception as error:  # whatever TFDS' network, file and decoding layers raise
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"dataset {builder.name!r} could not be prepared ({cause}). {way_out}"
        ) from error


def _check_can_be_prepared(builder, manual_dir, way_out):
    """Refuses a folder without the original files, and a download without a network."""
    originals = _ORIGINAL_FILES.get(builder.name, [])
    missing = [file for file in originals if not os.path.isfile(os.path.join(manual_dir, file))]
    if manual_dir and missing:
        raise UserError(
            f"manual_dir {manual_dir} lacks {', '.join(missing)} of dataset {builder.name!r}. "
            f"{way_out}"
        )
    if not manual_dir and not _has_network():
        raise UserError(
            f"dataset {builder.name!r} is not prepared on this machine and there is no network. "
            f"{way_out}"
        )


def _way_out(builder):
    """What helps where a set cannot be prepared."""
    originals = _ORIGINAL_FILES.get(builder.name, [])
    files = "files"
    if originals:
        files = f"files {', '.join(originals)}"
    return (
        "Either give --data_dir, the folder where TensorFlow Datasets prepared it before (not "
        f"{builder.data_path.parent.parent}); or --manual_dir, a folder with its original "
        f"{files}; or connect to the network. --dataset=digits needs neither"
    )


def _has_network():
    """Whether a download can be tried. TFDS itself retries for minutes before it says that there is
    no network.
    """
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo("storage.googleapis.com", 443))
    except OSError:
        return False
