"""Meta-training throughput with several optimizees at once, beside what the devices do in one large product.

    python benchmarks/tasks.py --data-dir DATA [--tasks 1 16] [--repetitions 3]

L2O-DM on mlp-orig, epochs of 1,000 steps. The arithmetic is counted by hand: the matrix products of a step, its
gradient and its meta-gradient, the forward pass once more among them; not the tanhs. The large product is of single
precision as these are, with whatever JAX makes of that by default (on recent NVIDIA chips TF32).
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
from epoch import prepare
from jax.sharding import NamedSharding, PartitionSpec
from timing import describe_run, interleaved_medians

from tutelage.training.parallel import TASKS, training_mesh

STEPS = 1000
ROWS = 4096  # of the large product
WEIGHTS = 784 * 20 + 20 * 10
COORDINATES = WEIGHTS + 20 + 10
BATCH = 128
CELLS = (2 + 20) * 80 + (20 + 20) * 80 + 20
# Of a matrix product forward: 2; of its derivatives: 4. The cells run forward, forward again, and backward.
OPERATIONS = BATCH * WEIGHTS * (2 + 4) + COORDINATES * CELLS * (2 + 2 + 4)


def large_product(size: int):
    """A square product on each device, as a function without arguments."""
    mesh = training_mesh(jax.device_count(), cuts_coordinates=False)
    spread = NamedSharding(mesh, PartitionSpec(TASKS))
    x = jax.device_put(jnp.full((jax.device_count(), size, size), 0.01), spread)
    return partial(jax.jit(jax.vmap(jnp.matmul), out_shardings=spread), x, x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()

    calls = {str(tasks): partial(prepare(tasks, arguments.data_dir)[1], STEPS) for tasks in arguments.tasks}
    calls["product"] = large_product(ROWS)
    medians = interleaved_medians(calls, arguments.repetitions)
    limit = 2 * ROWS**3 * jax.device_count() / medians["product"] / 1e9
    print(f"{describe_run(arguments.repetitions)}: {jax.devices()[0].device_kind}\n")
    print(f"A product of {ROWS} rows: {limit:,.0f} GFLOP/s\n")
    print("| optimizees at once | ms per inner step | inner steps × optimizees a second | GFLOP/s | of the product's |")
    print("|---|---|---|---|---|")
    for tasks in arguments.tasks:
        seconds = medians[str(tasks)] / STEPS
        rate = tasks * OPERATIONS / seconds / 1e9
        print(f"| {tasks} | {1e3 * seconds:.3f} | {tasks / seconds:,.0f} | {rate:,.0f} | {rate / limit:.1%} |")


if __name__ == "__main__":
    main()
