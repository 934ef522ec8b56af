"""A training process that trains nothing and writes what it likes: one program with a behaviour for each attack.

``code_of`` makes the packages that the parent is told to train with. The program first writes the files of a run that
completed, sound and small, and then does its mischief in the run folder.
"""

from __future__ import annotations

from pathlib import Path

# what a training process writes and its parent reads
FILES = ("environment.json", "dataset.json", "model.json", "metrics.jsonl", "timing.jsonl", "trail.bin", "result.json")

_PROGRAM = """
import json, math, os, signal, socket, struct, subprocess, sys, time

FILES = {files!r}
root = sys.argv[1]
os.chdir(root)
request = json.load(open("request.json"))
asked = request["experiment"]
seal = {{"environment": {{"distributions": {{"installed": []}}}}, "flags": {{}}, "libraries": {{}}, "usage": {{}}}}
steps = -(-asked["train_images"] // asked["batch_size"])
row = {{"epoch": 1, "step": steps, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5,
       "learning_rate": 0.5 * asked["learning_rate"] * (1 + math.cos(math.pi * (steps - 1) / steps))}}
timing = dict.fromkeys(["train_seconds", "test_seconds", "trail_seconds"], 0.01)
timing |= {{"epoch": 1, "images_per_second": asked["train_images"] / 0.01}}
timing |= {{"peak_memory_bytes": 1, "peak_device_memory_bytes": 0}}
kinds = ["trainable_parameters", "buffers", "linear_layers", "delinear_layers"]
kinds += ["conv2d_layers", "deconv2d_layers", "batchnorm2d_layers"]
result = {{"outcome": "completed", "epochs": 1, "steps": steps, "device": "cpu", "error": None}}
header = json.dumps({{"schema": "urn:ndrepro:trail:v1", "tensors": []}}, separators=(",", ":")).encode()
records = b"".join(struct.pack("<Qd", step, float(step > 0)) for step in range(steps + 1))
header += b" " * (-(12 + len(header)) % 64)

said = json.dumps({{"experiment": os.path.basename(os.path.dirname(os.getcwd())), "steps": steps}})
weights = json.dumps({{"__metadata__": {{"ndrepro": said}}}}, separators=(",", ":")).encode()
weights += b" " * (-len(weights) % 8)

def written(document):
    return json.dumps(document, indent=1) + "\\n"

contents = {{
    "environment.json": written({{"start": seal, "end": seal}}),
    "dataset.json": written({{"name": asked["dataset"], "reader": "none", "classes": ["a"] * 10, "files": 1,
        "bytes": 1, "train_images": asked["train_images"], "test_images": asked["test_images"],
        "canonical": False, "tree_sha256": "ab" * 32, "pixels_sha256": {{"train": "12" * 32, "test": "34" * 32}}}}),
    "model.json": written({{"summary": dict.fromkeys(kinds, 0), "layers": [], "tensors": {{}}}}),
    "metrics.jsonl": json.dumps(row) + "\\n",
    "timing.jsonl": json.dumps(timing) + "\\n",
    "trail.bin": (b"NDTRAIL\\x01" + struct.pack("<I", len(header)) + header + records).decode("latin-1"),
    "weights.safetensors": (struct.pack("<Q", len(weights)) + weights).decode("latin-1"),
    "result.json": written(result),
}}

def put(name, text):
    if os.path.lexists(name):
        os.unlink(name)
    with open(name, "w", encoding="latin-1") as stream:
        stream.write(text)

def everywhere(make):
    for name in FILES:
        os.unlink(name)
        make(name)

for name in contents:
    put(name, contents[name])
{mischief}
time.sleep({seconds})
sys.exit({code})
"""


def code_of(into: Path, mischief: str = "", *, seconds: float = 0.5, code: int = 0) -> Path:
    """Packages whose training process does that mischief, lives on for ``seconds``, and ends with the exit code."""
    for package in ("ndrepro", "ndrepro/training", "provenance"):
        (into / package).mkdir(parents=True)
        (into / package / "__init__.py").touch()
    program = _PROGRAM.format(files=FILES, mischief=mischief, seconds=seconds, code=code)
    (into / "ndrepro" / "training" / "__main__.py").write_text(program, encoding="utf-8")
    return into
