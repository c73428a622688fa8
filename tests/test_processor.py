from pathlib import Path

import pytest

from tutelage import processor

CPUINFO = """processor\t: 0
model name\t: Some Maker's {name}
flags\t\t: fpu sse2 avx2 {flags}

processor\t: 1
model name\t: another
flags\t\t: avx512f
"""


@pytest.fixture(autouse=True)
def anew():
    processor._describe.cache_clear()
    yield
    processor._describe.cache_clear()


@pytest.mark.parametrize(("flags", "expected"), [("avx512f avx512dq", True), ("avx512bf16_of_no_use", False)])
def test_the_first_core_is_described(monkeypatch, flags, expected):
    monkeypatch.setattr(Path, "read_text", lambda self: CPUINFO.format(name="X", flags=flags))
    assert processor.processor_name() == "Some Maker's X"
    assert processor.has_avx512() is expected


def test_a_system_that_says_nothing_is_unknown(monkeypatch):
    def fail(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    assert processor.processor_name() == "arm64"
    assert processor.has_avx512() is None
