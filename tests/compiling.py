"""How much XLA optimizes what tests run. Read before JAX is imported."""

from importlib.metadata import version


def _flags(level: int) -> str:
    # XLA ends the process for a flag that it does not know, as the first of these from jaxlib 0.11 on.
    old = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
    further = " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    return f"--xla_backend_optimization_level={level}" + further * old


# Nearly all the time goes into compiling programs that run once. XLA_FLAGS= tests what users get, in far more time.
NOTHING = _flags(0)
# For processes that run long enough for it to pay, other than the tests themselves.
A_LITTLE = _flags(1)
