"""Every setting, group and change has its effect or none; and the table of stages is what training does."""

import pytest

from ndrepro.analysis.comparison.cause_catalogue import EFFECTS, STAGES, effect_of
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment


def stage(group: str, name: str) -> str | None:
    effect = effect_of(group, name)
    return effect.stage if effect else None


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("experiment", "arch", "anything"),
        ("experiment", "batch_size", "batch"),
        ("experiment", "learning_rate", "update"),
        ("experiment", "momentum", "schedule"),
        ("experiment", "epochs", "schedule"),
        ("experiment", "deconv.momentum", "update"),
        ("experiment", "deconv.n_iter", "forward"),
        ("experiment", "test_images", "evaluation"),
        ("experiment", "checkpoint_seconds", None),
        ("experiment", "name", None),
        ("experiment", "network's conv2d_layers", None),
        ("experiment", "a_setting_of_tomorrow", "anything"),
        ("seeds", "init", "weights"),
        ("seeds", "augment", "batch"),
        ("seeds", "dropout", "noise"),
        ("seeds", "numpy", "anything"),
        ("seeds", "seed", None),
        ("packages", "torch", "arithmetic"),
        ("packages", "pillow", "data"),
        ("packages", "ndrepro", None),
        ("libraries", "build", "arithmetic"),
        ("threads", "OMP_NUM_THREADS", "arithmetic"),
        ("libraries", "parallel", "arithmetic"),
        ("flags", "cudnn_benchmark at start", "arithmetic"),
        ("variables", "MKL_CBWR", "arithmetic"),
        ("gpus", "device", "arithmetic"),
        ("gpus", "devices[0].power_limit_watts", None),
        ("machine", "cpu.flags", "arithmetic"),
        ("machine", "memory_bytes", None),
        ("circumstances", "host name", None),
        ("source", "commit", None),
        ("results", "trail.bin", None),
    ],
)
def test_a_change_acts_at_its_stage(group: str, name: str, expected: str | None) -> None:
    assert stage(group, name) == expected


def test_every_stream_of_random_numbers_has_an_effect_of_its_own() -> None:
    assert all(effect_of("seeds", stream) not in (None, effect_of("seeds", "numpy")) for stream in STREAMS)


def test_every_setting_is_known() -> None:
    """A new setting must be given its stage, or its place among those without effect."""
    elsewhere = {"seed", "determinism", "threads", "device", "seeds"}
    generic = effect_of("experiment", "a_setting_of_tomorrow")
    assert generic is not None
    settings = Experiment.from_name("lenet_bn_2_digits").to_json()
    names = [name for name in settings if name not in elsewhere and not isinstance(settings[name], dict)]
    names += [f"{part}.{name}" for part in ("deconv", "corrupt") for name in settings[part]]
    found = {name: effect_of("experiment", name) for name in names}
    assert len(found) > 20 and found["arch"] is not None
    unknown = sorted(name for name, effect in found.items() if effect == generic)
    assert unknown == []


def test_threads_between_operations_are_not_those_that_split_sums() -> None:
    split, between = effect_of("threads", "threads at start"), effect_of("threads", "interop_threads at start")
    assert split is not None and between is not None and split.weight > 70 and between.weight < 10


def test_stages_and_titles_are_sound() -> None:
    assert {effect.stage for effect in EFFECTS} <= set(STAGES)
    assert len({effect.title for effect in EFFECTS}) == len(EFFECTS)
    assert all(0 < effect.weight <= 100 and effect.why for effect in EFFECTS)
