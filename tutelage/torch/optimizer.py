"""A taught optimizer as users of PyTorch know optimizers."""

import warnings
from collections.abc import Callable
from operator import is_
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .architectures import load_rule
from .rule import Batch

_PROBLEM = "problem"
_LEARNING_RATE = 0.01
"""What is no more than this was meant as one."""


class LearnedOptimizer(torch.optim.Optimizer):
    """A taught optimizer, to be used as `torch.optim.AdamW` is.

    All parameters with a gradient are stepped together as one batch of coordinates. The state of a parameter is
    `coordinates`, [rows, size], and `tensor`, [rows]. In `state["problem"]` is that of all of them together: `memory`,
    and the number of steps `skipped` because a gradient was not finite. Such a step changes nothing and warns.
    """

    def __init__(
        self,
        params: ParamsT,
        name_or_path: str | Path,
        *,
        num_steps: int | None = None,
        lr: float = 1.0,
        state_dtype: torch.dtype = torch.float32,
    ):
        """Begin to optimize `params`.

        Args:
            params: as other optimizers of PyTorch take them, groups included.
            name_or_path: a name in the zoo, a run directory or a `.safetensors` file.
            num_steps: how many steps you will take; for those that follow a schedule, as `tutelage-2` does, and only
                those.
            lr: factor of the updates, per group; here it is no learning rate, and 1 is what was taught.
            state_dtype: of the state of coordinates between steps; `torch.bfloat16` halves its memory. Steps compute
                in single precision.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: an unknown name, what is there is damaged or something else, a schedule without a number of
                steps or the other way round, parameters that are none, an `lr` below 0, or a `state_dtype` that is not
                floating-point.
        """
        if not (isinstance(state_dtype, torch.dtype) and state_dtype.is_floating_point):
            raise ValueError(f"state_dtype is a floating-point type, as torch.bfloat16 is one, not {state_dtype!r}.")
        self.rule = load_rule(name_or_path, num_steps)
        self.state_dtype = state_dtype
        self._batch: Batch | None = None
        self._gathered: list[Tensor | None] = []
        super().__init__(params, {"lr": lr})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rule": self.rule, "state_dtype": self.state_dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._batch = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups.pop()
        for p in group["params"]:
            if not p.is_floating_point():
                raise ValueError(f"Only floating-point parameters can be optimized, not {p.dtype}.")
        if not group["lr"] >= 0:
            raise ValueError(f"lr is a factor of the updates, 0 or more, not {group['lr']}.")
        if 0 < group["lr"] <= _LEARNING_RATE:
            warnings.warn(
                f"lr is no learning rate here but a factor of what was taught, so that {group['lr']} leaves little of "
                "the updates: leave it out.",
                stacklevel=2,
            )
        self.param_groups.append(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: it is of other parameters, or of another optimizer; nothing is changed.
        """
        wanted = [p for group in self.param_groups for p in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        rows = sum(self.rule.row_sizes)
        if len(wanted) == len(numbers):
            for p, number in zip(wanted, numbers, strict=True):
                entry = state_dict["state"].get(number)
                if entry and getattr(entry.get("coordinates"), "shape", None) != (rows, p.numel()):
                    raise ValueError("This state is of other parameters or another optimizer: nothing was loaded.")
        # PyTorch would cast the state to the type of the parameter, so only the groups are left to it.
        super().load_state_dict({**state_dict, "state": {}})
        for p, number in zip(wanted, numbers, strict=True):
            if number in state_dict["state"]:
                self.state[p] = dict(state_dict["state"][number])
        self._of_all().update(state_dict["state"].get(_PROBLEM, {}))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters by their gradients.

        Args:
            closure: computes the gradients anew and returns the loss, which `step` then returns.

        Raises:
            RuntimeError: a sparse gradient, or parameters on several devices; nothing is changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = self._with_gradients()
        if not params:
            return loss
        gradients = torch.cat([p.grad.reshape(-1) for p in params if p.grad is not None]).float()
        batch = self._gather(params)
        if not torch.stack(torch.aminmax(gradients)).isfinite().all():  # a norm or isfinite of all is slower
            self._of_all()["skipped"] += 1
            warnings.warn("A gradient is not finite: this step is left out, nothing changes.", stacklevel=2)
            return loss
        moves = dict(zip(params, self.rule.step(gradients, batch).split(batch.sizes), strict=True))
        for group in self.param_groups:
            moved = [p for p in group["params"] if p in moves]
            if moved:
                updates = [moves[p].view(p.shape).to(p.dtype) for p in moved]
                torch._foreach_mul_(updates, group["lr"])  # pyright: ignore[reportPrivateImportUsage]
                torch._foreach_add_(moved, updates)  # pyright: ignore[reportPrivateImportUsage]
        return loss

    def _with_gradients(self) -> list[Tensor]:
        """The parameters to be stepped now."""
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None and p.numel()]
        if any(p.grad.is_sparse for p in params):
            raise RuntimeError("A LearnedOptimizer takes no sparse gradients: build the layer with sparse=False.")
        if len({p.device for p in params}) > 1:
            raise RuntimeError("A LearnedOptimizer takes parameters on one device, and these are on several.")
        return params

    def _of_all(self) -> dict[str, Any]:
        """The state of all parameters together."""
        return cast(dict[Any, Any], self.state)[_PROBLEM]

    def _memory(self, params: list[Tensor]) -> list[Tensor | None]:
        """Everything in `state` that the batch of these parameters is made of; None for what is not there yet."""
        entries = [self.state[p] for p in params]
        of_each = (entry.get(name) for entry in entries for name in ("coordinates", "tensor"))
        return [self._of_all().get("memory"), *of_each]

    def _gather(self, params: list[Tensor]) -> Batch:
        """The batch of these parameters, of whose memory the entries of `state` are views.

        It is put together anew where they no longer are: others have gradients now, or a state was loaded.
        """
        memory = self._memory(params)
        if self._batch is not None and len(memory) == len(self._gathered) and all(map(is_, memory, self._gathered)):
            return self._batch
        problem, entries = self._of_all(), [self.state[p] for p in params]
        device = params[0].device
        self.rule.to(device)
        numbers = {p: number for number, p in enumerate(p for group in self.param_groups for p in group["params"])}
        for p, entry in zip(params, entries, strict=True):
            if not entry:
                coordinates = self.rule.start_coordinates(p.numel(), numbers[p])
                entry.update(coordinates=coordinates, tensor=self.rule.start_tensor())
        if not problem:
            problem.update(memory=self.rule.start_problem(), skipped=0)
        batch = Batch(
            [p.numel() for p in params],
            [p.ndim for p in params],
            torch.cat([entry["coordinates"].to(device, self.state_dtype) for entry in entries], dim=1),
            torch.stack([entry["tensor"].to(device, torch.float32) for entry in entries], dim=1),
            problem["memory"].to(device, torch.float32, copy=True),
            self.rule.block_size(device),
        )
        problem["memory"] = batch.problem
        views = zip(entries, batch.coordinates.split(batch.sizes, dim=1), batch.tensors.unbind(dim=1), strict=True)
        for entry, coordinates, tensor in views:
            entry.update(coordinates=coordinates, tensor=tensor)
        self._batch, self._gathered = batch, self._memory(params)
        return batch
