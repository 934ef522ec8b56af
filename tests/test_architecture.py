"""Who may import whom, read from the source itself.

Every rule is a function from a source tree to the sentences that it would complain with. Each is asked twice:
about this project, where it must be silent, and about a small tree doctored to break it, where it must speak.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("provenance", "ndrepro")


@dataclass(frozen=True)
class Wall:
    """What the modules below a name may import: of this project, with what is below it, and of others."""

    own: frozenset[str]
    others: frozenset[str]


def wall(own: str = "", others: str = "") -> Wall:
    return Wall(frozenset(own.split()), frozenset(others.split()))


# The longest name that a module is, or is below, counts.
WALLS: dict[str, Wall] = {
    "provenance": wall("provenance", "psutil pynvml securesystemslib cryptography"),
    "provenance.formats.trail": wall("provenance", "numpy"),
    "provenance.timestamps": wall("provenance", "cryptography rfc3161_client"),
    "provenance.keyless": wall("provenance", "cryptography sigstore"),
    # Runs inside other people's programs: what is copied with it, and nothing else of this project.
    "provenance.hook": wall("provenance.hook provenance.formats.fingerprint provenance.formats.trail_header", "numpy"),
    "provenance.hook.sitecustomize": wall("", "ndrepro_hook"),
    "provenance.formats.fingerprint": wall("provenance", "numpy"),
    "provenance.formats.state_digest": wall("provenance", "numpy"),
    # __main__ starts the command line; the initialiser looks the public names up, deconvolve where torch is imported
    "ndrepro": wall(
        "ndrepro.cli ndrepro.api ndrepro.training.deconv_kernels.conversion provenance.recording.script_run"
    ),
    "ndrepro.api": wall("ndrepro.reproduction ndrepro.execution ndrepro.analysis ndrepro.protocol provenance"),
    "ndrepro.protocol": wall("ndrepro.protocol provenance.errors provenance.formats.strict_json"),
    # Reads what a training process wrote, which may be anything.
    "ndrepro.protocol.messages": wall(
        "ndrepro.protocol provenance.errors provenance.formats.atomic_io provenance.formats.bounded_read "
        "provenance.formats.canonical_json provenance.formats.strict_json"
    ),
    # Reads and writes the parts of a manifest that are training's own.
    "ndrepro.protocol.training_record": wall(
        "ndrepro.protocol provenance.errors provenance.attestation.manifest provenance.capture.unavailable"
    ),
    # The same for the manifest of a recorded program.
    "ndrepro.protocol.program_record": wall(
        "ndrepro.protocol provenance.attestation.manifest provenance.capture.unavailable"
    ),
    # Shapes of what recorders write.
    "ndrepro.protocol.recorded": wall(
        "ndrepro.protocol provenance.errors provenance.attestation.manifest provenance.capture.environment "
        "provenance.capture.unavailable provenance.formats.strict_json"
    ),
    "ndrepro.protocol.run_kind": wall("ndrepro.protocol provenance.attestation.manifest"),
    # Reads weights and checkpoints without torch.
    "ndrepro.protocol.training_state": wall(
        "ndrepro.protocol provenance.errors provenance.formats.canonical_json provenance.formats.metrics_log "
        "provenance.formats.state_digest",
        "safetensors",
    ),
    "ndrepro.training": wall(
        "ndrepro ndrepro.training ndrepro.protocol provenance.errors provenance.capture.environment "
        "provenance.capture.unavailable provenance.code.foreign_code "
        "provenance.formats.atomic_io provenance.formats.canonical_json provenance.formats.digest "
        "provenance.formats.digest_cache provenance.formats.fingerprint provenance.formats.metrics_log "
        "provenance.formats.state_digest provenance.formats.trail",
        "numpy torch torchvision PIL safetensors",
    ),
    # Folders that Hugging Face's datasets wrote, which may be anybody's.
    "ndrepro.training.data.own_data.saved_dataset": wall(
        "ndrepro.training.data ndrepro.protocol provenance.errors provenance.formats.bounded_read "
        "provenance.formats.canonical_json",
        "numpy pyarrow",
    ),
    "ndrepro.training.data.own_data.arrow_stream": wall("ndrepro.protocol", "pyarrow"),
    # Only MATLAB files need it; what trains does not compute with it.
    "ndrepro.training.data.readers.matlab": wall("ndrepro.protocol", "scipy"),
    "ndrepro.execution": wall(
        "ndrepro ndrepro.execution ndrepro.text ndrepro.protocol provenance", "docker submitit optuna psutil"
    ),
    # Shows what somebody else's program prints.
    "ndrepro.execution.programs.output_streams": wall("ndrepro.text"),
    # Reads the files of events that a program wrote.
    "ndrepro.execution.programs.metrics_files": wall("ndrepro.execution ndrepro.protocol provenance", "tensorboard"),
    "ndrepro.execution.environments.doctor": wall("ndrepro.execution ndrepro.protocol provenance", "psutil"),
    # Which pins of the lock are for this platform.
    "ndrepro.execution.environments.main_environment": wall(
        "ndrepro.execution ndrepro.protocol provenance", "packaging"
    ),
    "ndrepro.reproduction": wall(
        "ndrepro.reproduction ndrepro.execution ndrepro.analysis ndrepro.protocol ndrepro.text provenance"
    ),
    # Callbacks for other libraries' trainers.
    "ndrepro.integrations": wall(
        "ndrepro.integrations ndrepro.protocol provenance.recording provenance.formats.folder_tree",
        "lightning transformers",
    ),
    "ndrepro.text": wall("ndrepro.text"),
    # Opens the file that it looks at.
    "ndrepro.text.plain_text": wall("ndrepro.text.visible provenance.formats.bounded_read"),
    "ndrepro.analysis": wall(
        "ndrepro.analysis ndrepro.text ndrepro.protocol provenance", "numpy scipy pandas statsmodels threadpoolctl"
    ),
    # The one place at which runs that are read get the checks of their contents.
    "ndrepro.analysis.content_checks": wall("ndrepro.execution.verification ndrepro.protocol provenance"),
    # Measures the distance between two networks' weights.
    "ndrepro.analysis.verdicts.reproduction_evidence": wall("ndrepro.analysis ndrepro.protocol provenance", "numpy"),
    "ndrepro.report": wall(
        "ndrepro.report ndrepro.checklists ndrepro.analysis ndrepro.text ndrepro.protocol provenance",
        "numpy jinja2 markupsafe matplotlib",
    ),
    # Formats of other tools; MLflow is written through its own client, where that is installed.
    "ndrepro.exports": wall("ndrepro.exports ndrepro.text ndrepro.protocol provenance"),
    "ndrepro.exports.mlflow_run": wall("ndrepro.exports ndrepro.protocol provenance", "mlflow"),
    "ndrepro.exports.tensorboard_events": wall("ndrepro.exports ndrepro.protocol provenance", "tensorboard"),
    "ndrepro.checklists": wall("ndrepro.checklists ndrepro.analysis ndrepro.text ndrepro.protocol provenance"),
    "ndrepro.cli": wall(
        "ndrepro ndrepro.api ndrepro.cli ndrepro.protocol ndrepro.execution ndrepro.analysis ndrepro.report "
        "ndrepro.checklists ndrepro.exports ndrepro.text provenance",
        "typer rich",
    ),
}

# Names that Python 3.10 lacks, by module: the inner half also runs there.
NEWER_THAN_3_10 = {
    "tomllib": {"*"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "verify", "global_enum"},
    "typing": {
        "Self",
        "LiteralString",
        "Never",
        "Required",
        "NotRequired",
        "Unpack",
        "assert_never",
        "assert_type",
    },
    "hashlib": {"file_digest"},
    "contextlib": {"chdir"},
    "itertools": {"batched"},
    "builtins": {"ExceptionGroup", "BaseExceptionGroup"},
}

# The package initialisers that define a function, and why.
DOORS = {
    "provenance": "looks provenance.record up on first use",
    "ndrepro": "looks the public names up on first use",
    "ndrepro.cli": "the console script's main",
    "ndrepro.training.models": "models.build, the door to the networks",
}

# What the two packages' initialisers import on first use of a public name only, which no module of theirs uses.
LAZY = {
    "provenance": {"provenance.recording.script_run"},
    "ndrepro": {"ndrepro.api", "ndrepro.training.deconv_kernels.conversion", "provenance.recording.script_run"},
}


@dataclass(frozen=True)
class Import:
    """One name that a module imports, as far as this project's own modules can resolve it."""

    target: str
    line: int

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


