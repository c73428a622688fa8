"""The entry point of the command line."""

import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

from . import __doc__ as _SUMMARY
from . import __version__
from .commands import Demo, Evaluate, Import, Inspect, Interrupted, Reproduce, Train, Tune, Zoo
from .commands.interrupted import interruptible
from .commands.terminal import console
from .experiments import PartsFailedError
from .optimizees import DataError

_DESCRIPTION = f"{_SUMMARY} --version prints the version."

Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Zoo, subcommand("zoo")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Import, subcommand("import")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if it failed or was interrupted, 2 if it was asked for wrongly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal has no ±
    # as with python -m, so that package.module:factory finds modules in the current folder
    sys.path.insert(0, "")
    if (sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        print(f"tutelage {__version__}")
        return 0
    command: Callable[[], Any] = tyro.cli(Command, prog="tutelage", description=_DESCRIPTION, args=arguments).run
    try:
        with interruptible():
            command()
    except (ValueError, FileExistsError) as error:
        console.print(f"tutelage: {error}", soft_wrap=True)
        return 2
    except (DataError, OSError, PartsFailedError, Interrupted) as error:
        console.print(f"tutelage: {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("tutelage: interrupted.")
        return 1
    return 0
