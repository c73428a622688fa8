"""Taught optimizers, as they come, beside AdamW at its default and tuned, on models of a user's kind.

    python benchmarks/own_models.py [--on text tabular cnn words] [--data-dir FOLDER] [--out own_models.parquet]
        [--optimizers tutelage-1]

A small transformer on text, an MLP on a table (scikit-learn's breast cancer data, a third held out), a CNN on
CIFAR-10, and a classifier of sentences of 5,000 words by Zipf's law, so that most are rare: 2,000 steps, 5 seeds,
trained on the training split. The held-out loss is the mean over 50 batches of the test split after the last step.
AdamW's learning rate is searched with 2 seeds, by the training loss; with --optimizers it is left out.
"""

import argparse
import math
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import tutelage
from tutelage.evaluation.rollout import advance_rollout, start_rollout
from tutelage.optimizees import Optimizee
from tutelage.optimizers import for_steps

sys.path.append(str(Path(__file__).parents[1]))  # for the example

STEPS, SEEDS, TUNING_SEEDS, LAST, BATCHES = 2_000, 5, 2, 100, 50
TAUGHT = ("tutelage-1", "tutelage-2", "rnnprop-cl-il", "rnnprop", "l2o-dm-cl-il")
VOCABULARY, CLASSES = 5_000, 10
DEFAULT, GRID = 1e-3, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


class Table(Optimizee):
    """A classifier of rows of a table: two hidden layers of 64 units."""

    rows: Float[Array, "rows columns"]
    labels: Int[Array, " rows"]

    def init(self, key):
        sizes = (self.rows.shape[1], 64, 64, 2)
        keys = jax.random.split(key, 3)
        layers = zip(keys, sizes[:-1], sizes[1:], strict=True)
        return [{"w": jax.random.normal(k, (i, o)) * math.sqrt(2 / i), "b": jnp.zeros(o)} for k, i, o in layers]

    def sample(self, key):
        chosen = jax.random.randint(key, (64,), 0, len(self.rows))
        return self.rows[chosen], self.labels[chosen]

    def loss(self, params, batch):
        x, labels = batch
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def tabular(split: str, _) -> Table:
    x, y = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=1 / 3, random_state=0, stratify=y)
    x, y = (train_x, train_y) if split == "train" else (test_x, test_y)
    return Table(jnp.asarray(StandardScaler().fit(train_x).transform(x), jnp.float32), jnp.asarray(y, jnp.int32))


class Words(Optimizee):
    """A classifier of sentences: embeddings of their words, averaged, and a hidden layer of 64 units."""

    sentences: Int[Array, "sentences words"]
    labels: Int[Array, " sentences"]

    def init(self, key):
        keys = jax.random.split(key, 3)
        sizes = {"embedding": (VOCABULARY, 16), "hidden": (16, 64), "out": (64, CLASSES)}
        weights = {n: jax.random.normal(k, s) / math.sqrt(s[0]) for k, (n, s) in zip(keys, sizes.items(), strict=True)}
        weights["embedding"] *= 0.1 * math.sqrt(VOCABULARY)
        return weights | {"hidden_bias": jnp.zeros(64), "out_bias": jnp.zeros(CLASSES)}

    def sample(self, key):
        chosen = jax.random.randint(key, (64,), 0, len(self.labels))
        return self.sentences[chosen], self.labels[chosen]

    def loss(self, params, batch):
        sentences, labels = batch
        mean = params["embedding"][sentences].mean(1)
        hidden = jax.nn.relu(mean @ params["hidden"] + params["hidden_bias"])
        logits = hidden @ params["out"] + params["out_bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def words(split: str, _) -> Words:
    """Sentences of 20 words; the label is the class that their words speak for most, as drawn once for each word."""
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    meaning = np.random.default_rng(0).normal(size=(VOCABULARY, CLASSES))
    draw = np.random.default_rng(1 if split == "train" else 2)
    sentences = draw.choice(VOCABULARY, size=(20_000, 20), p=frequency / frequency.sum())
    return Words(jnp.asarray(sentences, jnp.int32), jnp.asarray(meaning[sentences].mean(1).argmax(1), jnp.int32))


MODELS = {
    "text": lambda split, _: tutelage.optimizee("examples.my_optimizee:create", split),
    "tabular": tabular,
    "cnn": lambda split, folder: tutelage.optimizee("conv-cifar", split, folder),
    "words": words,
}


@eqx.filter_jit
def run(optimizer, train, test, seeds):
    """Mean training loss over the last steps, and held-out loss, of each seed."""

    def one(seed):
        state, losses = advance_rollout(optimizer, train, start_rollout(optimizer, train, jax.random.key(seed)), STEPS)
        held_out = jax.lax.map(
            lambda k: test.loss(state.params, test.sample(k)), jax.random.split(jax.random.key(99), BATCHES)
        )
        return losses[-LAST:].mean(), held_out.mean()

    return jax.lax.map(one, seeds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data-dir")
    parser.add_argument("--out")
    parser.add_argument("--optimizers", nargs="+", help="measure these alone: names, run directories or files")
    arguments = parser.parse_args()
    rows = []
    print("| model | optimizer | training loss | held-out loss |\n|---|---|---|---|")
    for name in arguments.on:
        train, test = (MODELS[name](split, arguments.data_dir) for split in ("train", "test"))

        def measure(label, optimizer, seeds=SEEDS, name=name, train=train, test=test):
            losses, held_out = run(optimizer, train, test, jnp.arange(seeds))
            if seeds == SEEDS:
                print(f"| {name} | {label} | {said(losses)} | {said(held_out)} |", flush=True)
                for seed in range(seeds):
                    row = {"seed": seed, "training": float(losses[seed]), "held_out": float(held_out[seed])}
                    rows.append({"model": name, "optimizer": label, **row})
            return float(jnp.nan_to_num(losses.mean(), nan=math.inf))

        for taught in arguments.optimizers or TAUGHT:
            measure(taught, for_steps(tutelage.optimizer(taught), STEPS))
        if arguments.optimizers:
            continue
        measure("AdamW, default", optax.adamw(DEFAULT))
        tried = {rate: measure("", optax.adamw(rate), TUNING_SEEDS) for rate in GRID}
        best = min(tried, key=tried.__getitem__)
        measure(f"AdamW, tuned ({best:g})", optax.adamw(best))
    if arguments.out:
        pl.DataFrame(rows).write_parquet(arguments.out)


def said(values):
    values = np.asarray(values)
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


if __name__ == "__main__":
    main()
