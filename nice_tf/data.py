"""The only reader of data: a source's name to arrays with a stated split, and arrays to batches."""

import dataclasses
import hashlib
import logging
import os
import socket
import urllib.request
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from nice_tf.config import Config
from nice_tf.errors import UserError
from nice_tf.seeds import stateless_seed


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in its own units, split.

    Attributes:
      name: of the source.
      train: `[N, *event_shape]`, unsigned integers 0..levels-1 or floating point.
      validation: as `train`.
      test: as `train`.
      levels: number of integer levels; `None` for continuous data.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    levels: int | None

    @property
    def event_shape(self) -> list[int]:
        """Shape of one example."""
        return list(self.train.shape[1:])

    @property
    def event_size(self) -> int:
        """D, the number of values of one example."""
        return int(np.prod(self.event_shape))

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for values in (self.train, self.validation, self.test):
            digest.update(np.ascontiguousarray(values))
        return digest.hexdigest()

    def description(self) -> dict:
        """What `config.json` keeps of the data."""
        return {
            "name": self.name,
            "event_shape": self.event_shape,
            "levels": self.levels,
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "num_test": len(self.test),
            "sha256": self._fingerprint(),
        }


def load(config: Config) -> Data:
    """Reads the data set that `config.dataset` names.

    Digits: 1797 examples shuffled with `split_seed`, 300 for test. A TFDS set: its own train and test. A `.npz` with
    arrays `train` and `test` (and perhaps `validation`): those. A single array: shuffled with `split_seed`, one
    sixth for test. Validation, where not given, is the end of train: `num_validation` examples or one sixth.

    Raises:
      UserError: no such data, or data that breaks a rule; the message says which and what would help.
    """
    name = config.dataset
    if name == "digits":
        arrays, levels = _digits(config.split_seed), config.levels or 17
    elif name.endswith((".npy", ".npz")):
        arrays, levels = _from_file(name, config.split_seed), config.levels
    else:
        arrays, levels = _from_tfds(name, config.data_dir, config.manual_dir), config.levels
    for split, values in arrays.items():
        if values.shape[1:] != arrays["train"].shape[1:]:
            raise UserError(
                f"{split} of {name} has examples of shape {list(values.shape[1:])}, train of shape "
                f"{list(arrays['train'].shape[1:])}: they must agree"
            )
    levels = _levels(arrays, levels, name)
    if "validation" not in arrays:
        arrays["train"], arrays["validation"] = _split_validation(arrays["train"], config.num_validation, name)
    data = Data(name=name, levels=levels, **arrays)
    if len(data.train) < config.batch_size:
        raise UserError(
            f"batch_size {config.batch_size} is more than the {len(data.train)} training examples of {name}: "
            "give a smaller one"
        )
    return data


def _digits(split_seed):
    # Imported where it is used: a second of start-up that the other data sets need not pay.
    from sklearn.datasets import load_digits

    images = load_digits().images.astype(np.uint8)[..., np.newaxis]
    return _split_test(images, 300, split_seed)


def _split_test(values, num_test, split_seed):
    values = values[np.random.default_rng(split_seed).permutation(len(values))]
    return {"train": values[num_test:], "test": values[:num_test]}


def _split_validation(train, num_validation, name):
    num_validation = num_validation or round(len(train) / 6)
    if not 2 <= num_validation < len(train):
        raise UserError(
            f"{name} has {len(train)} training examples: {num_validation} of them for validation leaves too few; "
            "give at least 2 and fewer than all with num_validation"
        )
    return train[:-num_validation], train[-num_validation:]


def _from_file(path, split_seed):
    if not os.path.isfile(path):
        raise UserError(f"dataset {path}: there is no such file")
    try:
        with open(path, "rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {key: content[key] for key in content.files} if path.endswith(".npz") else {"the array": content}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"dataset {path} cannot be read as a NumPy file of numbers: {error}") from error
    for key, values in arrays.items():
        _check_values(values, f"{key} of {path}")
    if len(arrays) == 1:
        (values,) = arrays.values()
        if len(values) < 6:
            raise UserError(f"dataset {path} has {len(values)} examples: at least 6 are needed to split")
        return _split_test(values, round(len(values) / 6), split_seed)
    if not {"train", "test"} <= set(arrays) <= {"train", "validation", "test"}:
        raise UserError(
            f"dataset {path} holds the arrays {', '.join(sorted(arrays))}; it must hold one array, or 'train' and "
            "'test' and perhaps 'validation'"
        )
    return arrays


def _from_tfds(name, data_dir, manual_dir):
    import tensorflow_datasets as tfds

    if manual_dir and not os.path.isdir(manual_dir):
        raise UserError(f"manual_dir {manual_dir}: there is no such folder")
    tfds.disable_progress_bar()
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"dataset {name!r} is not known: it must be 'digits', the path of a .npy or .npz file, or an image set of "
            "TensorFlow Datasets such as mnist, fashion_mnist, cifar10, svhn_cropped"
        ) from error
    features = builder.info.features
    image = features["image"] if isinstance(features, tfds.features.FeaturesDict) and "image" in features else None
    if not isinstance(image, tfds.features.Image) or None in image.shape:
        raise UserError(f"dataset {name!r} of TensorFlow Datasets has no 'image' of one fixed shape")
    if not builder.is_prepared():
        _prepare(builder, manual_dir)
    missing = {"train", "test"} - set(builder.info.splits)
    if missing:
        raise UserError(f"dataset {name!r} has no split {', '.join(sorted(missing))}, only {list(builder.info.splits)}")
    return {split: _images(builder, split) for split in ("train", "test")}


