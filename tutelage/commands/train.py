"""tutelage train."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ..interop import load_with_architecture
from ..training import Augmentation, Event, TrainingConfig, recipe, train
from ..training.config import Estimator, Objective
from ..training.taken import taught_with
from ..training.technique import Variant
from ..weights import find_weights
from .interrupted import Interrupted
from .terminal import Lines, console, progress_bar, show_training


@dataclass(frozen=True)
class Train:
    """Meta-train a learned optimizer. Interrupt with Ctrl-C and go on with --resume."""

    run_directory: Annotated[Positional[Path], arg(name="run", metavar="RUN")]
    """Folder of the run: new, or with --resume an existing one."""
    resume: bool = False
    """Go on with an interrupted run; all settings are its own."""
    like: str | None = None
    """Take the settings of a taught optimizer, but those given: a name in the zoo, a .safetensors file or a run."""
    optimizer: str | None = None
    """Learned optimizer to train, by name or as package.module:factory (default l2o-dm, or that of the weights)."""
    initial_weights: str | None = None
    """Begin with these, not random ones: a name in the zoo, a run, or a file of weights, also published ones."""
    technique: str | None = None
    """plain, augmented, cl or random-lengths, with -il, -self-improving or both added (default cl-il)."""
    unroll: tuple[int, ...] | None = None
    """Steps of each epoch's unroll, of cl those of its stages (default: the technique's; plain 100, augmented 1000)."""
    teachers: tuple[str, ...] | None = None
    """Whom -il and -self-improving learn from, by name (default Adam, SGD and Adagrad): also taught optimizers."""
    imitation_ratio: float | None = None
    """Probability that an epoch of -il imitates (default 0.3)."""
    variant: Variant | None = None
    """Details as in the paper (default) or as in the authors' released program."""
    on: tuple[str, ...] | None = None
    """Optimizees to train on, by name or as package.module:factory; small-problems is a group (default mlp-orig)."""
    seed: int | None = None
    """Of all randomness (default 0)."""
    num_tasks: int | None = None
    """Optimizees trained on at once (default 1)."""
    meta_optimizer: str | None = None
    """For the learned optimizer's weights (default adam:learning_rate=0.001; L2O-Scale has its own)."""
    gradient_clip: float | None = None
    """Largest global norm of the meta-gradient (default: no clipping)."""
    elementwise_clip: float | None = None
    """Largest absolute value of the meta-gradient's elements (default: no clipping; L2O-Scale 10000)."""
    objective: Objective | None = None
    """Sum of the losses, or mean of log losses relative to the initial one (default sum; L2O-Scale log)."""
    log_epsilon: float | None = None
    """Relative losses below this count as this in the objective log and in validations on several (default 1e-6)."""
    objective_batches: int | None = None
    """Batches that each loss of the objective is a mean over (default: that of the step alone)."""
    segment_length: int | None = None
    """Steps between two steps of the meta-optimizer; an unroll is a whole number of them (default 20)."""
    estimator: Estimator | None = None
    """Of the meta-gradient: backpropagation (default), or (persistent) evolution strategies."""
    perturbation: float | None = None
    """Standard deviation of the noise on the weights for es and pes (default 0.01)."""
    random_scaling: float | None = None
    """Augmentation: scale each coordinate by exp(u), u uniform up to this (default 0; RNNprop's authors take 3)."""
    convex_term: bool = False
    """Augmentation: add a convex function of 20 further coordinates."""
    start_scale: float | None = None
    """Augmentation: factor of the optimizee's start (default 1)."""
    second_derivatives: bool = False
    """Differentiate through the optimizee's gradient too; slower."""
    num_validation: int | None = None
    """Fresh optimizees that a validation averages over (default 20; L2O-Scale 5)."""
    validate_on: tuple[str, ...] | None = None
    """Optimizees that validations are on (default: those of --on)."""
    validate_after: int | None = None
    """Steps of every validation (default: the technique's, which grow with the unroll)."""
    validate_every: int | None = None
    """Epochs between validations (default: L2O-DM 100, RNNprop 10, L2O-Scale 1)."""
    max_epochs: int | None = None
    """Stop after this many epochs (default: when the technique says so; L2O-Scale 100)."""
    data_dir: Path | None = None
    """Folder to look for data in first."""
    json: bool = False
    """Print every logged row as a line of JSON instead of a progress bar."""

    def config(self) -> TrainingConfig | None:
        """The settings that the options say; None with --resume, where they are the run's own."""
        augmentation = _given(self, _field_names(Augmentation))
        settings = _given(self, _field_names(TrainingConfig))
        optimizer, name = settings.pop("optimizer", None), settings.pop("technique", "cl-il")
        adapted = _given(self, ["unroll", "validate_after", "validate_every", "teachers", "imitation_ratio"])
        method = self.optimizer or self.technique or self.variant or adapted
        if self.resume:
            if method or settings or augmentation or self.like:
                raise ValueError("--resume says what all settings are: leave the others out.")
            return None
        if self.like:
            if method:
                raise ValueError(
                    "--like says what is taught, and how: leave --optimizer, --technique, --teachers, "
                    "--imitation-ratio, --variant, --unroll, --validate-after and --validate-every out."
                )
            config = replace(taught_with(find_weights(self.like)), **settings)
        else:
            if optimizer is None:
                optimizer = load_with_architecture(self.initial_weights)[0] if self.initial_weights else "l2o-dm"
            config = recipe(optimizer, name, self.variant or "paper", **adapted, **settings)
        augmentation = replace(config.technique.augmentation, **augmentation)
        return replace(config, technique=replace(config.technique, augmentation=augmentation))

    def run(self) -> None:
        config = self.config()
        with progress_bar(self.json) as bar:
            task = bar.add_task("compiling and validating", total=None, detail="")
            show = show_training(bar, task, Lines(self.json))

            def report(event: Event) -> None:
                if self.json:
                    print(json.dumps(event.row), flush=True)
                show(event)

            try:
                train(self.run_directory, config, resume=self.resume, data_dir=self.data_dir, report=report)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"Interrupted; nothing is lost. Go on with: tutelage train {self.run_directory} --resume"
                ) from None
        console.print(f"Finished: the best weights are in {self.run_directory / 'optimizer.safetensors'}.")


def _field_names(settings: type) -> list[str]:
    return [field.name for field in fields(settings)]


def _given(command: Train, names: list[str]) -> dict[str, Any]:
    """Those of these options that there are and that were given; those left out are None or False."""
    values = {name: getattr(command, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None and value is not False}
