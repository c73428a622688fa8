import copy
import io
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tutelage.interop import load_learned
from tutelage.optimizers import ARCHITECTURES, AveragedMomentum, L2OScale, create_learned, save_weights
from tutelage.torch import LearnedOptimizer
from tutelage.torch.rule import Batch
from tutelage.weights import find_weights
from tutelage.zoo import zoo_names

ONE = "rnnprop-cl-il"
SHAPES = [(20, 12), (12,), (), (5, 3, 2, 2)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[*ARCHITECTURES])
def weights(request, tmp_path):
    """A file for each architecture, of random weights."""
    path = tmp_path / "weights.safetensors"
    learned = create_learned(request.param, jax.random.key(1))
    save_weights(path, learned, request.param, {})
    return path, learned


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in ((6, 4), (4,), ())]


def begin(params, name, **settings):
    """A taught optimizer, for 1,000 steps if it has to know."""
    return LearnedOptimizer(params, name, num_steps=1_000 if load_learned(name).scheduled else None, **settings)


def closure(params, optimizer):
    def loss():
        optimizer.zero_grad()
        total = sum(((p.float() - 0.3) ** 2 * torch.arange(1, p.numel() + 1).view(p.shape)).sum() for p in params)
        total.backward()
        return total.detach()

    return loss


def train(params, optimizer, steps=5):
    return [float(optimizer.step(closure(params, optimizer))) for _ in range(steps)]


def values(params):
    return [p.detach().clone() for p in params]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def begun_at(optimizer, params, log_learning_rates):
    """L2O-Scale's initial state, with learning rates given."""
    state = optimizer.state_dict()
    rates = torch.from_numpy(log_learning_rates).split([p.numel() for p in params])
    for number, rate in enumerate(rates):
        coordinates = optimizer.rule.start_coordinates(len(rate), 0)
        coordinates[10] = rate
        state["state"][number] = {"coordinates": coordinates, "tensor": optimizer.rule.start_tensor()}
    return state


