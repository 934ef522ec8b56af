"""Evidence from the other files of a folder: pinned dependencies, containers, instructions, hardware, weights, seeds.

Finders as in ``checklist_code``: evidence with file and line, and nothing where there is nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from ndrepro.checklists.checklist_sources import Evidence, Sources, code_lines, is_test
from provenance.toml_file import parse_toml

_REQUIREMENTS = r"(requirements[\w.-]*|constraints[\w.-]*)\.(txt|in|lock)"
_LOCKS = r"(poetry|uv|pdm|Pipfile|conda|pixi)[\w.-]*\.lock|conda-lock\.ya?ml|package-lock\.json|[\w.-]+\.lock"
_CONTAINERS = r"(Dockerfile|Containerfile)([.\w-]*)?|[\w.-]+\.(def|Dockerfile)|docker-compose\.ya?ml"
_PIN = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)(\[[\w, .-]*\])?\s*(===?)\s*[\w.+!*-]+")
_NAME = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)(\[[\w, .-]*\])?\s*($|[<>~!;#,\[ ])")
_PROGRAMS = (
    r"python3?|make|bash|sh|docker|podman|apptainer|singularity|sbatch|torchrun|accelerate|conda|pip3?|uv|\./[\w./-]+"
)
_COMMAND = re.compile(rf"^\s*[$>]?\s*({_PROGRAMS}|[\w./-]+ (run|train)) +\S")
_HARDWARE = (
    r"\b(V100|A100|H100|H200|P100|T4|L40S?|RTX\s*\w?\d{4}|GTX\s*\d{3,4}|Titan|TPU\s?v?\d?|Xeon|EPYC|Ryzen|Core i\d|"
    r"\d+\s*(GB|GiB)\s+(of\s+)?(RAM|memory|GPU|VRAM)|\d+\s+CPU\s+cores?)\b"
)
_WEIGHTS = r"(https?://\S*|\S*)\.(pth|pt|ckpt|safetensors|h5|npz|onnx)\b|https?://(zenodo\.org|osf\.io|huggingface\.co|drive\.google\.com|figshare\.com)\S*"
_WEIGHT_WORDS = r"pre-?trained|weights|checkpoints?"
_SPREAD = r"±|\\pm|\+/-|standard deviation|standard error|confidence interval|bootstrap|\bstd\b"
_RESULT = r"\|\s*\**\d{1,3}\.\d+\s*%?\**\s*(±[^|]*)?\|"
_SETTING = re.compile(r"learning_rate|lr|batch_size|epochs", re.IGNORECASE)
_SETTING_LINE = rf"^[\s{{,-]*[\"']?\b({_SETTING.pattern})\b[\"']?\s*[:=]\s*[\d\[\"']"
_SEED_KEY = re.compile(r"seeds?(_list)?", re.IGNORECASE)


def pinned(sources: Sources) -> Iterator[Evidence]:
    """Files in which every dependency has one version: locks, and requirements with == throughout."""
    for name in sources.named(_LOCKS):
        if sources.text(name).strip():
            yield Evidence(name, 0, "a lock")
    for name in sources.named(_REQUIREMENTS):
        if name.endswith(".lock"):
            continue
        lines = _requirements(sources.lines_of(name))
        if lines and all(_PIN.match(text) for _, text in lines):
            yield Evidence(name, lines[0][0], f"all {len(lines)} with one version each")
    for name in sources.named(r"environment[\w.-]*\.ya?ml"):
        pins = [text for text in sources.lines_of(name) if re.match(r"\s*-\s*[\w.-]+=+\d", text)]
        loose = [text for text in sources.lines_of(name) if re.match(r"\s*-\s*[\w.-]+\s*$", text)]
        if pins and len(pins) > len(loose):
            yield Evidence(name, 0, f"{len(pins)} packages with a version")


def unpinned(sources: Sources) -> Iterator[Evidence]:
    """Requirements without a version, where no lock has them."""
    if any(sources.named(_LOCKS)):
        return
    for name in sources.named(_REQUIREMENTS):
        for number, text in _requirements(sources.lines_of(name)):
            if not _PIN.match(text):
                yield Evidence(name, number, text.strip()[:100])


def _requirements(text: Sequence[str]) -> list[tuple[int, str]]:
    lines = [(number, line.partition(" #")[0]) for number, line in enumerate(text, 1)]
    return [(number, line) for number, line in lines if _PIN.match(line) or _NAME.match(line)]


def containers(sources: Sources) -> Iterator[Evidence]:
    """Recipes of containers that say what they start from."""
    for name in sources.named(_CONTAINERS):
        yield from list(sources.lines(name, r"^\s*(FROM|From:|Bootstrap:|image:)\s*\S"))[:1]


def floating_images(sources: Sources) -> Iterator[Evidence]:
    """Containers that start from whatever an image's name means today."""
    for name in sources.named(_CONTAINERS):
        matches = (re.match(r"(?i)\s*FROM\s.*\sAS\s+(\S+)", line) for line in sources.lines_of(name))
        stages = {found[1].lower() for found in matches if found}
        for found in sources.lines(name, r"^\s*(FROM|From:)\s*\S"):
            image = re.sub(r"(?i)^(From:|FROM)\s*(--\S+\s+)*", "", found.text).split()[0]
            if image.startswith(("$", "{")) or image.lower() in {"scratch", *stages} or "@sha256:" in image:
                continue
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield found


