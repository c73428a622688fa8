import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tutelage
from tests.problems import Linear, Quadratic
from tutelage.evaluation import EvaluationStore
from tutelage.evaluation.fingerprint import fingerprint
from tutelage.optimizees import MLP, Dataset
from tutelage.optimizers import HandDesigned

PROBLEM = Quadratic(jnp.linspace(-1, 1, 7))
ADAM = HandDesigned("adam", learning_rate=0.1)


def losses(store=None, num_steps=500, report=lambda progress: None, num_seeds=3):
    table = tutelage.evaluate(
        {"adam": ADAM}, {"q": PROBLEM}, num_steps=num_steps, num_seeds=num_seeds, store=store, report=report
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


def test_more_seeds_cost_only_the_further_ones(tmp_path):
    store, computed = EvaluationStore(tmp_path), []
    expected = losses(num_seeds=5)
    losses(store, num_seeds=2)
    np.testing.assert_array_equal(losses(store, report=computed.append, num_seeds=5), expected)
    assert [len(progress.losses) for progress in computed] == [3] * 5
    for fewer in (1, 4, 5):
        kept = losses(store, report=computed.append, num_seeds=fewer)
        np.testing.assert_array_equal(kept, expected[: 5 * fewer])
    assert len(computed) == 5


def test_more_seeds_than_an_interrupted_call_had(tmp_path):
    store, reports = EvaluationStore(tmp_path), []

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        losses(store, report=interrupt, num_seeds=2)
    np.testing.assert_array_equal(losses(store, report=reports.append, num_seeds=5), losses(num_seeds=5))
    assert [len(progress.losses) for progress in reports] == [2] * 4 + [3] * 5
    assert [progress.finished_windows for progress in reports] == list(range(2, 11))
    assert {progress.total_windows for progress in reports} == {10}


def test_longer_runs_of_more_seeds_begin_anew_together(tmp_path):
    store, reports = EvaluationStore(tmp_path), []
    losses(store, 200, num_seeds=2)
    losses(store, 200, num_seeds=5)
    np.testing.assert_array_equal(losses(store, report=reports.append, num_seeds=5), losses(num_seeds=5))
    assert [len(progress.losses) for progress in reports] == [5] * 5


def test_longer_runs_of_fewer_seeds_lose_nothing_of_the_others(tmp_path):
    store, reports = EvaluationStore(tmp_path), []
    losses(store, 200, num_seeds=5)
    seconds = store.load(f"{fingerprint(ADAM, PROBLEM)}-0").seconds
    losses(store, num_seeds=2)
    kept = losses(store, 200, reports.append, num_seeds=5)
    np.testing.assert_array_equal(kept, losses(num_steps=200, num_seeds=5))
    assert not reports
    np.testing.assert_allclose(store.load(f"{fingerprint(ADAM, PROBLEM)}-2").seconds, 0.6 * seconds)
    losses(store, 300, num_seeds=3)  # of its three seeds the first two are there
    np.testing.assert_array_equal(losses(store, 200, reports.append, num_seeds=5), kept)
    assert not reports


def test_the_fingerprint_sees_everything_that_determines_the_losses():
    def network(activation, pixel):
        images = np.full((20, 4), pixel, np.uint8)
        return MLP(Dataset(images, np.zeros(20, np.int32), 255.0), (3,), activation)

    variants = [
        (ADAM, PROBLEM),
        (HandDesigned("adam", learning_rate=0.2), PROBLEM),
        (HandDesigned("adam", learning_rate=0.1, nesterov=True), PROBLEM),
        (Linear(jnp.float32(-0.1)), PROBLEM),
        (ADAM, Quadratic(jnp.linspace(-1, 2, 7))),
        (ADAM, Quadratic(jnp.linspace(-1, 1, 7), 2.0)),
        (ADAM, network(jax.nn.relu, 1)),
        (ADAM, network(jax.nn.silu, 1)),
        (ADAM, network(jax.nn.silu, 2)),
    ]
    assert len({fingerprint(*variant) for variant in variants}) == len(variants)
    assert fingerprint(*variants[0]) == fingerprint(HandDesigned("adam", learning_rate=0.1), PROBLEM)


def test_a_damaged_file_is_named(tmp_path):
    store = EvaluationStore(tmp_path)
    losses(store)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"safetensors cannot be read .*remove it"):
        losses(store)
