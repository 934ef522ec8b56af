from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_runs import Bench, alive, children_named, children_of, wait_for

from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.runs.observer import Progress
from ndrepro.execution.studies.job import Reporter, Stop, Voice, parse, perform
from ndrepro.execution.studies.launchers import (
    NOT_STARTED,
    Began,
    Ended,
    Ending,
    Event,
    Job,
    LocalLauncher,
    Moved,
    event_line,
    read_event,
)
from ndrepro.protocol.errors import DataError, TrainingFailed, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from ndrepro.protocol.study.study import StudyRun
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify


def job_of(experiment: Experiment, **changes: object) -> Job:
    return replace(Job("mini", StudyRun("main", experiment)), **changes)  # type: ignore[arg-type]


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """``Stop`` takes both signals of this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def launcher(bench: Bench) -> Iterator[LocalLauncher]:
    made = LocalLauncher(2, bench.options)
    yield made
    made.close()


def until_ended(launcher: LocalLauncher, on_event: Callable[[Event], object] = lambda event: None) -> list[Ended]:
    ended: list[Ended] = []
    while launcher.busy:
        for event in launcher.events(0.2):
            on_event(event)
            if isinstance(event, Ended):
                ended.append(event)
    return ended


def test_a_job_is_its_command_line_and_back(bench: Bench) -> None:
    fresh = job_of(bench.experiment(seed="3", **{"deconv.eps": "1e-06"}), data=Path("some where/ü"))
    job, options, given = parse(fresh.words(bench.options, "--leashed")[4:])
    assert (job, given.leashed) == (fresh, True)
    assert (options.runs, options.data, options.environment) == (bench.options.runs, Path("some where/ü"), None)
    elsewhere = replace(fresh, run=replace(fresh.run, environment="torch-2.2.2"))
    job, options, given = parse(elsewhere.words(bench.options)[4:])
    assert (job.run.environment, options.environment, given.leashed) == ("torch-2.2.2", "torch-2.2.2", False)


def test_a_job_in_an_image_names_it_with_its_digest_and_from_any_folder(bench: Bench) -> None:
    digest = f"sha256:{'a' * 64}"
    for image, found in (
        (f"podman:ndrepro:1@{digest}", "ndrepro:1"),
        (f"apptainer:x.sif@{digest}", f"{Path.cwd()}/x.sif"),
    ):
        fresh = job_of(bench.experiment())
        words = replace(fresh, run=replace(fresh.run, environment=image)).words(bench.options)
        job, options, _ = parse(words[4:])
        assert options.container == ContainerChoice(image.partition(":")[0], found, frozenset({digest}))
        assert options.environment is None
        assert PinnedImage.from_text(job.run.environment).key == PinnedImage.from_text(image).key


def test_a_command_line_that_names_nothing_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="neither an experiment nor --resume"):
        parse(["--study", "s", "--grid", "g", "--runs", "r"])


def test_what_a_job_says_is_read_back(bench: Bench) -> None:
    job = job_of(bench.experiment())
    folder = RunFolder(Path("runs/lenet_nd_5_digits/x"))
    scores = Scores(1, 6, 2.25, 0.5, float("inf"), 0.25, 0.1)
    progress = Progress("training", 3, 6, 2.5, 1.5, None, 4.0)
    assert read_event(job, event_line(Began(job, folder))) == Began(job, folder)
    assert read_event(job, event_line(Moved(job, progress))) == Moved(job, progress)
    ending = Ending("completed", folder, scores, None, True)
    assert read_event(job, event_line(ending)) == Ended(job, ending)
    said = read_event(job, event_line(Ending(NOT_STARTED, error=DataError("no such file", "name it"))))
    assert isinstance(said, Ended) and isinstance(said.ending.error, DataError)
    assert (said.ending.error.message, said.ending.error.cure) == ("no such file", "name it")


def test_a_job_that_was_stopped_before_it_began_leaves_nothing(bench: Bench, signals_as_before: None) -> None:
    job, stop = job_of(bench.experiment()), Stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked
    assert perform(job, bench.options, Reporter(job, stop, Voice()), stop) == Ending(NOT_STARTED)
    assert not bench.options.runs.root.exists()


def test_a_stop_before_the_child_reaches_the_child(bench: Bench, signals_as_before: None) -> None:
    class Early(Reporter):
        def began(self, folder: RunFolder, request: object) -> None:
            super().began(folder, request)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGTERM)

    job, stop = job_of(bench.experiment(epochs="500")), Stop()
    ending = perform(job, bench.options, Early(job, stop, Voice()), stop)
    assert ending.outcome == "interrupted"
    assert ending.signed


def test_a_parent_that_no_longer_listens_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    voice = Voice()
    voice.say(Ending("completed"))
    voice.say(Ending("completed"))


def test_what_cannot_be_run_is_told_and_leaves_the_launcher_free(bench: Bench, launcher: LocalLauncher) -> None:
    launcher.start(job_of(bench.experiment(), data=bench.root / "nowhere"))
    assert launcher.free and launcher.busy
    (ended,) = until_ended(launcher)
    assert ended.ending.outcome == NOT_STARTED
    assert isinstance(ended.ending.error, DataError)
    assert not launcher.busy


@pytest.mark.slow
def test_a_job_that_dies_without_a_word_is_told_by_its_death(bench: Bench, launcher: LocalLauncher) -> None:
    """Killed in the middle of training: the training goes with it, and the folder is known."""
    trained: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Moved) and event.progress.phase == "training" and not trained:
            (process,) = children_named(b"ndrepro.execution.studies.job")
            trained.extend(children_of(process))
            os.kill(process, signal.SIGKILL)

    launcher.start(job_of(bench.experiment(epochs="500")))
    (ended,) = until_ended(launcher, kill)
    assert ended.ending.outcome == "killed"
    assert isinstance(ended.ending.error, TrainingFailed) and "SIGKILL" in ended.ending.error.message
    assert ended.ending.folder is not None and not ended.ending.folder.manifest.exists()
    wait_for(lambda: not any(alive(pid) for pid in trained))


def test_a_job_whose_words_make_no_sense_is_told_by_what_it_printed(
    bench: Bench, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "words", lambda *_, **__: ["python3", "-c", "print(undefined)"])
    launcher.start(job_of(bench.experiment()))
    (ended,) = until_ended(launcher)
    assert ended.ending.outcome == "failed"
    assert ended.ending.error is not None and "exit code 1: NameError" in ended.ending.error.message


def test_a_job_that_a_signal_without_a_name_ends_is_told_by_its_number(
    bench: Bench, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an administrator's script may send; there are thirty such real-time signals."""
    number = signal.SIGRTMIN + 5
    monkeypatch.setattr(Job, "words", lambda *_, **__: ["python3", "-c", f"import os; os.kill(os.getpid(), {number})"])
    launcher.start(job_of(bench.experiment()))
    (ended,) = until_ended(launcher)
    assert ended.ending.outcome == "killed"
    assert ended.ending.error is not None and ended.ending.error.message.endswith(f"was killed by signal {number}")


def test_a_parent_that_is_killed_has_its_run_signed_as_interrupted(
    bench: Bench, reap: Callable[[object], None]
) -> None:
    """The job holds the other end of its standard input, and stops when that closes."""
    job = job_of(bench.experiment(epochs="500"))
    holder = subprocess.Popen(
        job.words(bench.options, "--leashed"),
        env={**os.environ, "NDREPRO_HOME": str(bench.options.home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    reap(holder)
    wait_for(lambda: any(folder.trail.exists() for folder in bench.options.runs.runs()))
    assert holder.stdin is not None
    holder.stdin.close()
    holder.stdin = None
    holder.wait()
    (folder,) = bench.options.runs.runs()
    verdict = verify(folder.root, trust=TrustPolicy.load(bench.options.home), ledger=bench.options.runs.ledger)
    assert verdict.ok and verdict.manifest is not None
    assert verdict.manifest.outcome == "interrupted"
