"""tutelage zoo."""

from dataclasses import dataclass
from typing import Annotated

import polars as pl
from tyro.conf import Positional, arg

from ..evaluation import summarize_windows
from ..naming import unknown_name
from ..zoo import RESULTS, zoo_card, zoo_names
from .terminal import print_ranking


@dataclass(frozen=True)
class Zoo:
    """What ships: taught optimizers and their results, or the card of one."""

    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Print the card of this one."""
    json: bool = False
    """Print the results as JSON."""

    def run(self) -> None:
        if self.name is None:
            print_ranking(summarize_windows(pl.read_parquet(RESULTS)), self.json)
        elif self.name in zoo_names():
            print(zoo_card(self.name).read_text(encoding="utf-8"))
        else:
            raise unknown_name("optimizer in the zoo", self.name, zoo_names())
