"""The commands of the command line: settings in, work done elsewhere, tables out."""

from .demo import Demo
from .import_ import Import
from .inspect import Inspect
from .interrupted import Interrupted
from .measure import Evaluate, Tune
from .reproduce import Reproduce
from .train import Train
from .zoo import Zoo

__all__ = ["Demo", "Evaluate", "Import", "Inspect", "Interrupted", "Reproduce", "Train", "Tune", "Zoo"]
