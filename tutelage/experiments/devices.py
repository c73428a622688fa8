"""What there is to work on, found out without taking it."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version

from ..processor import processor_name

# Another process looks, as a process that has looked holds on to a GPU's memory.
_LOOK = """
import json, jax
print(json.dumps([jax.local_device_count(), jax.default_backend(), jax.local_devices()[0].device_kind]))
"""


@dataclass(frozen=True)
class Devices:
    """The devices that JAX sees."""

    count: int
    description: str


def find_devices() -> Devices:
    """Those of this machine; of a CPU as many as `JAX_NUM_CPU_DEVICES` says."""
    found = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=False)
    if found.returncode:
        raise OSError(f"JAX finds no device to work on: {found.stderr.strip().splitlines()[-1]}")
    count, backend, kind = json.loads(found.stdout)
    what = f"{os.cpu_count()} cores, {processor_name()}" if backend == "cpu" else f"{count} × {kind} ({backend})"
    return Devices(count, what)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    packages = ("tutelage", "jax", "jaxlib", "equinox", "optax")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