class Sources:
    """The parsed modules of a tree, by dotted name; a package is named by its folder."""

    def __init__(self, root: Path) -> None:
        self.trees: dict[str, ast.Module] = {}
        self.texts: dict[str, str] = {}
        self.packages: set[str] = set()
        for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if parts[-1] == "__init__":
                self.packages.add(name)
            self.texts[name] = path.read_text(encoding="utf-8")
            self.trees[name] = ast.parse(self.texts[name], str(path))

    def imports(self, module: str) -> Iterator[Import]:
        """Everything that ``module`` imports, at its top or inside a function, by statement or by name."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(module, node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(inner if inner in self.trees else base, node.lineno)
            elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
                yield from (Import(str(arg.value), node.lineno) for arg in node.args if isinstance(arg, ast.Constant))

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = module.split(".") if module in self.packages else module.split(".")[:-1]
        return ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])

    def own_imports(self, module: str) -> set[str]:
        return {each.target for each in self.imports(module) if each.target in self.trees}

    def loaded_imports(self, module: str) -> set[str]:
        """What is loaded with ``module``: its imports of this project without those for a public name's first use."""
        return self.own_imports(module) - LAZY.get(module, set())


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _below(name: str, ancestors: frozenset[str] | Mapping[str, object]) -> str | None:
    """The longest of ``ancestors`` that ``name`` is, or is below."""
    parts = name.split(".")
    return next((head for n in range(len(parts), 0, -1) if (head := ".".join(parts[:n])) in ancestors), None)