def test_the_same_numbers_as_jax(weights, monkeypatch):
    monkeypatch.setattr("tutelage.torch.rule.Rule.block_size", lambda self, device: 100)  # several of them
    monkeypatch.setattr("tutelage.torch.rule._PIECE", 25)
    path, learned = weights
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    optimizer = begin(params, path)
    learned = learned.for_steps(1_000)
    state = learned.init([jnp.zeros(shape) for shape in SHAPES])
    if isinstance(learned, L2OScale):  # it begins at random
        rates = np.array(state.coordinates.log_learning_rate)
        optimizer.load_state_dict(begun_at(optimizer, params, rates))
    draw = np.random.default_rng(0)
    steady = [0.1 * draw.normal(size=shape) for shape in SHAPES]
    waves = np.cos(np.arange(1_000) / 50)
    grads = [np.multiply.outer(waves, g) + 0.05 * draw.normal(size=(1_000, *g.shape)) for g in steady]
    grads = [np.asarray(g, np.float32) for g in grads]
    # as of units that die, for as long as no moment, of which one forgets faster, is smaller than single precision goes
    grads[0][20 : 500 if isinstance(learned, AveragedMomentum) else 700, :5] = 0
    grads[1][:, :4] = 0  # and of such that never lived

    def step(loop, grads):
        moved, state = loop
        updates, state = learned.update(grads, state)
        moved = jax.tree.map(jnp.add, moved, updates)
        return (moved, state), moved

    start = [jnp.zeros(shape) for shape in SHAPES], state
    theirs = jax.jit(lambda start, grads: jax.lax.scan(step, start, grads)[1])(start, [jnp.asarray(g) for g in grads])
    for number in range(1_000):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(np.array(g[number]))
        optimizer.step()
        if number in (0, 99, 999):
            ours = np.concatenate([p.detach().numpy().reshape(-1) for p in params])
            expected = np.concatenate([np.asarray(moved[number]).reshape(-1) for moved in theirs])
            assert np.linalg.norm(ours - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("short", [0, 1_000])
def test_blocks_spread_and_sum_what_is_of_parameters(short, monkeypatch):
    monkeypatch.setattr("tutelage.torch.rule._SHORT", short)  # there are two ways to spread
    sizes, x = [5, 1, 250, 44], torch.arange(300.0)
    batch = Batch(sizes, [2, 1, 2, 0], x[None], torch.zeros(0, 4), torch.zeros(0), 100)
    numbers = torch.arange(4)
    owner = numbers.repeat_interleave(torch.tensor(sizes))
    sums = torch.zeros(1, 4)
    for block in batch.blocks:
        here = owner[block.coordinates]
        assert len(here) == 100
        assert_equal(block.spread(numbers[block.tensors]).expand(100), here)
        assert_equal(block.spread(numbers[None, block.tensors]).expand(1, 100), here[None])
        sums[:, block.tensors] += block.sum(batch.coordinates[:, block.coordinates])
    assert len(batch.blocks) == 3
    assert sums.tolist() == [[part.sum().item() for part in x.split(sizes)]]
    chosen, parameter = batch.in_vectors
    assert chosen.tolist() == [5, *range(256, 300)]
    assert_equal(parameter, owner[chosen])


@pytest.mark.parametrize("name", ["rnnprop-cl-il", "l2o-scale", "tutelage-1"])
def test_without_jax_and_compiled(name):
    program = """
import sys
for name in ("jax", "jaxlib", "equinox", "optax"):
    sys.modules[name] = None
import torch, tutelage
ends = []
for wrap in (lambda step: step, lambda step: torch.compile(step, backend="eager")):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = tutelage.torch.LearnedOptimizer([weight], sys.argv[1])
    step = wrap(optimizer.step)
    for _ in range(4):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        step()
    ends.append(weight.detach())
assert (ends[0] < 1).all()
torch.testing.assert_close(*ends)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, name], check=True)


@pytest.mark.parametrize("name", zoo_names())
def test_all_of_the_zoo_lower_the_loss(name):
    params = parameters()
    losses = train(params, begin(params, name), steps=100)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_from_a_saved_state_bit_for_bit(weights, dtype):
    path, _ = weights
    params = parameters(dtype)
    optimizer = begin(params, path)
    train(params, optimizer)
    file = io.BytesIO()
    torch.save({"params": values(params), "optimizer": optimizer.state_dict()}, file)
    train(params, optimizer)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = [torch.nn.Parameter(p) for p in saved["params"]]
    resumed = begin(again, path)
    resumed.load_state_dict(saved["optimizer"])
    train(again, resumed)
    assert_equal(again, params)
    assert all(resumed.state[p]["coordinates"].dtype == torch.float32 for p in again)


def test_one_with_a_schedule_stands_still_when_it_is_over(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, create_learned("scheduled-momentum", jax.random.key(1)), "scheduled-momentum", {})
    params = parameters()
    with pytest.raises(ValueError, match="say how many steps"):
        LearnedOptimizer(params, path)
    with pytest.raises(ValueError, match="1 or more"):
        LearnedOptimizer(params, path, num_steps=0)
    optimizer = LearnedOptimizer(params, path, num_steps=5)
    losses = train(params, optimizer, steps=8)
    assert losses[4] < losses[3]
    assert losses[5] == losses[6] == losses[7]


def test_copies_and_pickles_go_on_alike(weights):
    path, _ = weights
    params = parameters()
    optimizer = begin(params, path)
    train(params, optimizer)
    copied = copy.deepcopy(optimizer)
    pickled = pickle.loads(pickle.dumps(optimizer))
    train(params, optimizer)
    for other in copied, pickled:
        theirs = other.param_groups[0]["params"]
        train(theirs, other)
        assert_equal(theirs, params)


def test_lr_is_a_factor_per_group_that_schedulers_change():
    def first_moves(lr):
        params = parameters()
        before = values(params)
        optimizer = LearnedOptimizer([{"params": params[:1]}, {"params": params[1:], "lr": lr}], ONE)
        train(params, optimizer, steps=1)
        return [p.detach() - b for p, b in zip(params, before, strict=True)]

    for part, (one, half) in enumerate(zip(first_moves(1.0), first_moves(0.5), strict=True)):
        torch.testing.assert_close(half, (one, 0.5 * one)[part > 0], rtol=1e-3, atol=1e-7)
    assert_equal(first_moves(torch.tensor(0.5)), first_moves(0.5))

    params = parameters()
    optimizer = LearnedOptimizer(params, ONE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 2))
    for _ in range(3):
        before = values(params)
        train(params, optimizer, steps=1)
        schedule.step()
    assert_equal(params, before)
    assert schedule.get_last_lr() == [0.0]


def test_lr_that_looks_like_a_learning_rate_is_warned_of_and_one_below_0_refused():
    params = parameters()
    with pytest.warns(UserWarning, match="no learning rate here"):
        optimizer = LearnedOptimizer(params[:1], ONE, lr=1e-3)
    with pytest.warns(UserWarning, match="no learning rate here"):
        optimizer.add_param_group({"params": params[1:2], "lr": torch.tensor(1e-2)})
    for lr in (-0.5, float("nan")):
        with pytest.raises(ValueError, match="0 or more, not"):
            optimizer.add_param_group({"params": params[2:], "lr": lr})
    optimizer.add_param_group({"params": params[2:], "lr": 0.0})
    before = values(params)
    train(params, optimizer, steps=1)
    assert_equal(params[2:], before[2:])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, len(params) - 2]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("dtype", [torch.int32, "bfloat16"])
def test_a_state_of_another_kind_than_floating_point_is_refused(dtype):
    with pytest.raises(ValueError, match="state_dtype is a floating-point type"):
        LearnedOptimizer(parameters(), ONE, state_dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, None), (torch.float32, "meta")], ids=["double precision", "another device"]
)
def test_defaults_of_pytorch_change_nothing(weights, dtype, device):
    path, _ = weights
    params, others = parameters(), parameters()
    gradients = [torch.full_like(p, 0.3) for p in params]

    def train(params):
        optimizer = begin(params, path)
        for _ in range(3):
            for p, gradient in zip(params, gradients, strict=True):
                p.grad = gradient
            optimizer.step()

    train(params)
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)  # nothing can be computed on "meta"
    try:
        train(others)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert_equal(others, params)


def test_parameters_without_gradient_are_skipped_and_later_ones_join(weights):
    path, _ = weights
    params = parameters()
    optimizer = begin(params[:2], path)
    params[1].requires_grad_(False)
    before = values(params)
    train(params, optimizer, steps=3)
    assert_equal(params[1:], before[1:])
    assert params[1] not in optimizer.state

    params[1].requires_grad_(True)
    optimizer.add_param_group({"params": [params[2]], "lr": 0.5})
    memory = optimizer.state[params[0]]["coordinates"].clone()
    train(params, optimizer, steps=1)
    assert not torch.equal(optimizer.state[params[0]]["coordinates"], memory)
    assert all(not torch.equal(a, b) for a, b in zip(params, before, strict=True))
    optimizer.zero_grad()
    after = values(params)
    optimizer.step()
    assert_equal(params, after)


def test_a_gradient_that_is_not_finite_changes_nothing(weights):
    path, _ = weights
    params = parameters()
    optimizer = begin(params, path)
    train(params, optimizer)
    before, state = values(params), copy.deepcopy(optimizer.state_dict()["state"])
    for bad in torch.nan, torch.inf, -torch.inf:
        params[0].grad[2, 1] = bad
        with pytest.warns(UserWarning, match="not finite"):
            optimizer.step()
    assert_equal(params, before)
    after = optimizer.state_dict()["state"]
    assert after["problem"]["skipped"] == 3
    assert_equal(
        [after[0]["coordinates"], after["problem"]["memory"]], [state[0]["coordinates"], state["problem"]["memory"]]
    )


def test_gradient_scaler():
    params = parameters()
    optimizer = LearnedOptimizer(params, ONE)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    expected = parameters()
    plain = LearnedOptimizer(expected, ONE)
    for step in range(4):
        loss = sum(((p - 0.3) ** 2).sum() for p in params)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if step == 2:
            params[0].grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        if step != 2:
            plain.zero_grad()
            sum(((p - 0.3) ** 2).sum() for p in expected).backward()
            plain.step()
    torch.testing.assert_close(params, expected)
    assert scaler.get_scale() == 2.0**9


def test_state_in_bfloat16_takes_half_and_ends_near(weights):
    path, _ = weights
    params, full = parameters(), parameters()
    optimizer = begin(params, path, state_dtype=torch.bfloat16)
    train(params, optimizer, steps=20)
    exact = begin(full, path)
    train(full, exact, steps=20)
    half, whole = optimizer.state[params[0]]["coordinates"], exact.state[full[0]]["coordinates"]
    assert 2 * half.nbytes == whole.nbytes
    start = parameters()[0]
    assert (params[0] - full[0]).norm() < 0.1 * (full[0] - start).norm()


def test_what_cannot_be_optimized_is_refused():
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = LearnedOptimizer(embedding.parameters(), ONE)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    assert not optimizer.state_dict()["state"]
    with pytest.raises(ValueError, match="floating-point"):
        LearnedOptimizer([torch.zeros(2, dtype=torch.complex64)], ONE)


def test_a_state_of_something_else_is_refused():
    params = parameters()
    optimizer = LearnedOptimizer(params, ONE)
    train(params, optimizer)
    memory = values([optimizer.state[p]["coordinates"] for p in params])
    for others, name in (params, "l2o-dm-cl-il"), (params[:2], ONE), (params[::-1], ONE):
        other = LearnedOptimizer(others, name)
        train(others, other, steps=1)
        with pytest.raises(ValueError, match=r"nothing was loaded|parameter group"):
            optimizer.load_state_dict(other.state_dict())
        assert_equal([optimizer.state[p]["coordinates"] for p in params], memory)


def test_weights_that_will_not_do(tmp_path):
    params = parameters()
    with pytest.raises(ValueError, match="did you mean rnnprop"):
        LearnedOptimizer(params, "rnnprob")
    with pytest.raises(ValueError, match="rnnprop-cl-il follows no schedule"):
        LearnedOptimizer(params, ONE, num_steps=10)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        LearnedOptimizer(params, tmp_path / "none.safetensors")
    whole = find_weights(ONE).read_bytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged"):
        LearnedOptimizer(params, path)
    save_weights(path, create_learned("rnnprop", jax.random.key(0)), "l2o-dm", {})
    with pytest.raises(ValueError, match="not those of"):
        LearnedOptimizer(params, path)
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="tutelage import"):
        LearnedOptimizer(params, tmp_path / "x.npz")
    save_weights(path, create_learned("l2o-dm", jax.random.key(0)), "mine:Rule", {})
    with pytest.raises(ValueError, match="in JAX alone"):
        LearnedOptimizer(params, path)
