"""An optimizee of one's own in one file: a small transformer that predicts the next character of a text made here.

Use it from the folder above this one:

    tutelage evaluate adam:learning_rate=0.003 l2o-dm.safetensors --on examples.my_optimizee:create --steps 1000
    tutelage train runs/text --on examples.my_optimizee:create --technique cl-il --max-epochs 50
"""

import random

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tutelage.optimizees import Optimizee

CONTEXT, BATCH, WIDTH, HEADS, BLOCKS = 32, 16, 32, 2, 2


def make_text(split: str, sentences: int = 2_000) -> str:
    """Sentences of a tiny grammar; the splits have other sentences."""
    draw = random.Random(split)
    nouns = ("fox", "dog", "tree", "river", "stone", "child")
    verbs = ("sees", "finds", "follows", "leaves", "hears")
    adjectives = ("small", "old", "quiet", "red")

    def noun_phrase():
        return " ".join(["the", *draw.sample(adjectives, draw.choice((0, 0, 1, 2))), draw.choice(nouns)])

    return " ".join(f"{noun_phrase()} {draw.choice(verbs)} {noun_phrase()}." for _ in range(sentences))


class TextTransformer(Optimizee):
    """Cross-entropy of the next character, over all positions of a batch of windows."""

    text: Int[Array, " characters"]
    vocabulary: int = eqx.field(static=True)

    def init(self, key: PRNGKeyArray) -> dict:
        keys = iter(jax.random.split(key, 3 + 4 * BLOCKS))

        def matrix(inputs, outputs):
            return jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5

        blocks = [
            {
                "attention": matrix(WIDTH, 3 * WIDTH),
                "projection": matrix(WIDTH, WIDTH),
                "expand": matrix(WIDTH, 4 * WIDTH),
                "contract": matrix(4 * WIDTH, WIDTH),
            }
            for _ in range(BLOCKS)
        ]
        return {
            "characters": matrix(self.vocabulary, WIDTH),
            "positions": matrix(CONTEXT, WIDTH),
            "blocks": blocks,
            "readout": matrix(WIDTH, self.vocabulary),
        }

    def sample(self, key: PRNGKeyArray) -> Int[Array, "batch window"]:
        starts = jax.random.randint(key, (BATCH, 1), 0, self.text.shape[0] - CONTEXT - 1)
        return self.text[starts + jnp.arange(CONTEXT + 1)]

    def loss(self, params: dict, batch: Int[Array, "batch window"]) -> Float[Array, ""]:
        logits = jax.vmap(lambda window: self._logits(params, window[:-1]))(batch)
        log_probabilities = jax.nn.log_softmax(logits)
        return -jnp.mean(jnp.take_along_axis(log_probabilities, batch[:, 1:, None], axis=-1))

    def _logits(self, params: dict, window: Int[Array, " context"]) -> Float[Array, "context vocabulary"]:
        x = params["characters"][window] + params["positions"]
        for block in params["blocks"]:
            queries, keys, values = jnp.split(_norm(x) @ block["attention"], 3, axis=-1)
            heads = [y.reshape(CONTEXT, HEADS, WIDTH // HEADS) for y in (queries, keys, values)]
            attended = jax.nn.dot_product_attention(*heads, is_causal=True)
            x = x + attended.reshape(CONTEXT, WIDTH) @ block["projection"]
            x = x + jax.nn.gelu(_norm(x) @ block["expand"]) @ block["contract"]
        return _norm(x) @ params["readout"]


def _norm(x: Float[Array, "context width"]) -> Float[Array, "context width"]:
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / jnp.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)


def create(split: str) -> TextTransformer:
    """The optimizee on one of the two texts."""
    alphabet = sorted(set(make_text("train") + make_text("test")))
    return TextTransformer(jnp.array([alphabet.index(c) for c in make_text(split)]), len(alphabet))
