"""tutelage inspect."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..files import write_text
from ..inspection import inspect
from ..interop import resolve_optimizer
from ..optimizees import optimizee
from ..weights import is_zoo_name
from ..zoo import zoo_card, zoo_names
from .terminal import check_free, console


@dataclass(frozen=True)
class Inspect:
    """Write a page that shows what an optimizer does with gradients, and along a real rollout."""

    optimizer: Annotated[Positional[str], arg(metavar="OPT")]
    """A name in the zoo, a run directory, a file of weights, or a hand-designed optimizer by name."""
    out: Path = Path("inspect.html")
    """The HTML file to write."""
    on: str = "mlp-digits"
    """Optimizee of the rollout."""
    steps: int = 1_000
    """Of the rollout."""
    data_dir: Path | None = None
    """Folder to look for data in first."""

    def run(self) -> None:
        check_free("--out", self.out, ".html")
        if self.steps < 1:
            raise ValueError(f"The number of steps must be 1 or more, not {self.steps}.")
        optimizer = resolve_optimizer(self.optimizer)
        problem = optimizee(self.on, "train", self.data_dir)
        in_zoo = is_zoo_name(self.optimizer) and self.optimizer in zoo_names()
        card = zoo_card(self.optimizer) if in_zoo else Path(self.optimizer) / "card.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        with console.status("running it"):
            page = inspect(self.optimizer, optimizer, self.on, problem, self.steps, text)
        write_text(self.out, page)
        console.print(f"Page: {self.out}")
