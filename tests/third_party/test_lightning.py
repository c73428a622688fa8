"""A Lightning module."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tutelage.torch import LearnedOptimizer


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        self.losses = []

    def training_step(self, batch, _):
        loss = torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        optimizer = LearnedOptimizer(self.parameters(), "rnnprop-cl-il")
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
        return [optimizer], [schedule]


def fit(folder, epochs, checkpoint=None):
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16)
    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


@pytest.mark.filterwarnings("default")  # theirs
def test_trainer_trains_and_resumes_from_its_own_checkpoint(tmp_path):
    whole = fit(tmp_path, 6)
    assert whole.losses[-1] < 0.75 * whole.losses[0]
    fit(tmp_path, 4)
    resumed = fit(tmp_path, 6, tmp_path / "last.ckpt")
    assert len(resumed.losses) == 2 * 8
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