def imports_across_walls(sources: Sources) -> Iterator[str]:
    for module in sources.trees:
        limits = WALLS[_below(module, WALLS) or ""]
        for each in sources.imports(module):
            if each.top in PACKAGES:
                # "ndrepro" itself stands for its version, not for all that is below it.
                entry = _below(each.target, limits.own - {"ndrepro"}) or (each.target == "ndrepro" in limits.own)
                if not entry:
                    yield f"{module}:{each.line} imports {each.target}"
            elif each.top not in sys.stdlib_module_names and each.top not in limits.others:
                yield f"{module}:{each.line} imports {each.top}, which is not for {_below(module, WALLS)}"


def doors_into_training(sources: Sources) -> Iterator[str]:
    for module in sources.trees:
        if not module.startswith("ndrepro.training"):
            for each in sources.imports(module):
                public = module == "ndrepro" and each.target in LAZY["ndrepro"]
                if f"{each.target}.".startswith("ndrepro.training.") and not public:
                    yield f"{module}:{each.line} imports {each.target}; its only door is a process"


def torch_outside_training(sources: Sources) -> Iterator[str]:
    for module in sources.trees:
        if not module.startswith("ndrepro.training"):
            for each in sources.imports(module):
                if each.top in ("torch", "torchvision"):
                    yield f"{module}:{each.line} imports {each.top}"


def keys_outside_the_recorder(sources: Sources) -> Iterator[str]:
    for module in sources.trees:
        if not module.startswith(("provenance", "ndrepro.execution")):
            for each in sources.imports(module):
                if each.top in ("securesystemslib", "cryptography"):
                    yield f"{module}:{each.line} handles keys through {each.top}"


# What a stranger's folder or its content turns against its caller, and the module that does it safely.
SAFE_FORMS = {
    "os.walk": "provenance.formats.folder_tree",
    "os.fwalk": "provenance.formats.folder_tree",
    "shutil.rmtree": "provenance.formats.folder_tree",
    "TemporaryDirectory": "provenance.formats.folder_tree",
    "rglob": "provenance.formats.folder_tree",
    "shutil.which": "provenance.system_programs",
}
STARTS_A_PROGRAM = re.compile(r"(subprocess\.)?(run|Popen|check_call|check_output|call)|os\.(exec|spawn|posix_spawn).*")


def unsafe_forms(sources: Sources) -> Iterator[str]:
    """Recursive walks and removals, programs that are found by any entry of PATH, a Python that imports modules of the
    current folder. Training's own calls are in its sandbox."""
    for module, tree in sources.trees.items():
        if module.startswith("ndrepro.training"):
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            for form, home in SAFE_FORMS.items():
                if module != home and (name == form or name.endswith(f".{form}")):
                    yield f"{module}:{call.lineno} calls {form}, which {home} replaces"
            first = call.args[0] if call.args and STARTS_A_PROGRAM.fullmatch(name) else None
            word = first.elts[0] if isinstance(first, ast.List | ast.Tuple) and first.elts else first
            if isinstance(word, ast.Constant) and not str(word.value).startswith("/"):
                yield f"{module}:{call.lineno} starts {word.value!r} by its name, not by find_program"
        for words in (node.elts for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple)):
            flags = {each.value for each in words if isinstance(each, ast.Constant)}
            if words and ast.unparse(words[0]) == "sys.executable" and "-m" in flags and not flags & {"-P", "-I"}:
                yield f"{module}:{words[0].lineno} imports modules of the current folder: -P"


