"""Experiments as files: the paper's and what goes beyond it in `figures/`, and one's own."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..naming import unknown_name
from ..optimizees import expand
from ..settings import check_type
from ..training import TrainingConfig, recipe
from ..training.taken import taught_with
from ..training.technique import Variant
from ..weights import find_weights
from .experiment import Claim, Experiment, Measure

FIGURES = files(__name__.rpartition(".")[0]) / "figures"
SUFFIX = ".toml"
ALL = "all"
"""Stands for every experiment there is."""
_Names = str | list[str]
_KEYS = {
    "title": str,
    "paper": str,
    "on": _Names,
    "taught": dict,
    "tuned": dict[str, str],
    "published": dict[str, dict[str, float]],
    "claims": list,
}
_CLAIM_KEYS = {"says": str, "better": str, "worse": _Names, "measure": Measure, "factor": float, "on": _Names}
_SETTINGS = {field.name: field.type for field in fields(TrainingConfig) if field.name not in ("optimizer", "technique")}
_SETTINGS |= {"on": _Names, "validate_on": _Names}
_LIKE_KEYS = _SETTINGS | {"like": str}
_TAUGHT_KEYS = _SETTINGS | {
    "optimizer": str,
    "technique": str,
    "variant": Variant,
    "teachers": _Names,
    "imitation_ratio": float,
    "unroll": int | list[int],
    "validate_after": int,
    "validate_every": int,
    "until": list[int],
}


def experiment_names() -> tuple[str, ...]:
    """Of all experiments there are."""
    return tuple(sorted(Path(file.name).stem for file in FIGURES.iterdir() if file.name.endswith(SUFFIX)))


def load_experiment(name: str) -> Experiment:
    """The experiment called `name`, or of one's own file, if it ends in `.toml`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is none of that name, or the file does not describe one.
    """
    if not name.endswith(SUFFIX):
        if name not in experiment_names():
            raise unknown_name("experiment", name, experiment_names())
        return _parse(name, (FIGURES / f"{name}{SUFFIX}").read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.stem in (*experiment_names(), ALL):
        raise ValueError(f"{path}: {path.stem} is a name of ours, whose results go to the same place; rename yours.")
    try:
        return _parse(path.stem, path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(name: str, text: str) -> Experiment:
    table = tomllib.loads(text)
    _check_keys("an experiment", table, _KEYS, required=("title", "on", "taught"))
    taught: dict[str, TrainingConfig] = {}
    continues: dict[str, str] = {}
    for taught_name, settings in table.pop("taught").items():
        configs, before = _taught(taught_name, settings), None
        taught |= configs
        for step in configs:
            if before:
                continues[step] = before
            before = step
    claims = tuple(_claim(claim) for claim in table.pop("claims", ()))
    on = expand(_several(table.pop("on")))
    return Experiment(name, taught=taught, continues=continues, claims=claims, on=on, **table)


def _claim(claim: Any) -> Claim:
    _check_keys("a claim", claim, _CLAIM_KEYS, required=("says", "better", "worse"))
    claim |= {"worse": _several(claim["worse"]), "on": expand(_several(claim.get("on", [])))}
    return Claim(**claim)


def _taught(name: str, settings: Any) -> dict[str, TrainingConfig]:
    """Training runs by name: one like that of a taught optimizer, or what `_configs` makes of the settings."""
    like = isinstance(settings, dict) and "like" in settings
    keys, required = (_LIKE_KEYS, ()) if like else (_TAUGHT_KEYS, ("optimizer", "technique"))
    _check_keys(f"the training of {name}", settings, keys, required)
    settings |= {key: _several(settings[key]) for key in ("on", "validate_on", "teachers", "unroll") if key in settings}
    if not like:
        return _configs(name, **settings)
    return {name: replace(taught_with(find_weights(settings.pop("like"))), **settings)}


def _configs(
    name: str,
    optimizer: str,
    technique: str,
    until: list[int] | None = None,
    **settings: Any,
) -> dict[str, TrainingConfig]:
    """The run called `name`; or, with numbers of epochs in `until`, one for each, that goes on from the one before."""
    config = recipe(optimizer, technique, **settings)
    if until is None:
        return {name: config}
    if not until or until != sorted(set(until)):
        raise ValueError(f"until of {name} is rising numbers of epochs, at least one, not {until}.")
    return {f"{name}-{epochs}": replace(config, max_epochs=epochs) for epochs in until}


def _several(given: Any) -> tuple[Any, ...]:
    """One value or a list of them."""
    return tuple(given) if isinstance(given, list) else (given,)


def _check_keys(where: str, table: Any, known: Mapping[str, Any], required: Collection[str]) -> None:
    """Nothing, if it is a table of settings that are known and of their types, and the required ones are there."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} is a table of settings, not {table!r}.")
    for key, value in table.items():
        if key not in known:
            raise unknown_name(f"setting of {where} called", key, known)
        check_type(f"{key} of {where}", value, known[key])
    for key in required:
        if key not in table:
            raise ValueError(f"{where} needs {key}.")
