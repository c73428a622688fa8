"""A step of each taught optimizer beside Adam's, in JAX and PyTorch, on models of 1e4, 1e6 and 1e7 parameters.

    python benchmarks/step.py [--optimizers tutelage-1] [--parameters 10000 1000000] [--repetitions 5]

For L2O-DM and RNNprop PyTorch also runs the plain way to write them: for each tensor, their layers as modules
(`LSTMCell`, `Linear`) over its coordinates in rows.
"""

import argparse
import math

import jax
import optax
import torch
from timing import describe_run, interleaved_medians

import tutelage

OPTIMIZERS = ("l2o-dm-cl-il", "rnnprop-cl-il", "l2o-scale", "tutelage-1")
LAYERS = 16


def model(parameters: int) -> list[tuple[int, ...]]:
    """Shapes of the weights and biases of a network of square layers."""
    width = round(math.sqrt(parameters / LAYERS))
    return [(width, width), (width,)] * LAYERS


def jax_step(optimizer, shapes):
    key = jax.random.key(0)
    grads = [1e-3 * jax.random.normal(jax.random.fold_in(key, i), shape) for i, shape in enumerate(shapes)]
    step = jax.jit(lambda grads, state: optimizer.update(grads, state, grads), donate_argnums=1)
    state = [optimizer.init(grads)]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    def call():
        updates, state[0] = step(grads, state[0])
        return updates

    return call, size


def torch_parameters(shapes):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    params = [torch.nn.Parameter(torch.zeros(shape, device=device)) for shape in shapes]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p)
    return params


def finish():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_step(make, shapes):
    optimizer = make(torch_parameters(shapes))

    def call():
        optimizer.step()
        finish()

    call()
    return call, sum(x.nbytes for entry in optimizer.state.values() for x in entry.values() if torch.is_tensor(x))


def l2o_dm_features(gradient, _):
    return torch.cat([(gradient.abs() + 1e-7).log() / 5, (gradient * math.exp(5)).clamp(-1, 1)], dim=1)


def rnnprop_features(gradient, moments):
    for moment, power in zip(moments, (1, 2), strict=True):
        moment.mul_(0.95).add_(gradient**power, alpha=0.05)
    scale = moments[1].sqrt() + 1e-8
    return torch.cat([moments[0] / scale, gradient / scale], dim=1)


def plain_step(features, layers, shapes):
    """The layers, one tensor after the other."""
    params = torch_parameters(shapes)
    device = params[0].device
    layers = [layer.to(device) for layer in layers]
    moments = [[torch.zeros(p.numel(), 1, device=device) for _ in range(2)] for p in params]
    states = [[(torch.zeros(p.numel(), 20, device=device),) * 2 for _ in layers] for p in params]

    @torch.no_grad()
    def call():
        for p, moment, state in zip(params, moments, states, strict=True):
            x = features(p.grad.reshape(-1, 1), moment)
            for number, layer in enumerate(layers):
                if isinstance(layer, torch.nn.LSTMCell):
                    state[number] = layer(x, state[number])
                    x = state[number][0]
                else:
                    x = layer(x)
            p.add_(0.01 * x.view_as(p))
        finish()

    return call


PLAIN = {
    "l2o-dm-cl-il": lambda shapes: plain_step(
        l2o_dm_features, [torch.nn.LSTMCell(2, 20), torch.nn.LSTMCell(20, 20), torch.nn.Linear(20, 1)], shapes
    ),
    "rnnprop-cl-il": lambda shapes: plain_step(
        rnnprop_features,
        [
            torch.nn.Linear(2, 20),
            torch.nn.ELU(),
            torch.nn.LSTMCell(20, 20),
            torch.nn.LSTMCell(20, 20),
            torch.nn.Linear(20, 1),
            torch.nn.Tanh(),
        ],
        shapes,
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS)
    parser.add_argument("--parameters", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{describe_run(arguments.repetitions)}; PyTorch with {torch.get_num_threads()} threads. ms per step.\n")
    print(
        "| parameters | optimizer | JAX | × optax.adam | PyTorch | × AdamW | plain loop ÷ PyTorch | bytes a parameter |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for parameters in arguments.parameters:
        shapes = model(parameters)
        total = sum(math.prod(shape) for shape in shapes)
        for name in arguments.optimizers:
            ours, size = jax_step(tutelage.load(name), shapes)
            theirs, torch_size = torch_step(
                lambda params, name=name: tutelage.torch.LearnedOptimizer(params, name), shapes
            )
            calls = {
                "jax": ours,
                "adam": jax_step(optax.adam(1e-3), shapes)[0],
                "torch": theirs,
                "adamw": torch_step(torch.optim.AdamW, shapes)[0],
            }
            if name in PLAIN:
                calls["plain"] = PLAIN[name](shapes)
            seconds = interleaved_medians(calls, arguments.repetitions, warm_before_each=True)
            loop = f"{seconds['plain'] / seconds['torch']:.1f}" if "plain" in seconds else ""
            print(
                f"| {total:,} | {name} | {1e3 * seconds['jax']:.2f} | {seconds['jax'] / seconds['adam']:.0f} "
                f"| {1e3 * seconds['torch']:.2f} | {seconds['torch'] / seconds['adamw']:.0f} | {loop} "
                f"| {size / total:.0f}, {torch_size / total:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
