"""A study on the screen and as JSON: the plan, its status, its outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ndrepro.cli.display import terminal, words
from ndrepro.execution.studies.carry_out import Outcome
from ndrepro.execution.studies.cost_model import CPU_RATE, GPU_RATE, model_seconds
from ndrepro.execution.studies.plan import Item, StudyPlan
from ndrepro.protocol.errors import to_record
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image, location_words
from ndrepro.protocol.study.search_space import target_of
from ndrepro.protocol.study.study import Study
from ndrepro.text.plurals import plural

LABEL = 10
_FAILURES_SHOWN = 12
_STATES = ("done", "running", "queued", "interrupted", "failed", "not counted", "waiting", "to do")
_WIDTHS = {"grid": 16, "runs": 7, "done": 7, "running": 9, "queued": 8, "interrupted": 12, "failed": 8, "waiting": 9}
_WIDTH = 12  # of every other column


def print_plan(plan: StudyPlan) -> None:
    """Grids in a table, then totals, and where the estimates are from."""
    terminal.write_line(f"{plan.study.name}: {plan.study.title}")
    terminal.write_line("")
    _print_grids(plan)
    terminal.write_line("")
    _print_where(plan)
    if not plan.todo:
        _row("to run", _nothing(plan))
    else:
        time = f"about {duration(plan.seconds)} of device time"
        disk = f"{words.size(plan.disk_bytes)} of disk ({words.size(plan.free_bytes)} free)"
        _row("to run", f"{plural(len(plan.todo), 'run')}, {time}, {disk}")
        _row("estimate", _sources(plan))
    if plan.todo and plan.disk_bytes > plan.free_bytes:
        _row("warning", "more than is free on the disk of the runs: free some, or choose another with --runs DIR")
    _print_waiting(plan)
    for note in plan.notes:
        _row("note", note)


def print_status(plan: StudyPlan) -> None:
    """Grids in a table, then every run that is neither done nor waiting, with the reason."""
    _print_grids(plan)
    terminal.write_line("")
    for item in plan.items:
        if item.status.state not in ("done", "queued", "to do", "waiting"):
            _print_item(item)
    done, total = plan.states["done"], len(plan.items)
    left = f"; about {duration(plan.seconds)} of device time left" if plan.todo else ""
    _row("done", f"{done} of {plural(total, 'run')}{left}")
    _print_where(plan)
    _print_waiting(plan)
    for note in plan.notes:
        _row("note", note)


def print_outcome(outcome: Outcome) -> None:
    """How many are done, and the runs that failed this time."""
    terminal.write_line("")
    for failure in outcome.failures[:_FAILURES_SHOWN]:
        error = failure.ending.error
        _row(failure.ending.outcome[:LABEL], f"{failure.run.label}: {error.message if error else 'no reason given'}")
        if error and error.cure:
            _row("", f"hint: {error.cure}")
        if failure.ending.folder:
            _row("", terminal.here(failure.ending.folder.root))
    if len(outcome.failures) > _FAILURES_SHOWN:
        _row("", f"and {len(outcome.failures) - _FAILURES_SHOWN} more; --json has them all")
    plan = outcome.plan
    _row("done", f"{plan.states['done']} of {plural(len(plan.items), 'run')} of {plan.study.name}")
    for item in plan.items:
        if item.status.state == "not counted":
            _print_item(item)


def study_document(path: Path, study: Study) -> dict[str, Any]:
    """A study in JSON, without its runs."""
    return {
        "name": study.name,
        "title": study.title,
        "file": str(path),
        "grids": [
            {"name": grid.name, "title": grid.title, "runs": len(study.runs([grid.name]))} for grid in study.grids
        ],
    }


def plan_document(plan: StudyPlan) -> dict[str, Any]:
    """A plan in JSON, run by run. Seconds and bytes are those of what is left."""
    return {
        "study": plan.study.name,
        "title": plan.study.title,
        "runs": [_item_document(item) for item in plan.items],
        "states": plan.states,
        "to_run": len(plan.todo),
        "device_seconds": plan.seconds,
        "disk_bytes": plan.disk_bytes,
        "free_bytes": plan.free_bytes,
        "estimated_from_recorded": plan.recorded,
        "notes": plan.notes,
    }


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """How a study stands after a run of it, in JSON."""
    failures = [
        {
            "run": failure.run.label,
            "grid": failure.run.grid,
            "outcome": failure.ending.outcome,
            "folder": failure.ending.folder and failure.ending.folder.root.absolute(),
            "error": to_record(failure.ending.error) if failure.ending.error else None,
        }
        for failure in outcome.failures
    ]
    return {
        **plan_document(outcome.plan),
        "complete": outcome.complete,
        "interrupted": outcome.interrupted,
        "failures": failures,
    }


def where(plan: StudyPlan) -> str:
    """The environments of a study's runs, an image's with what it is called; "" for the main one alone."""
    named = [f"{found.label} ({found.image})" if (found := image(each)) else each for each in plan.environments]
    return "" if named == [MAIN] else ", ".join(named)


def image(environment: str) -> PinnedImage | None:
    """The image that an environment is; None where it is none."""
    return PinnedImage.from_text(environment) if is_image(environment) else None


def places(environments: Iterable[str]) -> str:
    """In which images, or outside of them: "in podman:00be816f81ca and outside of containers"."""
    return " and ".join(map(location_words, environments))


def duration(seconds: float) -> str:
    """``83 s``, ``54 min``, ``12.3 h``: as coarse as an estimate is."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _nothing(plan: StudyPlan) -> str:
    """Why there is nothing to run."""
    running, queued, waiting = (plan.states[state] for state in ("running", "queued", "waiting"))
    parts = [f"{running} under way"] if running else []
    parts += [f"{queued} in the queue"] if queued else []
    parts += [f"{waiting} waiting"] if waiting else []
    return f"nothing: {', '.join(parts)}, the rest done" if parts else "nothing: every run is done"


