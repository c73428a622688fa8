import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tests.problems import Linear, Quadratic
from tutelage.evaluation import EvaluationStore
from tutelage.evaluation.pair import fingerprint
from tutelage.optimizees import MLP, Dataset
from tutelage.optimizers import HandDesigned

PROBLEM = Quadratic(jnp.linspace(-1, 1, 7))
ADAM = HandDesigned("adam", learning_rate=0.1)


def losses(store=None, num_steps=500, report=lambda progress: None):
    table = tutelage.evaluate(
        {"adam": ADAM}, {"q": PROBLEM}, num_steps=num_steps, num_seeds=3, store=store, report=report
    )
    return table.sort("seed", "step")["loss"].to_numpy()


def test_interrupted_anywhere_it_ends_as_if_undisturbed(tmp_path):
    expected = losses()
    store = EvaluationStore(tmp_path / "kept")
    computed = []

    def interrupt(progress):
        computed.append(progress.finished_windows)
        if len(computed) in (1, 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            losses(store, report=interrupt)
    np.testing.assert_array_equal(losses(store, report=interrupt), expected)
    assert computed == [1, 2, 3, 4, 5]  # none was computed again


def test_what_is_finished_is_not_computed_again_and_begins_longer_runs_anew(tmp_path):
    store, computed = EvaluationStore(tmp_path), []
    whole = losses(store)
    np.testing.assert_array_equal(losses(store, report=computed.append), whole)
    np.testing.assert_array_equal(losses(store, 200, computed.append), whole.reshape(3, 5)[:, :2].reshape(-1))
    assert not computed
    longer = losses(store, 600, computed.append)
    np.testing.assert_array_equal(longer.reshape(3, 6)[:, :5].reshape(-1), whole)
    assert len(computed) == 6


def test_the_fingerprint_sees_everything_that_determines_the_losses():
    def network(activation, pixel):
        images = np.full((20, 4), pixel, np.uint8)
        return MLP(Dataset(images, np.zeros(20, np.int32), 255.0), (3,), activation)

    variants = [
        (ADAM, PROBLEM, 3),
        (ADAM, PROBLEM, 2),
        (HandDesigned("adam", learning_rate=0.2), PROBLEM, 3),
        (HandDesigned("adam", learning_rate=0.1, nesterov=True), PROBLEM, 3),
        (Linear(jnp.float32(-0.1)), PROBLEM, 3),
        (ADAM, Quadratic(jnp.linspace(-1, 2, 7)), 3),
        (ADAM, Quadratic(jnp.linspace(-1, 1, 7), 2.0), 3),
        (ADAM, network(jax.nn.relu, 1), 3),
        (ADAM, network(jax.nn.silu, 1), 3),
        (ADAM, network(jax.nn.silu, 2), 3),
    ]
    assert len({fingerprint(*variant) for variant in variants}) == len(variants)
    assert fingerprint(*variants[0]) == fingerprint(HandDesigned("adam", learning_rate=0.1), PROBLEM, 3)


def test_a_damaged_file_is_named(tmp_path):
    store = EvaluationStore(tmp_path)
    losses(store)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"safetensors cannot be read .*remove it"):
        losses(store)
