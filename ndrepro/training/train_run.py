"""One request from seal to seal: the order in which the child does its work (see ``ndrepro.training.__main__``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, write_json
from ndrepro.protocol.training_state import Place
from ndrepro.training import models, process_group
from ndrepro.training.bit_flip import nudge
from ndrepro.training.checkpoint import load_checkpoint, save_weights
from ndrepro.training.compute import determinism
from ndrepro.training.data.run_data import make_batches, read_and_describe
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.evaluation_run import is_evaluation, load_given_weights, write_evaluation
from ndrepro.training.initialise import initialise
from ndrepro.training.layers.canonical_arithmetic import make_canonical
from ndrepro.training.layers.census import network_document
from ndrepro.training.optimizer import make_optimizer
from ndrepro.training.own_network import expect_trainable, load_own
from ndrepro.training.run_logs import Recording, Unrecorded
from ndrepro.training.trainer import Interrupted, Trainer
from provenance.capture.environment import capture, note_modules, search, usage
from provenance.code import foreign_code


def train(request: Request, folder: RunFolder, stop_asked: Callable[[], bool], progress: dict[str, Any]) -> str:
    """Train what is asked; returns the outcome, "completed" or "interrupted". ``progress`` is kept up to date."""
    experiment = request.experiment
    determinism.apply(experiment)
    device = process_group.own_device(experiment)
    progress["device"] = str(device)
    group = process_group.join(experiment, device)
    writes = group.rank == 0
    sealed = {"start": _seal(folder), **group.places(device)}
    if writes:
        write_json(folder.environment, sealed)

    data, described = group.in_turn(lambda: read_and_describe(request, folder, write=writes))
    group.check_data(experiment, described)
    net = build(experiment, folder.network).to(device)
    if writes:
        shape = (2, experiment.facts.channels, experiment.image_size, experiment.image_size)
        write_json(folder.model, network_document(net, shape))
    group.connect(net)
    optimizer = make_optimizer(net, experiment)
    place = Place(step=0, epoch=0, batch=0)
    if request.resume_step and not is_evaluation(request):
        place = load_checkpoint(folder.checkpoint(request.resume_step), experiment, net, optimizer)

    train_batches, test_batches = make_batches(data, experiment, device, group.share)
    if is_evaluation(request):
        place = load_given_weights(request, folder, net, len(train_batches))
    trainer = Trainer(experiment, folder, net, optimizer, train_batches, test_batches, stop_asked, group)
    resumed = place.step > 0 and request.segment_epochs is None
    recording = Recording(folder, net, place, resumed=resumed) if writes else Unrecorded()
    if not resumed:
        recording.state(place, optimizer)
    epochs = experiment.epochs if request.segment_epochs is None else place.epoch + request.segment_epochs
    try:
        place = trainer.run(place, recording, epochs)
        if is_evaluation(request):
            evaluation = trainer.evaluate()
            if writes:
                write_evaluation(evaluation, test_batches.count, folder)
        outcome = "completed"
    except Interrupted as stopped:
        place, outcome = stopped.place, "interrupted"
    finally:
        recording.close()
    progress.update(epochs=place.epoch, steps=place.step)
    if writes and outcome == "completed":
        save_weights(folder.weights, net, {"experiment": experiment.name, "steps": place.step})
    if writes:
        write_json(folder.environment, {**sealed, "end": _seal(folder)})
        note_modules()
    group.close()
    return outcome


def build(experiment: Experiment, own: Path | None = None) -> nn.Module:
    """The experiment's network with its first weights, on the CPU; one of the user's own from the files in ``own``."""
    facts, theirs = experiment.facts, is_own_network(experiment.arch)
    if theirs and own is None:
        raise UsageError(f"{experiment.arch}: its files are not here", "train it with `ndrepro run`")
    net = models.build(
        experiment.arch,
        experiment.method,
        facts.num_classes,
        in_channels=facts.channels,
        image_size=experiment.image_size,
        design=facts.design,
        dropout=experiment.dropout,
        own=load_own(experiment, own) if theirs and own else None,
        **asdict(experiment.deconv),
    )
    if theirs:
        expect_trainable(net, experiment)
    else:
        initialise(net, experiment)
    nudge(net, experiment)
    if experiment.determinism == "canonical":
        make_canonical(net)
    if experiment.deconv_kernel == "fast":
        use_fast_kernels(net)
    return net


def _seal(folder: RunFolder) -> dict[str, Any]:
    searched = search()
    return {
        "environment": {**capture(searched), "loaded_code": foreign_code.capture(searched, [folder.network])},
        "flags": determinism.flags(),
        "libraries": determinism.libraries(),
        "usage": usage(),
    }
