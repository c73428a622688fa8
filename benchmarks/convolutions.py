"""Forward and backward of the convolutional optimizees inside the compiled loop, beside PyTorch's own.

    python benchmarks/convolutions.py --data-dir DATA [--repetitions 7]

One device and all cores for either side: gradient steps on the same images, in one process, taking turns. The last
column is our loop with XLA's convolution in place of ours, measured once.
"""

import argparse
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
import torch
import torch.nn.functional as F
from jax import lax
from timing import describe_run, interleaved_medians

from tutelage.optimizees import Optimizee, convolution, optimizee
from tutelage.optimizees.convolution import convolve_directly

STEPS = 10
NAMES = ("conv-mnist", "conv-cifar", "lenet", "nas-cifar")


def ours(problem: Optimizee, params, batch) -> Callable[[], None]:
    def loop(problem, params, batch):
        def step(params, _):
            loss, gradient = jax.value_and_grad(problem.loss)(params, batch)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient), loss

        return lax.scan(step, params, length=STEPS)[1]

    compiled = jax.jit(loop).lower(problem, params, batch).compile()
    return lambda: compiled(problem, params, batch).block_until_ready()


def norm(x):
    return F.batch_norm(x, None, None, training=True, eps=1e-3)


def torch_network(name: str, p: list, x):
    """The logits, as in `tutelage.optimizees.convolutional`; `p` in the order of its leaves."""
    if name.startswith("conv"):
        stride = 2 if name == "conv-cifar" else 1
        x = F.max_pool2d(F.relu(norm(F.conv2d(x, p[0], p[1], stride))), 2)
        x = F.max_pool2d(F.relu(norm(F.conv2d(x, p[2], p[3], stride))), 2)
        return F.relu(x.flatten(1) @ p[4] + p[5])
    if name == "lenet":
        for kernel, bias, shift in (p[0:3], p[3:6]):
            x = F.max_pool2d(torch.sigmoid(norm(F.conv2d(x, kernel, bias)) + shift[:, None, None]), 2)
        x = x.flatten(1)
        for kernel, bias, shift in (p[6:9], p[9:12]):
            x = torch.sigmoid(norm(x @ kernel + bias) + shift)
        return x @ p[12] + p[13]
    node = [lambda x, i=i: F.relu(norm(F.conv2d(x, p[2 * i], p[2 * i + 1], padding=1))) for i in range(4)]
    n0 = node[0](x)
    n1 = node[1](n0)
    n2 = F.avg_pool2d(n1, 3, 1, 1, count_include_pad=False) + node[2](n0)
    n3 = n2 + node[3](n1) + n0
    return F.relu(n3.mean(dim=(2, 3)) @ p[8] + p[9])


def pytorch(name: str, problem, params, batch) -> Callable[[], None]:
    leaves = [np.array(x) for x in jax.tree.leaves(params)]
    leaves = [torch.tensor(x.transpose(3, 2, 0, 1).copy() if x.ndim == 4 else x).requires_grad_() for x in leaves]
    images = torch.tensor(np.array(batch[0]).reshape(-1, *problem.shape).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor(np.array(batch[1]), dtype=torch.long)

    def steps():
        for _ in range(STEPS):
            gradients = torch.autograd.grad(F.cross_entropy(torch_network(name, leaves, images), labels), leaves)
            with torch.no_grad():
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    leaf -= 1e-3 * gradient

    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{describe_run(arguments.repetitions)}\n")
    print(
        "| optimizee | ms per step, ours | PyTorch | ours / PyTorch | with XLA's convolution |\n|---|---|---|---|---|"
    )
    for name in NAMES:
        problem = optimizee(name, data_dir=arguments.data_dir)
        params, batch = problem.init(jax.random.key(0)), problem.sample(jax.random.key(1))
        candidates = {"ours": ours(problem, params, batch), "torch": pytorch(name, problem, params, batch)}
        medians = interleaved_medians(candidates, arguments.repetitions, warm_before_each=True)
        mine, theirs = (1e3 * medians[key] / STEPS for key in ("ours", "torch"))
        with (
            mock.patch.object(convolution, "convolve_blocks", convolve_directly),
            mock.patch.object(convolution, "convolve_rows", convolve_directly),
        ):
            slow = {"direct": ours(problem, params, batch)}  # some take seconds a step
        direct = 1e3 * interleaved_medians(slow, 1)["direct"] / STEPS
        print(f"| {name} | {mine:.1f} | {theirs:.1f} | {mine / theirs:.2f} | {direct:.1f} |", flush=True)


if __name__ == "__main__":
    main()