def _print_where(plan: StudyPlan) -> None:
    if found := where(plan):
        _row("in", found)


def _print_waiting(plan: StudyPlan) -> None:
    """What a search must come before, and what it comes to."""
    waiting = [item for item in plan.items if item.status.state == "waiting"]
    search = plan.study.search
    if not waiting or search is None:
        return
    seconds = {target_of(item.run.experiment): item.left.seconds for item in waiting}
    time = duration(sum(seconds.values()) * search.budget_epochs / search.rungs[-1])
    what = f"{plural(len(waiting), 'run')} of {search.grid} until hyper-parameters are searched"
    each = f"{len(seconds)} times a network on a data set, {search.budget_epochs} epochs each"
    _row("waiting", f"{what}: {each}, about {time} of device time")
    _row("", f"{terminal.program()} study search {plan.study.name}")


def _sources(plan: StudyPlan) -> str:
    recorded, modelled = plan.recorded, len(plan.todo) - plan.recorded
    if not modelled:
        return f"from recorded timings of earlier runs in {plural(recorded, 'case')}"
    others = [item for item in plan.todo if item.run.experiment.device == "auto"]
    rates = f"{CPU_RATE / 1e9:.0f} GFLOP/s a CPU thread, {GPU_RATE / 1e12:.0f} TFLOP/s and launch times of a V100"
    text = f"by the model ({rates})" + (f" for {modelled}, recorded timings for {recorded}" if recorded else "")
    if len(others) == len(plan.todo):
        both = {device: sum(model_seconds(i.run.experiment, device) for i in others) for device in ("cpu", "cuda")}
        text += f"; all of it on CPUs {duration(both['cpu'])}, on V100s {duration(both['cuda'])}"
    return text


def _print_grids(plan: StudyPlan) -> None:
    from rich.text import Text

    console = terminal.console()
    shown = [state for state in _STATES if state not in ("queued", "waiting") or plan.states[state]]
    headings = ["grid", "runs", *shown, "device time"]
    console.print(Text(_columns(headings, headings), style="dim"), soft_wrap=True)
    parts = [(name, plan.of_grid(name)) for name in plan.grids()]
    for name, part in [*parts, ("all", plan)] if len(parts) > 1 else parts:
        counts = [str(part.states[state]) for state in shown]
        cells = [name, str(len(part.items)), *counts, duration(part.seconds)]
        console.print(Text(_columns(cells, headings)), soft_wrap=True)


def _columns(cells: list[str], headings: list[str]) -> str:
    first, *rest = zip(cells, headings, strict=True)
    return f"{first[0]:<{_WIDTHS['grid']}}" + "".join(f"{cell:>{_WIDTHS.get(key, _WIDTH)}}" for cell, key in rest)


def _print_item(item: Item) -> None:
    status = item.status
    epochs = f", {item.epochs_done}/{item.run.experiment.epochs} epochs" if status.state != "not counted" else ""
    reason = f": {status.reason}" if status.reason else ""
    _row(status.state, f" {item.run.label}{epochs}{reason}")
    if status.folder:
        _row("", f" {terminal.here(status.folder.root)}")


def _row(label: str, text: str) -> None:
    terminal.write_text(f"{label:<{LABEL}} {terminal.hanging(text, LABEL + 1)}")


def _item_document(item: Item) -> dict[str, Any]:
    folder, needs = item.status.folder, item.run.resources
    return {
        "label": item.run.label,
        "grid": item.run.grid,
        "experiment": item.run.experiment,
        "environment": item.run.environment,
        "state": item.status.state,
        "reason": item.status.reason,
        "folder": folder and folder.root.absolute(),
        "epochs_done": item.epochs_done,
        "seconds": item.left.seconds,
        "bytes": item.left.disk_bytes,
        "estimate": item.left.source,
        "memory_bytes": item.left.memory_bytes,
        "resources": needs,
    }
