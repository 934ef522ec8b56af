"""A small fit with Lightning, recorded: python lightning_fit.py RUNS HOME [fail]."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import ndrepro
from ndrepro.integrations.lightning import LightningRecorder


class Model(lightning.LightningModule):
    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        if "fail" in sys.argv:
            raise RuntimeError("no more")
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.layer(batch[0]).pow(2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)


runs, home = map(Path, sys.argv[1:3])
with ndrepro.record(name="fit", runs=runs, home=home, seeds={"lightning": 3}) as run:
    lightning.seed_everything(3)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 4)), batch_size=4)
    best = ModelCheckpoint(dirpath=home.parent / "checkpoints", monitor="val_loss", filename="best")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        callbacks=[LightningRecorder(run, every_n_steps=2, keep_best=True), best],
    )
    trainer.fit(Model(), data, data)
