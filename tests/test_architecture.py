"""Imports point one way (the contracts are in pyproject.toml)."""

import subprocess
import sys
from pathlib import Path


def test_imports_point_one_way():
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([command, "--no-cache"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kept, 0 broken" in result.stdout


def test_import_of_the_package_starts_no_backend():
    code = "import tutelage, jax._src.xla_bridge as b, sys; sys.exit(bool(b._backends))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