_ORIGINAL_FILES = {
    name: [f"{part}-{kind}.gz" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for name in ("mnist", "fashion_mnist", "kmnist")
} | {
    "cifar10": ["cifar-10-binary.tar.gz"],
    "cifar100": ["cifar-100-binary.tar.gz"],
    "svhn_cropped": [f"{part}_32x32.mat" for part in ("train", "test", "extra")],
}


def _prepare(builder, manual_dir):
    """Writes the set to `data_dir`, from `manual_dir` if given, else by download."""
    import tensorflow_datasets as tfds

    originals = _ORIGINAL_FILES.get(builder.name, [])
    way_out = (
        f"Either give --data_dir, the folder where TensorFlow Datasets prepared it before (not "
        f"{builder.data_path.parent.parent}); or --manual_dir, a folder with its original files"
        f"{' ' + ', '.join(originals) if originals else ''}; or connect to the network. --dataset=digits needs neither"
    )
    missing = [file for file in originals if not os.path.isfile(os.path.join(manual_dir, file))]
    if manual_dir and missing:
        raise UserError(f"manual_dir {manual_dir} lacks {', '.join(missing)} of dataset {builder.name!r}. {way_out}")
    if not manual_dir and not _has_network():
        raise UserError(f"dataset {builder.name!r} is not prepared on this machine and there is no network. {way_out}")
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    print(f"preparing dataset {builder.name} in {builder.data_path}", flush=True)
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir or None))
    except Exception as error:  # TFDS passes on whatever its network, file and decoding layers raise.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"dataset {builder.name!r} could not be prepared ({cause}). {way_out}") from error


def _has_network():
    """Whether a download can be tried. TFDS itself retries for minutes before it says that there is no network."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo("storage.googleapis.com", 443))
    except OSError:
        return False


def _images(builder, split):
    # The stored order is already a fixed pseudo-random one; reading it in order keeps the split the same everywhere.
    batches = builder.as_dataset(split=split, shuffle_files=False).map(lambda example: example["image"]).batch(1000)
    return np.concatenate(list(batches.as_numpy_iterator()))


def _check_values(values, what):
    if values.dtype.kind not in "uif" or values.dtype.itemsize > 8:
        raise UserError(f"{what} has type {values.dtype}: integers or floating-point numbers are needed")
    if values.ndim < 2:
        raise UserError(f"{what} has shape {list(values.shape)}: [examples, values...] is needed")
    if len(values) < 2:
        raise UserError(f"{what} has {len(values)} examples: at least 2 are needed")
    if values[0].size < 2:
        raise UserError(f"NICE needs examples of at least 2 values, those of {what} have {values[0].size}")
    if values.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise UserError(
                f"{what} has {len(bad)} values that are not finite, the first in example {bad[0][0]} (counted from 0): "
                f"{values[tuple(bad[0])]}"
            )


def _levels(arrays, levels, name):
    """The number of levels, or None for continuous data; checks that the values keep to it."""
    dtypes = {values.dtype for values in arrays.values()}
    if not levels:
        if all(dtype.kind == "f" for dtype in dtypes):
            return None
        if dtypes != {np.dtype(np.uint8)}:
            raise UserError(
                f"{name} has values of type {', '.join(sorted(map(str, dtypes)))}: give the number of integer levels "
                "with levels, or store continuous values as floating point"
            )
        levels = 256
    for split, values in arrays.items():
        lowest, highest = values.min(), values.max()
        if lowest < 0 or highest > levels - 1:
            raise UserError(
                f"{split} of {name} has values from {lowest} to {highest}: with levels {levels} they must lie in "
                f"0..{levels - 1}"
            )
        if values.dtype.kind == "f" and np.any(values != np.floor(values)):
            raise UserError(f"{split} of {name} has values that are no integers, although levels is {levels}")
        arrays[split] = values.astype(np.uint8 if levels <= 256 else np.int32)
    return levels


def training_batches(train: np.ndarray, batch_size: int, *, seed: int, first_step: int, last_step: int):
    """Shuffled training batches, each a pure function of (seed, step), so that a run resumes at any step.

    Every epoch of `len(train) // batch_size` steps visits the examples in a new order and drops the remainder.

    Args:
      train: `[N, *event_shape]`.
      batch_size: at most N.
      seed: the run's seed.
      first_step: first step to give.
      last_step: first step not to give any more.

    Returns:
      A `tf.data.Dataset` of `last_step - first_step` batches `[batch_size, *event_shape]`.
    """
    steps_per_epoch = len(train) // batch_size
    with tf.device("CPU"):
        examples = tf.constant(train)

    def batch(step):
        order = stateless_seed(seed, "data_order", step // steps_per_epoch)
        positions = (step % steps_per_epoch) * batch_size + tf.range(batch_size, dtype=tf.int64)
        rows = tf.random.experimental.index_shuffle(positions, seed=order, max_index=len(train) - 1)
        return tf.ensure_shape(tf.gather(examples, rows), [batch_size, *train.shape[1:]])

    steps = tf.data.Dataset.range(first_step, last_step)
    batches = steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _sharded_by_rows(batches).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(values: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """All examples in order, as pairs (number of the batch for each row, batch); the last batch may be smaller."""
    batches = tf.data.Dataset.from_tensor_slices(values).batch(batch_size).enumerate()
    numbered = batches.map(lambda number, batch: (tf.fill(tf.shape(batch)[:1], number), batch))
    return _sharded_by_rows(numbered).prefetch(tf.data.AUTOTUNE)


def _sharded_by_rows(batches):
    """Where several workers share a batch, each takes its rows of it."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
