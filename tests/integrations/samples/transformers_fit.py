"""A small fit with Hugging Face's Trainer, recorded: python transformers_fit.py RUNS HOME."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import ndrepro
from ndrepro.integrations.transformers import TransformersRecorder


class Data(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.arange(4) + index, "labels": torch.tensor(index % 2)}


runs, home = map(Path, sys.argv[1:3])
with ndrepro.record(name="fine-tune", runs=runs, home=home, seeds={"transformers": 3}) as run:
    torch.manual_seed(3)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=32, **size))
    args = TrainingArguments(
        output_dir=str(home.parent / "out"),
        max_steps=4,
        per_device_train_batch_size=4,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        report_to=[],
        use_cpu=True,
        seed=3,
        hub_token="hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
        disable_tqdm=True,
    )
    callbacks = [TransformersRecorder(run, keep_best=True)]
    Trainer(model, args, train_dataset=Data(), eval_dataset=Data(), callbacks=callbacks).train()
