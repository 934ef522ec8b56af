"""A callback for Hugging Face's Trainer that logs into a run of ``ndrepro.record``.

    with ndrepro.record(name="fine-tune", seeds={"transformers": args.seed}) as run:
        Trainer(model, args, train_dataset=data, callbacks=[TransformersRecorder(run)]).train()

Needs ``pip install 'ndrepro[transformers]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndrepro.integrations.run_metrics import as_json, keep_checkpoint, scalars
from ndrepro.protocol import extras
from provenance.recording.script_run import Session

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
try:
    from transformers import TrainerCallback
except ModuleNotFoundError:  # what is missing is named where a recorder is made
    TrainerCallback = object


class TransformersRecorder(TrainerCallback):
    """Logs what the Trainer logs: losses, learning rates and the metrics of evaluations, by optimizer step.

    The training arguments and the model's configuration become notes; tokens are left out by transformers itself, and
    what looks like a secret is redacted. Only the first of several processes logs.

    Args:
        run: the ``Session`` of ``ndrepro.record``.
        keep_best: copy the best checkpoint, as the Trainer knows it, into the run's artifacts.
    """

    def __init__(self, run: Session, *, keep_best: bool = False) -> None:
        extras.require("transformers", "accelerate")
        self._run = run
        self._keep_best = keep_best

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note arguments and configuration."""
        if state.is_world_process_zero:
            self._run.note("training_arguments", as_json(args.to_sanitized_dict()))
            config: Any = getattr(kwargs.get("model"), "config", None)
            if config is not None and hasattr(config, "to_dict"):
                self._run.note("model_configuration", as_json(config.to_dict()))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log one row."""
        metrics = scalars(logs or {})
        if metrics and state.is_world_process_zero:
            self._run.log(step=state.global_step, **metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the best checkpoint where it is wanted."""
        if self._keep_best and state.is_world_process_zero:
            keep_checkpoint(self._run, state.best_model_checkpoint)
