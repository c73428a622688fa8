import functools
import hashlib
import http.server
import tarfile
import threading

import numpy as np
import pooch
import pytest

from tutelage.optimizees import DataError, datasets, load_dataset

RANDOM = np.random.default_rng(0)
RECORDS = 20


@pytest.fixture
def small(monkeypatch):
    """Files of 20 records each."""
    monkeypatch.setattr(datasets, "_CIFAR_RECORDS", RECORDS)


def records():
    rows = RANDOM.integers(0, 256, (RECORDS, 3073), np.uint8)
    rows[:, 0] %= 10
    return rows


@pytest.fixture
def folder(tmp_path, small):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    written = {}
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        written[name] = records()
        written[name].tofile(tmp_path / "cifar-10-batches-bin" / f"{name}.bin")
    return tmp_path, written


def test_records_are_a_label_and_three_planes(folder):
    path, written = folder
    test, train = load_dataset("cifar10", "test", path), load_dataset("cifar10", "train", path)
    assert test.images.shape == (RECORDS, 32, 32, 3)
    assert train.images.shape == (5 * RECORDS, 32, 32, 3)
    record = written["test_batch"][7]
    assert test.labels[7] == record[0]
    assert test.images[7, 3, 5, 1] == record[1 + 1024 + 3 * 32 + 5]
    np.testing.assert_array_equal(train.labels[RECORDS : 2 * RECORDS], written["data_batch_2"][:, 0])


def test_damaged_files_are_named(folder):
    path, written = folder
    written["test_batch"][:-1].tofile(path / "cifar-10-batches-bin" / "test_batch.bin")
    with pytest.raises(DataError, match=r"test_batch\.bin holds 58387 bytes, not 61460"):
        load_dataset("cifar10", "test", path)
    written["test_batch"][0, 0] = 77
    written["test_batch"].tofile(path / "cifar-10-batches-bin" / "test_batch.bin")
    with pytest.raises(DataError, match="a label is 77"):
        load_dataset("cifar10", "test", path)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """The URL of a folder served on this machine."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(_Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield tmp_path / "served", f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


def test_the_official_archive_is_fetched_verified_and_unpacked(folder, server, tmp_path, monkeypatch):
    path, written = folder
    served, url = server
    archive = served / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("TUTELAGE_DATA", raising=False)

    monkeypatch.setattr(datasets, "_CIFAR", datasets._Source((url,), {archive.name: "0" * 32}))
    with pytest.raises(DataError, match=r"downloading cifar-10-binary\.tar\.gz failed .*ValueError"):
        load_dataset("cifar10", "test")
    monkeypatch.setattr(datasets, "_CIFAR", datasets._Source((url,), {archive.name: checksum}))
    test = load_dataset("cifar10", "test")
    np.testing.assert_array_equal(test.labels, written["test_batch"][:, 0])
    archive.unlink()  # from now on from the cache
    np.testing.assert_array_equal(load_dataset("cifar10", "test").images, test.images)
