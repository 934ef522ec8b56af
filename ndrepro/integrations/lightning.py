"""A callback for Lightning's Trainer that logs into a run of ``ndrepro.record``.

    with ndrepro.record(name="fit", seeds={"lightning": 3}) as run:
        lightning.seed_everything(3)
        Trainer(callbacks=[LightningRecorder(run)]).fit(model, data)

Needs ``pip install 'ndrepro[lightning]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndrepro.integrations.run_metrics import as_json, keep_checkpoint, scalars
from ndrepro.protocol import extras
from provenance.recording.script_run import Session

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
try:
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:  # what is missing is named where a recorder is made
    Callback = object

_SETTINGS = ("max_epochs", "max_steps", "precision", "num_devices", "accumulate_grad_batches", "gradient_clip_val")


class LightningRecorder(Callback):
    """Logs what the module logs: after each epoch of training, of validation, and of a test, and every few steps.

    Each row has Lightning's count of optimizer steps, the epoch and the stage (train, validation or test). The module's
    hyperparameters and the Trainer's settings become notes. Only the first of several processes logs.

    Args:
        run: the ``Session`` of ``ndrepro.record``.
        every_n_steps: log the metrics of training after so many batches, too; 0: after epochs alone.
        keep_best: copy the best checkpoint of the Trainer's checkpoint callback into the run's artifacts.
    """

    def __init__(self, run: Session, *, every_n_steps: int = 0, keep_best: bool = False) -> None:
        extras.require("lightning")
        self._run = run
        self._every = every_n_steps
        self._keep_best = keep_best

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note hyperparameters and settings."""
        if trainer.is_global_zero:
            self._run.note("hyperparameters", as_json(dict(pl_module.hparams)))
            settings = {name: getattr(trainer, name, None) for name in _SETTINGS}
            self._run.note("trainer", as_json({**settings, "strategy": type(trainer.strategy).__name__}))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Log a batch's metrics where they are wanted."""
        batch = rest[2]
        if self._every and (batch + 1) % self._every == 0:
            self._log(trainer, "train")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log an epoch's metrics."""
        self._log(trainer, "train")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a validation's metrics; the trial before the first step is left out."""
        if not trainer.sanity_checking:
            self._log(trainer, "validation")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a test's metrics."""
        self._log(trainer, "test")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best checkpoint where it is wanted."""
        if self._keep_best and trainer.is_global_zero:
            keep_checkpoint(self._run, getattr(trainer.checkpoint_callback, "best_model_path", None))

    def _log(self, trainer: Trainer, stage: str) -> None:
        metrics = scalars(trainer.callback_metrics)
        if metrics and trainer.is_global_zero:
            own = {"epoch": trainer.current_epoch, "stage": stage}
            self._run.log(step=trainer.global_step, **{**metrics, **own})
