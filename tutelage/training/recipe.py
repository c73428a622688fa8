"""How each learned optimizer of the paper is trained: what a new run takes where the user says nothing."""

from dataclasses import replace
from typing import Any

from .augmentation import Augmentation
from .config import TrainingConfig
from .technique import Technique, Variant, technique

# The authors' program starts the mean square at 1, as TensorFlow's RMSProp does.
L2O_SCALE_META_OPTIMIZER = "rmsprop:learning_rate=1e-6,decay=0.9,eps=1e-20,initial_scale=1"
# of 128 images: the 10,000 that the authors' program draws for a segment, less 16
L2O_SCALE_OBJECTIVE_BATCHES = 78
# its training optimizees start from Normal(0, 1), those of evaluation from σ = 0.01
L2O_SCALE_START = 100.0


def recipe(
    optimizer: str = "l2o-dm",
    technique_name: str = "cl-il",
    variant: Variant = "paper",
    *,
    unroll: int | tuple[int, ...] | None = None,
    validate_after: int | None = None,
    validate_every: int | None = None,
    teachers: tuple[str, ...] | None = None,
    imitation_ratio: float | None = None,
    **settings: Any,
) -> TrainingConfig:
    """The complete settings for a learned optimizer and technique; `settings` are fields to set otherwise.

    A learned optimizer that is not the paper's is trained as L2O-DM.

    Args:
        unroll: steps of an epoch's unroll, in place of the technique's: one number, also for validations, or for a
            curriculum those of its stages, of which each is validated after as many steps as the next one unrolls, and
            the last after its own.
        validate_after: steps of all validations, in place of the technique's or those of `unroll`.
        validate_every: epochs between validations, in place of the technique's. A fixed number of epochs stays, up to
            whole periods.
        teachers: hand-designed optimizers or taught ones, by name, in place of the technique's.
        imitation_ratio: probability that an epoch imitates, in place of the technique's.

    Raises:
        ValueError: an unknown technique or variant, or settings that make no sense.
    """
    taught = technique(technique_name, variant, optimizer)
    taught = _scheduled(taught, technique_name, unroll, validate_after, validate_every)
    taught = _taught_by(taught, technique_name, teachers, imitation_ratio)
    defaults: dict[str, Any] = {}
    if optimizer.startswith("l2o-scale"):
        defaults = {
            "meta_optimizer": L2O_SCALE_META_OPTIMIZER,
            "elementwise_clip": 1e4,
            "objective": "log",
            "num_validation": 5,
            "max_epochs": 100,
        }
        if variant == "as-released":
            defaults["objective_batches"] = L2O_SCALE_OBJECTIVE_BATCHES
            taught = replace(taught, augmentation=Augmentation(start_scale=L2O_SCALE_START))
    return TrainingConfig(taught, optimizer=optimizer, **(defaults | settings))


def _scheduled(
    taught: Technique,
    name: str,
    unroll: int | tuple[int, ...] | None,
    validate_after: int | None,
    validate_every: int | None,
) -> Technique:
    """The same with other lengths and periods, where given."""
    schedule = taught.schedule
    if unroll is not None:
        lengths = (unroll,) if isinstance(unroll, int) else unroll
        if taught.random_lengths:
            raise ValueError(f"{name} draws its unrolls: leave the unroll out, or take plain.")
        if len(schedule.unroll_lengths) > 1 and len(lengths) < 2:
            raise ValueError(f"{name} lengthens the unroll: give the lengths of two stages or more, or take plain.")
        if len(schedule.unroll_lengths) == 1 and len(lengths) != 1:
            raise ValueError(f"{name} has unrolls of one length: give just one, or take cl, with stages of several.")
        schedule = replace(schedule, unroll_lengths=lengths, validation_lengths=(*lengths[1:], lengths[-1]))
    if validate_after is not None:
        schedule = schedule.validated_after(validate_after)
    if validate_every is not None:
        schedule = schedule.validated_every(validate_every)
    return replace(taught, schedule=schedule)


def _taught_by(
    taught: Technique, name: str, teachers: tuple[str, ...] | None, imitation_ratio: float | None
) -> Technique:
    """The same with other teachers and another imitation ratio, where given."""
    imitation, self_improving = taught.imitation, taught.self_improving
    if teachers is not None:
        if not (imitation or self_improving):
            raise ValueError(f"{name} has no teachers: leave them out, or add -il or -self-improving to it.")
        imitation = imitation and replace(imitation, teachers=teachers)
        self_improving = self_improving and replace(self_improving, teachers=teachers)
    if imitation_ratio is not None:
        if not imitation:
            raise ValueError(f"{name} does not imitate: leave the imitation ratio out, or add -il to it.")
        imitation = replace(imitation, ratios=(imitation_ratio,))
    return replace(taught, imitation=imitation, self_improving=self_improving)
