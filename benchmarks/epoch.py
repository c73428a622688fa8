"""Meta-training throughput of a whole epoch against the sum of its segments.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/epoch.py --data-dir DATA [--repetitions 5]

A segment alone is an epoch of one segment less an epoch of none; both are calls of the same compiled program, so what
an epoch takes beyond the sum of its segments is overhead. Stages of a curriculum are run in turn, interleaved, and
the number of compiled programs is printed at the end: it stays 1.
"""

import argparse
from functools import partial

import jax
from timing import describe_run, interleaved_medians

from tutelage.optimizees import optimizee
from tutelage.optimizers import L2ODM
from tutelage.training.epoch import make_epoch
from tutelage.training.objective import SEGMENT_LENGTH
from tutelage.training.parallel import replicate, training_mesh
from tutelage.training.trainer import make_meta_optimizer
from tutelage.training.unroll import BlockwiseUnroll

UNROLLS = (0, 20, 100, 200, 500, 1000)


def prepare(num_tasks: int, data_dir: str | None):
    """The compiled epoch on mlp-orig for so many optimizees at once, and a call of it as a function of its steps."""
    mesh = training_mesh(num_tasks, cuts_coordinates=True)
    meta = make_meta_optimizer("adam:learning_rate=0.001", None, None)
    epoch = make_epoch(meta, num_tasks, mesh)
    optimizer = replicate(L2ODM.create(jax.random.key(0)), mesh)
    state = replicate(meta.init(optimizer), mesh)
    unroll = replicate(BlockwiseUnroll(optimizee("mlp-orig", data_dir=data_dir)), mesh)
    return epoch, lambda steps: epoch(optimizer, state, unroll, jax.random.key(1), steps // SEGMENT_LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()

    epoch, run = prepare(1, arguments.data_dir)
    calls = {str(steps): partial(run, steps) for steps in UNROLLS}
    medians = interleaved_medians(calls, arguments.repetitions)
    segment = medians["20"] - medians["0"]
    print(f"{describe_run(arguments.repetitions)}\n")
    print("| unroll | seconds | ms per inner step | times the sum of its segments |\n|---|---|---|---|")
    for steps in UNROLLS[1:]:
        total, seconds = medians["0"] + segment * steps / SEGMENT_LENGTH, medians[str(steps)]
        print(f"| {steps} | {seconds:.3f} | {1e3 * seconds / steps:.2f} | {seconds / total:.2f} |")
    print(f"\ncompiled programs: {epoch._cache_size()}")


if __name__ == "__main__":
    main()