def cycles(sources: Sources) -> Iterator[str]:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield " → ".join([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(sources.loaded_imports(module)):
                yield from visit(target, (*path, module))
            done.add(module)

    for module in sources.trees:
        yield from visit(module, ())


def busy_initialisers(sources: Sources) -> Iterator[str]:
    for package in sources.packages:
        body = sources.trees[package].body
        if ast.get_docstring(sources.trees[package]) is None:
            yield f"{package}/__init__.py has no docstring"
        for node in body[1:]:
            if isinstance(node, ast.FunctionDef) and package in DOORS:
                continue
            if (
                isinstance(node, ast.If)
                and ast.unparse(node.test)
                in (
                    "TYPE_CHECKING",
                    "typing.TYPE_CHECKING",
                )
                and (not node.orelse or package in DOORS)
            ):
                continue
            value = getattr(node, "value", None)
            plain = isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Constant)
            if isinstance(node, ast.Import | ast.ImportFrom) or (
                isinstance(node, ast.Assign | ast.AnnAssign) and plain
            ):
                continue
            yield f"{package}/__init__.py:{node.lineno} does work: {ast.unparse(node).splitlines()[0]}"


def inner_half(sources: Sources) -> set[str]:
    """Training, and all of this project that is loaded with it: imports, and the packages around them."""
    found: set[str] = set()
    waiting = [
        module for module in sources.trees if f"{module}.".startswith(("ndrepro.training.", "ndrepro.protocol."))
    ]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            parts = module.split(".")
            parents = {".".join(parts[:n]) for n in range(1, len(parts))}
            waiting += sorted(sources.loaded_imports(module) | (parents & set(sources.trees)))
    return found


def too_new_for_the_inner_half(sources: Sources) -> Iterator[str]:
    for module in sorted(inner_half(sources)):
        try:
            tree = ast.parse(sources.texts[module], module, feature_version=(3, 10))
        except SyntaxError as error:
            yield f"{module}:{error.lineno} does not parse under Python 3.10: {error.msg}"
            continue
        for node in ast.walk(tree):
            for place, name in _names_used(node):
                if NEWER_THAN_3_10.get(place, set()) & {name, "*"}:
                    yield f"{module}:{node.lineno} uses {place}.{name}, which Python 3.10 lacks"


def _names_used(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, "*") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((node.module or "", alias.name) for alias in node.names)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        yield node.value.id, node.attr
    elif isinstance(node, ast.Name):
        yield "builtins", node.id


def rooms(sources: Sources) -> dict[str, str]:
    """The room of each module: its folder, or the module itself where it stands beside rooms, at a package's top."""
    divided = {package.rpartition(".")[0] for package in sources.packages if "." in package}
    found = {}
    for module in sources.trees:
        folder = module if module in sources.packages else module.rpartition(".")[0]
        found[module] = module if folder in divided and module not in sources.packages else folder
    return found


def room_arrows(sources: Sources) -> dict[str, set[str]]:
    """Which rooms each room imports, initialisers left out: they hold docstrings and public names."""
    room_of = rooms(sources)
    arrows: dict[str, set[str]] = {}
    for module in sources.trees:
        targets = {room_of[target] for target in sources.own_imports(module)} - {room_of[module]}
        if module not in sources.packages or room_of[module] not in {
            each.rpartition(".")[0] for each in sources.packages
        }:
            arrows.setdefault(room_of[module], set()).update(targets)
    return arrows


def circles_of_rooms(sources: Sources) -> Iterator[str]:
    arrows = room_arrows(sources)
    done: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> Iterator[str]:
        if room in path:
            yield " → ".join([*path[path.index(room) :], room])
        elif room not in done:
            for target in sorted(arrows.get(room, ())):
                yield from visit(target, (*path, room))
            done.add(room)

    for room in arrows:
        yield from visit(room, ())


def class_names_of_two_meanings(sources: Sources) -> Iterator[str]:
    """Classes of one name in two modules; a private class may be called as another one is."""
    places: dict[str, list[str]] = {}
    for module, tree in sources.trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    for name, modules in places.items():
        if len(modules) > 1:
            yield f"{name} is a class of {' and of '.join(modules)}"


def crowded_folders(sources: Sources) -> Iterator[str]:
    """Folders of more modules than a reader takes in at once; networks and commands are one file each by nature."""
    count = Counter(module.rpartition(".")[0] for module in sources.trees if module not in sources.packages)
    for folder, number in count.items():
        if number > 15 and folder not in ("ndrepro.training.models", "ndrepro.cli.commands"):
            yield f"{folder} has {number} modules, more than 15"


Rule = Callable[[Sources], Iterator[str]]
PACKAGE_FILES = {
    "provenance/__init__.py": '"""The recorder."""\n',
    "provenance/errors.py": "",
    "provenance/attestation/__init__.py": '"""What is signed."""\n',
    "provenance/attestation/dsse.py": "import cryptography\nfrom provenance import errors\n",
    "ndrepro/__init__.py": '"""The experiments."""\n__version__ = "0"\n',
    "ndrepro/protocol/__init__.py": '"""What both halves agree on."""\n',
    "ndrepro/protocol/layout.py": "from provenance.errors import ProvenanceError\n",
    "ndrepro/training/__init__.py": '"""Trains."""\nDATASETS = {"a": 1}\n',
    "ndrepro/training/trainer.py": "import torch\nfrom ..protocol import layout\n",
    "ndrepro/execution/__init__.py": '"""Launches."""\n',
    "ndrepro/execution/runs/__init__.py": '"""One run."""\n',
    "ndrepro/execution/runs/run.py": (
        "from ndrepro.protocol import layout\nfrom provenance.attestation import dsse\nclass Runner: ...\n"
    ),
}
BROKEN: list[tuple[Rule, str, str]] = [
    (imports_across_walls, "ndrepro/protocol/layout.py", "import numpy"),
    (imports_across_walls, "ndrepro/protocol/layout.py", "from provenance.attestation import dsse"),
    (imports_across_walls, "provenance/errors.py", "import numpy"),
    (imports_across_walls, "provenance/errors.py", "from ndrepro.protocol import layout"),
    (imports_across_walls, "ndrepro/training/trainer.py", "from ..execution.runs.run import x"),
    (imports_across_walls, "ndrepro/training/trainer.py", "import provenance.attestation.dsse"),
    (imports_across_walls, "ndrepro/execution/runs/run.py", "def f():\n    import typer"),
    (doors_into_training, "ndrepro/execution/runs/run.py", "from ndrepro.training import trainer"),
    (doors_into_training, "ndrepro/__init__.py", "from ndrepro.training import trainer"),
    (
        doors_into_training,
        "ndrepro/execution/runs/run.py",
        "import importlib\nimportlib.import_module('ndrepro.training')",
    ),
    (torch_outside_training, "ndrepro/execution/runs/run.py", "def f():\n    from torch import nn"),
    (keys_outside_the_recorder, "ndrepro/protocol/layout.py", "from securesystemslib import signer"),
    (unsafe_forms, "ndrepro/execution/runs/run.py", "import os\nlist(os.walk('.'))"),
    (unsafe_forms, "ndrepro/protocol/layout.py", "from pathlib import Path\nlist(Path('x').rglob('*'))"),
    (unsafe_forms, "provenance/errors.py", "from tempfile import TemporaryDirectory\nTemporaryDirectory()"),
    (unsafe_forms, "provenance/errors.py", "import shutil\nshutil.which('git')"),
    (unsafe_forms, "ndrepro/execution/runs/run.py", "import subprocess\nsubprocess.run(['git', 'status'])"),
    (unsafe_forms, "provenance/errors.py", "import sys\nwords = [sys.executable, '-m', 'ndrepro']"),
    (cycles, "ndrepro/protocol/layout.py", "from ndrepro.execution.runs import run"),
    (cycles, "provenance/errors.py", "def f():\n    from .attestation import dsse"),
    (circles_of_rooms, "provenance/attestation/dsse.py", "from ndrepro.execution.runs import run"),
    (class_names_of_two_meanings, "provenance/errors.py", "class Runner: ..."),
    (busy_initialisers, "ndrepro/execution/__init__.py", "print('hello')"),
    (busy_initialisers, "ndrepro/execution/__init__.py", "def f(): pass"),
    (busy_initialisers, "ndrepro/execution/__init__.py", "if TYPE_CHECKING:\n    import re\nelse:\n    print('hello')"),
    (too_new_for_the_inner_half, "provenance/errors.py", "import tomllib"),
    (too_new_for_the_inner_half, "provenance/__init__.py", "from datetime import UTC"),
    (
        too_new_for_the_inner_half,
        "ndrepro/training/trainer.py",
        "import hashlib\nhashlib.file_digest(f, 'sha256')",
    ),
    (too_new_for_the_inner_half, "ndrepro/protocol/layout.py", "try:\n    x()\nexcept* OSError:\n    pass"),
]
RULES: list[Rule] = list(dict.fromkeys(rule for rule, _, _ in BROKEN))


def rule_name(value: object) -> str:
    return getattr(value, "__name__", str(value).splitlines()[-1].strip())


@pytest.fixture
def sound_tree(tmp_path: Path) -> Path:
    """A tree in miniature that keeps every rule."""
    for name, text in PACKAGE_FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def project() -> Sources:
    return Sources(ROOT)


@pytest.mark.parametrize("rule", [*RULES, crowded_folders], ids=rule_name)
def test_this_project_keeps(rule: Rule, project: Sources) -> None:
    assert list(rule(project)) == []


@pytest.mark.parametrize(("rule", "file", "line"), BROKEN, ids=rule_name)
def test_a_doctored_tree_is_caught_by(rule: Rule, file: str, line: str, sound_tree: Path) -> None:
    assert list(rule(Sources(sound_tree))) == [], "the miniature itself must keep the rule"
    with (sound_tree / file).open("a", encoding="utf-8") as module:
        module.write(f"{line}\n")
    assert list(rule(Sources(sound_tree)))


def test_every_package_has_a_wall(project: Sources) -> None:
    packages = project.packages
    assert {package for package in packages if package.startswith("ndrepro") and package.count(".") <= 1} <= set(WALLS)
    assert {"provenance", "ndrepro.protocol", "ndrepro.training", "ndrepro.execution", "ndrepro.cli"} <= packages


def rooms_of_the_page(sources: Sources) -> list[str]:
    """The list in docs/explanation/architecture.md, ``room -> rooms of the same package``, package names left out."""
    lines = []
    for room, targets in sorted(room_arrows(sources).items()):
        package = ".".join(room.split(".")[: 2 if room.startswith("ndrepro.") else 1])
        inside = sorted(target.removeprefix(f"{package}.") for target in targets if target.startswith(f"{package}."))
        lines.append(f"{room:34} -> {' '.join(inside)}" if inside else room)
    return lines


def test_the_architecture_page_lists_the_rooms_and_their_arrows(project: Sources) -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    listed = page.rpartition("```text\n")[2].partition("```")[0].splitlines()
    assert listed == rooms_of_the_page(project)


# Traces of the machine or the network that something was written on, put together so that this file has none.
WORK, HOME, INDEX, OPTION = "/" + "work/", "/" + "root/", "py" + "pi.org/" + "simple", "--index" + "-url "
TRACES = {
    "a folder of one machine": re.compile(rf"(?<![\w.$}}~-])(?:{WORK}|{HOME}|/home/[a-z]+/)"),
    "a package index": re.compile(f"(?i){INDEX}|python{'hosted'}|{OPTION}|--extra-index{'-url'}"),
}


def traces(root: Path) -> Iterator[str]:
    """Committed and about-to-be-committed text files of ``root`` that hold a trace."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout.decode().split("\0")
    for path in (root / name for name in names if name):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # not text, or deleted and not yet committed
        for number, line in enumerate(lines, start=1):
            for what, pattern in TRACES.items():
                if pattern.search(line):
                    yield f"{path.relative_to(root)}:{number} names {what}: {line.strip()[:80]}"


def test_no_committed_file_names_this_machine() -> None:
    assert list(traces(ROOT)) == []


@pytest.mark.parametrize("line", [f"cd {WORK}main", f"see '{HOME}.cache'", f"{OPTION}https://a.b/", f"https://{INDEX}"])
def test_a_file_that_names_a_machine_is_caught(line: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "fine.txt").write_text("python -m ndrepro run; frame/work/x; $HOME/.cache\n", encoding="utf-8")
    assert list(traces(tmp_path)) == []
    (tmp_path / "notes.txt").write_text(f"first\n{line}\n", encoding="utf-8")
    assert [found.split(" ")[0] for found in traces(tmp_path)] == ["notes.txt:2"]
