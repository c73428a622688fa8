import jax
from jax.sharding import PartitionSpec

from tutelage.optimizees import optimizee
from tutelage.optimizers import L2ODM
from tutelage.training.parallel import TASKS, training_mesh
from tutelage.training.unroll import AutodiffUnroll, BlockwiseUnroll


def temporary_bytes(unroll):
    def gradient(unroll, optimizer, keys):
        return unroll.segment(optimizer, unroll.start(optimizer, keys[0]), keys[1]).gradient

    specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(None, TASKS))
    function = jax.shard_map(
        gradient, mesh=training_mesh(1), in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    )
    arguments = unroll, L2ODM.create(jax.random.key(0)), jax.random.split(jax.random.key(1), (2, 1))
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_blocks_need_less_than_a_third_of_autodiffs_memory():
    problem = optimizee("mlp-digits")
    assert 3 * temporary_bytes(BlockwiseUnroll(problem)) < temporary_bytes(AutodiffUnroll(problem))
