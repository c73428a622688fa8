import jax
import pytest

from tutelage.optimizers import create_learned
from tutelage.training import recipe
from tutelage.training.estimator import cuts_coordinates
from tutelage.training.parallel import COORDINATES, TASKS, training_mesh


@pytest.mark.parametrize(
    ("num_tasks", "cut", "tasks", "coordinates"),
    [(1, True, 1, 2), (1, False, 1, 1), (2, True, 2, 1), (2, False, 2, 1), (3, True, 1, 2), (3, False, 1, 1)],
)
def test_no_device_does_the_work_of_another(num_tasks, cut, tasks, coordinates):
    assert jax.device_count() == 2
    assert dict(training_mesh(num_tasks, cut).shape) == {TASKS: tasks, COORDINATES: coordinates}


@pytest.mark.parametrize(
    ("name", "settings", "cut"),
    [
        ("l2o-dm", {}, True),
        ("rnnprop", {}, True),
        ("l2o-scale", {}, False),
        ("l2o-dm", {"estimator": "pes"}, False),
        ("l2o-dm", {"second_derivatives": True}, False),
    ],
)
def test_only_blocks_of_coordinates_can_be_shared_out(name, settings, cut):
    assert cuts_coordinates(recipe(name, **settings), create_learned(name, jax.random.key(0))) == cut
