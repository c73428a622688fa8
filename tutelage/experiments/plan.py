"""From an experiment and a scale to the parts that it consists of."""

from dataclasses import dataclass

from .experiment import Experiment, with_steps
from .parts import Baseline, Judge, Part, Teach
from .scale import Scale


@dataclass(frozen=True)
class Plan:
    """The parts of an experiment. Experiments may have parts in common, which are then equal."""

    experiment: Experiment
    scale: Scale
    teach: tuple[Teach, ...]
    judge: tuple[Judge, ...]
    baselines: tuple[Baseline, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, what is needed before what needs it."""
        return (*self.teach, *self.judge, *self.baselines)


def make_plan(experiment: Experiment, scale: Scale) -> Plan:
    """The parts of the experiment at a scale."""
    teach: dict[str, Teach] = {}
    for name, config in experiment.taught.items():
        before = teach.get(experiment.continues.get(name, ""))
        teach[name] = Teach(name, scale.training(config), before)
    on = scale.optimizees(experiment.on)
    judge = [
        Judge(taught, problem, scale.steps_on(problem), scale.seeds_on(problem))
        for problem in on
        for taught in teach.values()
    ]
    baselines = [
        Baseline(
            name,
            with_steps(optimizer, scale.steps_on(problem)),
            problem,
            scale.steps_on(problem),
            scale.seeds_on(problem),
            scale.tuning_seeds_on(problem),
        )
        for problem in on
        for name, optimizer in experiment.tuned.items()
    ]
    return Plan(experiment, scale, tuple(teach.values()), tuple(judge), tuple(baselines))
