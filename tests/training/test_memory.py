import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tutelage.optimizees import MLP, Dataset, optimizee
from tutelage.optimizers import L2ODM, L2OScale, RNNProp
from tutelage.training.objective import ObjectiveSettings
from tutelage.training.parallel import TASKS, training_mesh
from tutelage.training.replay import BLOCK_SIZE_CPU
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll


def temporary_bytes(unroll, create=L2ODM.create):
    def gradient(unroll, optimizer, keys):
        return unroll.segment(optimizer, unroll.start(optimizer, keys[0]), keys[1]).gradient

    specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(None, TASKS))
    function = jax.shard_map(
        gradient,
        mesh=training_mesh(1, cuts_coordinates=True),
        in_specs=specs,
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    arguments = unroll, create(jax.random.key(0)), jax.random.split(jax.random.key(1), (2, 1))
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("kind", "create", "floats"),
    [
        # per coordinate and step, the gradient, its sum over later points, and padded and cut copies of both
        (BlockwiseUnroll, L2ODM.create, 8),
        (BlockwiseUnroll, RNNProp.create, 8),
        # the gradient, and the state (21 numbers for L2O-Scale) from which a step is computed again
        (AutodiffUnroll, L2OScale.create, 2 * (1 + 21)),
    ],
)
def test_memory_grows_with_the_unroll_no_faster_than_gradients_and_states(kind, create, floats):
    problem = optimizee("mlp-digits")
    shorter, longer = (
        temporary_bytes(kind(problem, ObjectiveSettings(segment_length=steps)), create) for steps in (40, 80)
    )
    # the activations of one block of coordinates grow too, but are the same for any optimizee
    block = 40 * BLOCK_SIZE_CPU * 4 * 600 if kind is BlockwiseUnroll else 0
    assert longer - shorter <= 40 * 1510 * 4 * floats + block


def test_blocks_need_less_than_half_of_autodiffs_memory_on_a_larger_optimizee():
    random = np.random.default_rng(0)
    data = Dataset(random.integers(0, 256, (200, 28, 28), np.uint8), np.zeros(200, np.int32), 255.0)
    problem = MLP(data, (20,))
    assert 2 * temporary_bytes(BlockwiseUnroll(problem)) < temporary_bytes(AutodiffUnroll(problem))
