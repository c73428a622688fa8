"""Image data sets: found in a local folder or downloaded and verified, always in their official file layout."""

import gzip
import os
import zlib
from importlib.metadata import distribution
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pooch

from ..settings import check_type

Split = Literal["train", "test"]

# The first images of the official training set are held out by the protocol and never trained on.
HELD_OUT = 5_000


class Dataset(NamedTuple):
    """Images [examples, ...] with pixels from 0 to `largest_pixel`, and labels [examples] from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray
    largest_pixel: float


class _Source(NamedTuple):
    mirrors: tuple[str, ...]
    md5: dict[str, str]


_SOURCES = {
    "mnist": _Source(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        md5={
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": _Source(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        md5={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}


CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_RECORD = 1 + 32 * 32 * 3
_CIFAR_RECORDS = 10_000  # in each of its files
_CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR = _Source(
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    md5={_CIFAR_ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"},
)


class DataError(Exception):
    """A data set is missing, unreadable or damaged; the message says where it was looked for and what to do."""


def load_dataset(name: str, split: Split, data_dir: str | Path | None = None) -> Dataset:
    """Load `digits`, `mnist`, `fashion-mnist` or `cifar10`.

    The training split of MNIST and Fashion-MNIST is all but the first 5,000 training images; the test split
    is the official one, as are both of CIFAR-10. Of scikit-learn's digits every fifth image is the test split.

    Args:
        name: one of the names above.
        split: "train" or "test".
        data_dir: a folder that holds `<name>/*.gz` or `cifar-10-batches-bin/*.bin`; searched before `$TUTELAGE_DATA`
            and the user's cache.

    Raises:
        DataError: the files are nowhere to be had, or damaged.
        ValueError: an unknown name or split.
    """
    check_type("split", split, Split)
    if name == "digits":
        return _digits(split)
    if name == "cifar10":
        return _cifar10(split, data_dir)
    if name not in _SOURCES:
        raise ValueError(f'There is no data set "{name}"; known: digits, cifar10, {", ".join(_SOURCES)}.')
    prefix = "train" if split == "train" else "t10k"
    images = _read_idx(_locate(name, f"{prefix}-images-idx3-ubyte.gz", data_dir), dimensions=3)
    labels = _read_idx(_locate(name, f"{prefix}-labels-idx1-ubyte.gz", data_dir), dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{name}: {len(images)} images but {len(labels)} labels; fetch the files again.")
    _check_labels(name, labels)
    start = HELD_OUT if split == "train" else 0
    if len(labels) <= start:
        raise DataError(
            f"{name}: of {len(labels)} images none is left but the {start:,} held out; fetch the files again."
        )
    return Dataset(images[start:], labels[start:].astype(np.int32), 255.0)


def _digits(split: Split) -> Dataset:
    """Read the file that comes with scikit-learn, without the second that importing it takes."""
    path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    try:
        records = np.loadtxt(str(path), np.uint8, delimiter=",")  # 64 pixels and the label
    except (OSError, ValueError) as error:
        raise DataError(f"scikit-learn's digits cannot be read ({error}); install it again.") from error
    test = np.arange(len(records)) % 5 == 4
    chosen = records[test if split == "test" else ~test]
    return Dataset(chosen[:, :-1], chosen[:, -1].astype(np.int32), 16.0)


def _cifar10(split: Split, data_dir: str | Path | None) -> Dataset:
    """Read CIFAR-10's binary layout: records of a label, then the red, green and blue plane."""
    names = ["test_batch.bin"] if split == "test" else [f"data_batch_{number}.bin" for number in range(1, 6)]
    parts = []
    for name in names:
        path = _find(CIFAR_FOLDER, name, data_dir) or _download(_CIFAR, _CIFAR_ARCHIVE, CIFAR_FOLDER, data_dir, name)
        try:
            content = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); fetch it again.") from error
        if content.size != _CIFAR_RECORDS * _CIFAR_RECORD:
            raise DataError(f"{path} holds {content.size} bytes, not {_CIFAR_RECORDS * _CIFAR_RECORD}; fetch it again.")
        parts.append(content.reshape(_CIFAR_RECORDS, _CIFAR_RECORD))
    records = np.concatenate(parts)
    labels = records[:, 0].astype(np.int32)
    _check_labels(CIFAR_FOLDER, labels)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Dataset(np.ascontiguousarray(images), labels, 255.0)


def _check_labels(what: str, labels: np.ndarray) -> None:
    if labels.max(initial=0) > 9:
        raise DataError(f"{what}: a label is {labels.max()}, not 0 to 9; fetch the files again.")


def _folders(data_dir: str | Path | None) -> list[Path]:
    given = [Path(folder) for folder in (data_dir, os.environ.get("TUTELAGE_DATA")) if folder]
    return [*given, Path(pooch.os_cache("tutelage"))]


def _find(subfolder: str, file: str, data_dir: str | Path | None) -> Path | None:
    paths = (folder / subfolder / file for folder in _folders(data_dir))
    return next((path for path in paths if path.is_file()), None)


def _locate(name: str, file: str, data_dir: str | Path | None) -> Path:
    return _find(name, file, data_dir) or _download(_SOURCES[name], file, name, data_dir, file)


def _download(source: _Source, file: str, subfolder: str, data_dir: str | Path | None, member: str) -> Path:
    """Fetch `file` into the cache, unpacking it if it is an archive, and return the path of `member`."""
    *_, cache = folders = _folders(data_dir)
    archive = file.endswith(".tar.gz")
    failures = []
    for mirror in source.mirrors:
        try:
            pooch.retrieve(
                mirror + file,
                known_hash=f"md5:{source.md5[file]}",
                fname=file,
                path=cache if archive else cache / subfolder,
                downloader=pooch.HTTPDownloader(timeout=15),  # pyright: ignore[reportArgumentType]
                processor=pooch.Untar(extract_dir=".") if archive else None,
            )
        except (OSError, ValueError) as error:  # no network, or a file with another checksum
            failures.append(f"{mirror}: {type(error).__name__}")
        else:
            return cache / subfolder / member
    raise DataError(
        f"There is no {member} in {' or '.join(str(folder / subfolder) for folder in folders)}, and downloading {file} "
        f"failed ({'; '.join(failures)}). Put the official files there, or name another folder with "
        f"--data-dir or $TUTELAGE_DATA."
    )


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes: a big-endian header (type, rank, shape), then the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again.") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an IDX file of rank {dimensions}; fetch it again.")
    shape = np.frombuffer(content[4:header], ">u4").astype(int)
    values = np.frombuffer(content[header:], np.uint8)
    if values.size != shape.prod():
        raise DataError(f"{path} holds {values.size} values, not {shape.prod()}; fetch it again.")
    return values.reshape(shape)
