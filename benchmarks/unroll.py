"""Speed and memory of the unroll and of its meta-gradient, beside plain autodiff and PyTorch eager.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/unroll.py --data-dir DATA [--repetitions 9]

All candidates run in one process, interleaved; the table gives medians in milliseconds per inner step of L2O-DM on
mlp-orig, and ratios against ours. `rows-first` is the unroll as one would first write it in JAX: one row per
coordinate, differentiated by plain autodiff. PyTorch is eager `LSTMCell`s on the same shapes (skipped where torch is
not installed). Peak memory is that of XLA's temporary buffers, from the compiled program.
"""

import argparse
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from timing import describe_run, interleaved_medians

from tutelage.evaluation.rollout import advance_rollout, start_rollout
from tutelage.optimizees import MLP, optimizee
from tutelage.optimizers import L2ODM
from tutelage.optimizers.l2o_dm import log_and_sign
from tutelage.training.objective import SEGMENT_LENGTH
from tutelage.training.parallel import TASKS, training_mesh
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll

STEPS = SEGMENT_LENGTH


def rows_first_step(optimizer: L2ODM, state, gradients):
    """L2O-DM with a row per coordinate."""

    def cell(lstm, x, h, c):
        i, j, f, o = jnp.split(jnp.concatenate([x, h], axis=1) @ lstm.weight.T + lstm.bias, 4, axis=1)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(j)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    h1, c1, h2, c2 = state
    h1, c1 = cell(optimizer.lstm_1, log_and_sign(gradients).T, h1, c1)
    h2, c2 = cell(optimizer.lstm_2, h1, h2, c2)
    return 0.01 * (h2 @ optimizer.readout_weight + optimizer.readout_bias), (h1, c1, h2, c2)


def rows_first_losses(optimizer: L2ODM, problem: MLP, params, keys):
    """Losses of an unroll with the gradients as data."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def step(carry, key):
        flat, state = carry
        batch = problem.sample(key)
        loss, gradient = jax.value_and_grad(lambda x: problem.loss(unravel(x), batch))(flat)
        updates, state = rows_first_step(optimizer, state, lax.stop_gradient(gradient))
        return (flat + updates, state), loss

    state = (jnp.zeros((flat.size, 20)),) * 4
    (flat, _), losses = lax.scan(step, (flat, state), keys[:-1])
    return jnp.append(losses, problem.loss(unravel(flat), problem.sample(keys[-1])))


def jax_candidates(problem: MLP) -> dict[str, tuple[Callable, tuple]]:
    optimizer = L2ODM.create(jax.random.key(0))
    key = jax.random.key(1)
    params = problem.init(key)
    keys = jax.random.split(key, STEPS + 1)

    def ours_forward(optimizer, problem, key):
        return advance_rollout(optimizer, problem, start_rollout(optimizer, problem, key), STEPS)[1]

    def rows_first_forward(optimizer, problem, params, keys):
        return rows_first_losses(optimizer, problem, params, keys)

    def rows_first_gradient(optimizer, problem, params, keys):
        return jax.grad(lambda o: rows_first_losses(o, problem, params, keys).sum())(optimizer)

    def segment(unroll, optimizer, keys):
        return unroll.segment(optimizer, unroll.start(optimizer, keys[0]), keys[1]).gradient

    def on_mesh(unroll):
        replicated = PartitionSpec()
        task_keys = jax.random.split(key, (2, 1))
        specs = (replicated, replicated, PartitionSpec(None, TASKS))
        mapped = jax.shard_map(
            segment, mesh=training_mesh(1, cuts_coordinates=True), in_specs=specs, out_specs=replicated, check_vma=False
        )
        return jax.jit(mapped), (unroll, optimizer, task_keys)

    return {
        "forward, ours": (jax.jit(ours_forward), (optimizer, problem, key)),
        "forward, rows-first": (jax.jit(rows_first_forward), (optimizer, problem, params, keys)),
        "meta-gradient, ours": on_mesh(BlockwiseUnroll(problem)),
        "meta-gradient, our unroll by autodiff": on_mesh(AutodiffUnroll(problem)),
        "meta-gradient, rows-first autodiff": (
            jax.jit(rows_first_gradient),
            (optimizer, problem, params, keys),
        ),
    }


def torch_candidates(problem: MLP) -> dict[str, Callable[[], None]]:
    try:
        import torch
    except ImportError:
        return {}
    images = torch.tensor(np.asarray(problem.images))
    labels = torch.tensor(np.asarray(problem.labels), dtype=torch.long)
    first, second, readout = torch.nn.LSTMCell(2, 20), torch.nn.LSTMCell(20, 20), torch.nn.Linear(20, 1)
    sizes = [(784, 20), (20,), (20, 10), (10,)]
    counts = [int(np.prod(size)) for size in sizes]
    total = sum(counts)

    def unroll(differentiate: bool) -> None:
        theta = 0.01 * torch.randn(total)
        h1, c1, h2, c2 = (torch.zeros(total, 20) for _ in range(4))
        meta_loss = torch.zeros(())
        for step in range(STEPS + differentiate):
            index = torch.randint(len(labels), (128,))
            batch = images[index].float() / 255
            # the gradient as data, and the loss's own derivative at the same point
            leaf = theta.detach().requires_grad_()
            w1, b1, w2, b2 = (p.view(s) for p, s in zip(leaf.split(counts), sizes, strict=True))
            hidden = torch.sigmoid(batch @ w1 + b1)
            loss = torch.nn.functional.cross_entropy(hidden @ w2 + b2, labels[index])
            (gradient,) = torch.autograd.grad(loss, leaf)
            meta_loss = meta_loss + (theta * gradient).sum()
            if step == STEPS:
                break
            features = torch.stack(
                [
                    ((gradient.abs() + 1.19e-7).log() / 5).clamp(min=-1),
                    (gradient * float(np.exp(5))).clamp(-1, 1),
                ],
                1,
            )
            h1, c1 = first(features, (h1, c1))
            h2, c2 = second(h1, (h2, c2))
            theta = theta + 0.01 * readout(h2)[:, 0]
        if differentiate:
            meta_loss.backward()

    def forward() -> None:
        with torch.no_grad():
            parameters = [*first.parameters(), *second.parameters(), *readout.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(False)
        unroll(False)
        for parameter in parameters:
            parameter.requires_grad_(True)

    return {"forward, PyTorch": forward, "meta-gradient, PyTorch": partial(unroll, True)}


def temporary_megabytes(function, arguments) -> float:
    return function.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6


def measure(data_dir: str | None, repetitions: int) -> None:
    problem = optimizee("mlp-orig", data_dir=data_dir)
    candidates = jax_candidates(problem)
    calls = {name: partial(f, *a) for name, (f, a) in candidates.items()} | torch_candidates(problem)
    medians = interleaved_medians(calls, repetitions)
    print(f"{describe_run(repetitions)}\n")
    print("| what | ms per inner step | times ours | temporary memory, MB |\n|---|---|---|---|")
    for kind in ("forward", "meta-gradient"):
        ours = medians[f"{kind}, ours"]
        for name in (n for n in calls if n.startswith(kind)):
            memory = f"{temporary_megabytes(*candidates[name]):.0f}" if name in candidates else ""
            print(f"| {name} | {1e3 * medians[name] / STEPS:.2f} | {medians[name] / ours:.2f} | {memory} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    measure(arguments.data_dir, arguments.repetitions)


if __name__ == "__main__":
    main()
