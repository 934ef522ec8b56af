"""Everything that needs a GPU, in one go: ``python -m benchmarks.gpu --minutes 8 --out FOLDER``; exit 3 without one.

In this order, each as long as time is left: for every network, the step's time with batch norm, the reference layer
and the fast kernels, its peak memory and the kernels that it launches; what the trail adds to a step; the fast step
captured as a CUDA graph; and, where CIFAR-10 is given by ``--data``, real epochs of vgg16 and resnet18, recorded and
signed. ``FOLDER/gpu.json`` is written anew after every part, so that a run that is ended early leaves what it has.

``--rehearse`` goes the same way on a CPU with batches of two images, to find mistakes before a GPU is at hand; its
document says ``"rehearsal": true`` and is no measurement.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ARCHITECTURES = ("vgg16", "resnet18", "densenet121", "resnet18d", "mobilenetv2", "preact18", "senet18", "resnext29",
    "pnasnet18", "dpn92", "efficientnet")  # fmt: skip
NO_GPU = 3
WARM_UPS = 3


class Device:
    """The device, and how long it takes to do something to its end."""

    def __init__(self, rehearse: bool) -> None:
        import torch

        self._torch = torch
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.images, self.rounds = (2, 1) if rehearse else (128, 9)
        self.name = "CPU" if rehearse else torch.cuda.get_device_name()

    def seconds(self, action: Callable[[], object]) -> float:
        """The time of an action, to its end on the device."""
        self._wait()
        start = time.perf_counter()
        action()
        self._wait()
        return time.perf_counter() - start

    def peak_bytes(self, action: Callable[[], object]) -> int | None:
        """The most memory that is allocated during an action; ``None`` on a CPU."""
        if self.device.type == "cpu":
            return None
        self._torch.cuda.reset_peak_memory_stats()
        action()
        return int(self._torch.cuda.max_memory_allocated())

    def launches(self, action: Callable[[], object]) -> int | None:
        """Kernels that an action launches; ``None`` on a CPU."""
        if self.device.type == "cpu":
            return None
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            action()
            self._wait()
        return sum(event.device_type == DeviceType.CUDA for event in seen.events())

    def captured(self, action: Callable[[], object]) -> Callable[[], object]:
        """What replays ``action`` as a CUDA graph, captured after ``WARM_UPS`` runs; on a CPU ``action`` itself."""
        if self.device.type == "cpu":
            for _ in range(WARM_UPS):
                action()
            return action
        beside, cuda = self._torch.cuda.Stream(), self._torch.cuda
        beside.wait_stream(cuda.current_stream())
        with cuda.stream(beside):
            for _ in range(WARM_UPS):
                action()
        cuda.current_stream().wait_stream(beside)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            action()
        return graph.replay

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self._torch.cuda.synchronize()


def steps(device: Device, arch: str) -> dict[str, Any]:
    """A training step of one network with each method and kernel, alternated."""
    from benchmarks.deconvolution import networks, training_step

    nets = {side: net.to(device.device) for side, net in networks(arch).items()}
    actions = {side: training_step(net, device.images, device.device) for side, net in nets.items()}
    for action in actions.values():
        action()
        action()
    times: dict[str, list[float]] = {side: [] for side in actions}
    for _ in range(device.rounds):
        for side, action in actions.items():
            times[side].append(device.seconds(action))
    return {
        side: {
            "seconds": times[side],
            "median": statistics.median(times[side]),
            "peak_bytes": device.peak_bytes(action),
            "launches": device.launches(action),
        }
        for side, action in actions.items()
    }


def trail(device: Device, arch: str) -> dict[str, float]:
    """Seconds that the trail's record of the state takes, once for every step."""
    from benchmarks.deconvolution import networks
    from ndrepro.training.checkpoint import state_tensors
    from ndrepro.training.compute.fingerprint import fingerprints_of

    fingerprints = fingerprints_of(state_tensors(networks(arch)["fast"].to(device.device)))
    fingerprints.compute()
    return {"seconds": statistics.median(device.seconds(fingerprints.compute) for _ in range(device.rounds))}


def graphs(device: Device, arch: str) -> dict[str, Any]:
    """The fast step captured as a CUDA graph: the time of a replay, and whether it has the bits of a plain step.

    The product has no such setting: a capture fixes the learning rate and whether a first layer is frozen.
    """
    from benchmarks.deconvolution import networks, training_step

    net = networks(arch)["fast"].to(device.device)
    twin = copy.deepcopy(net)
    step, plain = (training_step(each, device.images, device.device) for each in (net, twin))
    try:
        replay = device.captured(step)
    except RuntimeError as error:
        return {"refused": str(error)}
    replay()
    for _ in range(WARM_UPS + 1):
        plain()
    same = [one.equal(other) for one, other in zip(_results(net), _results(twin), strict=True)]
    times = [device.seconds(replay) for _ in range(device.rounds)]
    return {"seconds": times, "median": statistics.median(times), "same_bits": all(same)}


def _results(net: Any) -> list[Any]:
    """The gradients and buffers that a step leaves."""
    return [each.grad for each in net.parameters() if each.grad is not None] + list(net.buffers())


def epoch(arch: str, data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """One recorded epoch of a network on CIFAR-10, as any user starts it; its folder has the signed manifest."""
    words = [sys.executable, "-m", "ndrepro", "run", f"{arch}_nd_1", "--data", str(data), "--runs", str(out / "runs")]
    try:
        code = subprocess.run([*words, "--set", "device=cuda", "--quiet"], timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return {"ended": "time was up"}
    return {"exit_code": code}


def main(arguments: list[str] | None = None) -> int:
    """Measure what time allows; exit code 0, or 3 where torch sees no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="CIFAR-10, for real epochs")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, two images a batch: no measurement")
    parser.add_argument("--arch", nargs="*", default=ARCHITECTURES)
    chosen = parser.parse_args(arguments)
    import torch

    if not chosen.rehearse and not torch.cuda.is_available():
        sys.stderr.write("error: torch sees no GPU here: nothing was measured\nhint: `ndrepro doctor` shows why\n")
        return NO_GPU
    end = time.monotonic() + 60 * chosen.minutes
    device = Device(chosen.rehearse)
    document: dict[str, Any] = {
        "device": device.name, "rehearsal": chosen.rehearse, "torch": torch.__version__, "images": device.images,
        "steps": {}, "trail": {}, "graphs": {}, "epochs": {},
    }  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[str, str, Callable[[], Any]]] = [
        *(("steps", arch, lambda arch=arch: steps(device, arch)) for arch in chosen.arch),
        *(("trail", arch, lambda arch=arch: trail(device, arch)) for arch in chosen.arch[:2]),
        *(("graphs", arch, lambda arch=arch: graphs(device, arch)) for arch in chosen.arch[:3]),
    ]
    if chosen.data and not chosen.rehearse:
        left = lambda: max(1.0, end - time.monotonic())  # noqa: E731
        both = ("vgg16", "resnet18")
        parts += [("epochs", arch, lambda arch=arch: epoch(arch, chosen.data, chosen.out, left())) for arch in both]
    for kind, arch, part in parts:
        if time.monotonic() > end:
            print(f"time is up before {kind} of {arch}", flush=True)
            break
        document[kind][arch] = part()
        (chosen.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{kind} of {arch}: done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