def readme(sources: Sources) -> Iterator[Evidence]:
    """A README that says something."""
    if sources.readme and len(sources.text(sources.readme).split()) >= 30:
        yield Evidence(sources.readme, 0, f"{len(sources.text(sources.readme).split())} words")


def thin_readme(sources: Sources) -> Iterator[Evidence]:
    """A README of a few words."""
    if sources.readme and len(sources.text(sources.readme).split()) < 30:
        yield Evidence(sources.readme, 0, f"{len(sources.text(sources.readme).split())} words")


def more_documents(sources: Sources) -> Iterator[Evidence]:
    """Documents beside the README."""
    for name in sources.documents():
        words = len(sources.text(name).split())
        if name != sources.readme and words >= 50:
            yield Evidence(name, 0, f"{words} words")


def commands_told(sources: Sources) -> Iterator[Evidence]:
    """Commands in the documents that start something of this folder: in a code block, not as an example of others'."""
    for name in ([sources.readme] if sources.readme else []) + [n for n in sources.documents() if n != sources.readme]:
        lines = sources.lines_of(name)
        for number in code_lines(sources.text(name)):
            line = lines[number - 1]
            if _COMMAND.match(line) and _starts_something(sources, line.strip().lstrip("$> ").split()):
                yield Evidence(name, number, line.strip()[:100])


def _starts_something(sources: Sources, words: list[str]) -> bool:
    """Whether a command names a target, file, module or command that there is."""
    program = PurePosixPath(words[0]).name
    if program == "make":
        asked = [word for word in words[1:] if re.fullmatch(r"[\w.-]+", word) and not word.startswith("-")][:1]
        makefiles = list(sources.named(r"(GNU)?Makefile", anywhere=False))
        return any(not asked or next(sources.lines(name, rf"^{asked[0]}\b[^=]*:"), None) for name in makefiles)
    if program in sources.commands or any(word.removeprefix("./") in sources.files for word in words):
        return True
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    places = [f"{one.replace('.', '/')}{end}" for one in module for end in (".py", "/__main__.py")]
    return any(place in sources.files or f"src/{place}" in sources.files for place in places)


def make_targets(sources: Sources) -> Iterator[Evidence]:
    """Targets of a Makefile at the top that run or train."""
    for name in sources.named(r"(GNU)?Makefile", anywhere=False):
        yield from sources.lines(name, r"^(run|train|reproduce|all|experiments?|test)\b[^=]*:")


def hardware_told(sources: Sources) -> Iterator[Evidence]:
    """Documents that name the hardware."""
    return sources.stated(_HARDWARE)


def licences(sources: Sources) -> Iterator[Evidence]:
    """A licence at the top."""
    for name in sources.named(r"(licen[cs]e|copying)([.-]\w+)*", anywhere=False):
        first = next((line.strip() for line in sources.lines_of(name) if line.strip()), "")
        if first:
            yield Evidence(name, 1, first[:100])


def weights_released(sources: Sources) -> Iterator[Evidence]:
    """Weights that are available: files, or links in lines that speak of weights."""
    for name in sources.named(r".+\.(pth|pt|ckpt|safetensors|h5|onnx)"):
        if not is_test(name):
            yield Evidence(name, 0, "weights")
    for found in sources.stated(_WEIGHTS):
        if re.search(_WEIGHT_WORDS, found.text, re.IGNORECASE) and "http" in found.text:
            yield found


def data_told(sources: Sources) -> Iterator[Evidence]:
    """Documents that say which data are used and where they come from."""
    return sources.stated(r"\b(data ?sets?|training images|splits?)\b")


def data_address(sources: Sources) -> Iterator[Evidence]:
    """Lines that say where data are available."""
    for found in data_told(sources):
        if re.search(r"https?://|download|archive|torchvision|kaggle|zenodo|\bdoi\b", found.text, re.IGNORECASE):
            yield found


def configurations(sources: Sources) -> Iterator[Evidence]:
    """Files of settings that set a learning rate, batch size or epochs: as a key with a value, not in a text."""
    for name in sources.files:
        suffix = PurePosixPath(name).suffix
        if suffix not in (".toml", ".yaml", ".yml", ".json") or is_test(name):
            continue
        line = next(sources.lines(name, _SETTING_LINE), None)
        if line and (suffix in (".yaml", ".yml") or _holds(_document(sources, name), _is_setting)):
            yield line


