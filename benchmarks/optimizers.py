"""Every learned optimizer on every optimizee: time and memory of a step, beside Adam's step.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/optimizers.py --data-dir DATA [--repetitions 7] [--on mlp-orig …]

Forward is a step of the rollout that evaluates an optimizer, the optimizee's gradient included; meta-gradient is a
step of a segment of 20 with the gradient for the optimizer's weights. All candidates of an optimizee run in one
process, interleaved; the tables give medians per inner step and ratios to Adam's. Memory is that of XLA's temporary
buffers, from the compiled program. The second table is about the number of coordinates alone, on a loss whose gradient
costs next to nothing.
"""

import argparse
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from timing import describe_run, interleaved_medians

from tutelage.evaluation.rollout import advance_rollout, start_rollout
from tutelage.optimizees import Optimizee, optimizee
from tutelage.optimizers import create_learned, parse_hand_designed
from tutelage.training import recipe
from tutelage.training.estimator import cuts_coordinates, make_unroll
from tutelage.training.objective import SEGMENT_LENGTH
from tutelage.training.parallel import TASKS, training_mesh

LEARNED = ("l2o-dm", "rnnprop", "l2o-scale")
OPTIMIZEES = ("mlp-orig", "mlp-relu", "mlp-deeper", "conv-mnist", "conv-cifar", "lenet", "nas-cifar")
ADAM = "adam:learning_rate=0.01"
SIZES = (1_000, 10_000, 100_000, 1_000_000)


class Slope(Optimizee):
    """A loss whose gradient costs next to nothing: what is timed is the optimizer."""

    size: int = eqx.field(static=True)

    def init(self, key):
        return jnp.zeros(self.size)

    def sample(self, key):
        return jax.random.normal(key, ())

    def loss(self, params, batch):
        return batch * jnp.sum(params) + 1e-3 * jnp.sum(params**2)


def forward(optimizer, problem) -> tuple[Callable, tuple]:
    def run(optimizer, problem, key):
        return advance_rollout(optimizer, problem, start_rollout(optimizer, problem, key), SEGMENT_LENGTH)[1]

    return jax.jit(run), (optimizer, problem, jax.random.key(0))


def meta_gradient(name, problem) -> tuple[Callable, tuple]:
    optimizer = create_learned(name, jax.random.key(0))

    def segment(unroll, optimizer, keys):
        return unroll.segment(optimizer, unroll.start(optimizer, keys[0]), keys[1]).gradient

    config = recipe(name)
    unroll = make_unroll(config, optimizer, problem)
    everywhere = PartitionSpec()
    mapped = jax.shard_map(
        segment,
        mesh=training_mesh(1, cuts_coordinates(config, optimizer)),
        in_specs=(everywhere, everywhere, PartitionSpec(None, TASKS)),
        out_specs=everywhere,
        check_vma=False,
    )
    return jax.jit(mapped), (unroll, optimizer, jax.random.split(jax.random.key(1), (2, 1)))


def medians(candidates: dict[str, tuple[Callable, tuple]], repetitions: int) -> dict[str, tuple[float, float]]:
    """Milliseconds per step and temporary megabytes of each candidate."""
    compiled = {name: function.lower(*arguments).compile() for name, (function, arguments) in candidates.items()}
    seconds = interleaved_medians({n: partial(f, *candidates[n][1]) for n, f in compiled.items()}, repetitions)
    memory = {name: function.memory_analysis().temp_size_in_bytes / 1e6 for name, function in compiled.items()}
    return {name: (1e3 * total / SEGMENT_LENGTH, memory[name]) for name, total in seconds.items()}


def candidates_on(problem: Optimizee) -> dict[str, tuple[Callable, tuple]]:
    made = {"adam": forward(parse_hand_designed(ADAM), problem)}
    for name in LEARNED:
        made[f"{name}, forward"] = forward(create_learned(name, jax.random.key(0)), problem)
        made[f"{name}, meta-gradient"] = meta_gradient(name, problem)
    return made


def print_rows(title: str, measured: dict[str, tuple[float, float]]) -> None:
    adam = measured["adam"][0]
    for name, (milliseconds, megabytes) in measured.items():
        print(f"| {title} | {name} | {milliseconds:.2f} | {milliseconds / adam:.2f} | {megabytes:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--on", nargs="*", default=OPTIMIZEES)
    arguments = parser.parse_args()
    print(f"{describe_run(arguments.repetitions)}\n")
    print("| optimizee | optimizer | ms per inner step | times Adam | temporary memory, MB |\n|---|---|---|---|---|")
    for name in arguments.on:
        problem = optimizee(name, data_dir=arguments.data_dir)
        print_rows(name, medians(candidates_on(problem), arguments.repetitions))
    print(
        "\n| coordinates | optimizer | ms per inner step | times Adam | temporary memory, MB |\n|---|---|---|---|---|"
    )
    for size in SIZES:
        print_rows(f"{size:,}", medians(candidates_on(Slope(size)), arguments.repetitions))


if __name__ == "__main__":
    main()
