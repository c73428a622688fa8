"""tutelage import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..interop import load_published
from ..optimizers import save_weights
from .terminal import check_free, console


@dataclass(frozen=True)
class Import:
    """Write published weights in our format."""

    published: Annotated[Positional[Path], arg(metavar="PUBLISHED")]
    """A file of the authors' weights: as their programs write them (cw.l2l-0), or an .npz archive."""
    out: Path
    """The .safetensors file to write."""

    def run(self) -> None:
        check_free("--out", self.out, ".safetensors")
        architecture, optimizer = load_published(self.published)
        save_weights(self.out, optimizer, architecture, {"published": self.published.name})
        console.print(f"{self.out}: {architecture}.")