def _document(sources: Sources, name: str) -> Any:
    """A file of TOML or JSON as a value; None for what is neither."""
    try:
        return parse_toml(sources.text(name)) if name.endswith(".toml") else json.loads(sources.text(name))
    except (ValueError, RecursionError):
        return None


def _holds(value: Any, wanted: Callable[[str, Any], bool]) -> bool:
    """Whether somewhere in a document a member, by its key and value, is ``wanted``."""
    if isinstance(value, dict):
        return any(wanted(str(key), item) or _holds(item, wanted) for key, item in value.items())
    return isinstance(value, list) and any(_holds(item, wanted) for item in value)


def _is_setting(key: str, value: Any) -> bool:
    """Whether it is a setting of training: a number, a text or a list of them."""
    return _SETTING.fullmatch(key) is not None and isinstance(value, int | float | str | list)


def _is_seed_list(key: str, value: Any) -> bool:
    return _SEED_KEY.fullmatch(key) is not None and isinstance(value, list) and len(set(map(str, value))) > 1


def many_seeds(sources: Sources) -> Iterator[Evidence]:
    """Settings that run more than one seed: a list of seeds in TOML, JSON or YAML."""
    for name in sources.files:
        suffix = PurePosixPath(name).suffix
        if is_test(name) or suffix not in (".toml", ".json", ".yaml", ".yml"):
            continue
        if suffix in (".yaml", ".yml"):
            yield from sources.lines(name, r"^\s*seeds?\s*:\s*\[[^\]]*,[^\]]*\]")
            continue
        if _holds(_document(sources, name), _is_seed_list):
            yield next(sources.lines(name, r"\bseeds?\b\"?\s*[=:]\s*\["), Evidence(name, 0, "a list of seeds"))


def many_environments(sources: Sources) -> Iterator[Evidence]:
    """Locks or test matrices of more than one version of a library or interpreter."""
    by_folder: dict[str, list[str]] = {}
    for name in sources.named(r"[\w.-]*\d+\.\d+[\w.-]*\.(lock|txt|ya?ml)"):
        by_folder.setdefault(str(PurePosixPath(name).parent), []).append(name)
    for folder, names in by_folder.items():
        if len(names) > 1:
            yield Evidence(names[0], 0, f"one of {len(names)} environments in {folder}")
    for name in sources.named(r"tox\.ini|noxfile\.py"):
        yield from sources.lines(name, r"envlist\s*=.*,|parametrize\(.*,")
    for name in (name for name in sources.files if name.startswith(".github/workflows/")):
        yield from sources.lines(name, r"(python|torch)[\w-]*\s*:\s*\[[^\]]*,")


def spread_told(sources: Sources) -> Iterator[Evidence]:
    """Results with a spread: a line with a number that speaks of one."""
    return sources.stated(rf"^(?=.*\d).*({_SPREAD})")


def results_told(sources: Sources) -> Iterator[Evidence]:
    """Tables of results in the documents."""
    return sources.stated(_RESULT)


def bare_results(sources: Sources) -> Iterator[Evidence]:
    """Tables of results where no document reports any spread."""
    return iter(()) if any(spread_told(sources)) else results_told(sources)


def notebooks_only(sources: Sources) -> Iterator[Evidence]:
    """Training in a notebook, and no script at all."""
    if not any(name.endswith(".py") for name in sources.files):
        for name in sources.named(r".+\.ipynb"):
            if re.search(r"\.backward\(|\.fit\(", sources.text(name)):
                yield Evidence(name, 0, "a notebook, and no script")


def archive_links(sources: Sources) -> Iterator[Evidence]:
    """A DOI or an archive's identifier in the project's own papers."""
    identifier = r"^\s*-?\s*(doi|identifiers?)\s*:\s*\"?10\.|zenodo\.org/(badge|doi|record)|swh:1:"
    if sources.readme:
        yield from sources.statements(sources.readme, identifier)
    for name in sources.named(r"CITATION(\.\w+)?|codemeta\.json|\.zenodo\.json", anywhere=False):
        yield from sources.lines(name, identifier)


def public_address(sources: Sources) -> Iterator[Evidence]:
    """Where the code is available: CITATION.cff's repository, or a link to a host of code in the README."""
    for name in sources.named(r"CITATION\.cff", anywhere=False):
        yield from sources.lines(name, r"^(repository-code|repository|url)\s*:\s*\S")
    if sources.readme:
        yield from sources.lines(sources.readme, r"git clone \S+|https://(github|gitlab|codeberg)\.\w+/\S+/\S+")


def bibliographies(sources: Sources) -> Iterator[Evidence]:
    """Files of BibTeX."""
    for name in sources.named(r".+\.bib"):
        yield Evidence(name, 0, "BibTeX")


def tests(sources: Sources) -> Iterator[Evidence]:
    """Tests, and what runs them."""
    found = [name for name in sources.files if is_test(name) and PurePosixPath(name).name.startswith("test_")]
    if found:
        yield Evidence(found[0], 0, f"one of {len(found)} files of tests")
