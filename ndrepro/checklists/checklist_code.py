"""Evidence from Python code, read from its syntax tree: seeds really set, training, testing, networks, data, weights.

A comment, a name or a text that says "seed" is no evidence; a call that sets one is. Every finder yields evidence
with file and line, and nothing where there is nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator

from ndrepro.checklists.checklist_sources import Evidence, Module, Sources

# calls that set a generator's seed: dotted name, or the last part for a method of some object
_SEEDERS = {
    "random.seed", "numpy.random.seed", "torch.manual_seed", "torch.random.manual_seed", "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all", "tensorflow.random.set_seed", "tensorflow.set_random_seed",
    "keras.utils.set_random_seed",
    "tensorflow.keras.utils.set_random_seed", "pytorch_lightning.seed_everything", "lightning.seed_everything",
    "lightning.pytorch.seed_everything", "transformers.set_seed", "accelerate.utils.set_seed", "jax.random.PRNGKey",
    "jax.random.key",
}  # fmt: skip
_GENERATORS = {
    "random.Random", "numpy.random.RandomState", "numpy.random.default_rng", "numpy.random.SeedSequence",
    "numpy.random.PCG64", "numpy.random.MT19937", "numpy.random.Philox",
}  # fmt: skip
_FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax", "sklearn", "mxnet", "lightning", "pytorch_lightning")
_MODULES = {"Module", "LightningModule", "Model", "Layer"}
_HARDWARE = {
    "torch.cuda.get_device_name", "torch.cuda.get_device_properties", "platform.processor", "pynvml.nvmlInit",
    "psutil.virtual_memory", "tensorflow.config.list_physical_devices", "pynvml.nvmlDeviceGetName",
}  # fmt: skip
_SAVERS = {
    "torch.save", "safetensors.torch.save_file", "safetensors.torch.save_model", "safetensors.numpy.save_file",
    "joblib.dump", "torch.jit.save",
}  # fmt: skip
_DATA_CLASSES = {"Dataset", "IterableDataset", "VisionDataset", "LightningDataModule"}
_HEX = re.compile(r"([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\Z")
_ABSOLUTE = re.compile(r"(/home/|/Users/|/mnt/|/data\d*/|/scratch/|[A-Z]:\\\\?)\w")
_SETTINGS = re.compile(r"-*(lr|learning[_-]rate|batch[_-]size|epochs|weight[_-]decay|momentum|optimi[sz]er)\Z")


def seeds_set(sources: Sources) -> Iterator[Evidence]:
    """Calls that give a random generator a seed of its own."""
    seeders = {*_SEEDERS, *_GENERATORS}
    return _calls(sources, lambda name, call: (name in seeders or name.endswith(".manual_seed")) and _fixed(call))


def seeds_not_fixed(sources: Sources) -> Iterator[Evidence]:
    """Generators that are made, or seeds that are set, from nothing or from the clock."""
    seeders = {*_SEEDERS, *_GENERATORS}
    return _calls(sources, lambda name, call: name in seeders and not _fixed(call))


def _calls(sources: Sources, wanted: Callable[[str, ast.Call], bool]) -> Iterator[Evidence]:
    """Every call that is ``wanted``, by its dotted name and itself."""
    return (module.at(call) for module in sources.modules for name, call in module.calls if wanted(name, call))


def _nodes(sources: Sources, wanted: Callable[[Module, ast.AST], bool]) -> Iterator[Evidence]:
    """Every node that is ``wanted``."""
    return (module.at(node) for module in sources.modules for node in module.nodes if wanted(module, node))


def _derives(module: Module, node: ast.AST, bases: Collection[str]) -> bool:
    """Whether a node is a class with one of these bases, by the last part of its name."""
    return isinstance(node, ast.ClassDef) and any(
        module.dotted(base).rpartition(".")[2] in bases for base in node.bases
    )


def _is_text(node: ast.AST | None, pattern: re.Pattern[str]) -> bool:
    """Whether a node is a text that ``pattern`` matches from its beginning."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.match(node.value) is not None


def _fixed(call: ast.Call) -> bool:
    """Whether a seed is given that does not change from run to run."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not given or (isinstance(given[0], ast.Constant) and given[0].value is None):
        return False
    clocks = {"time", "time_ns", "now", "urandom", "getrandbits", "entropy", "getpid"}
    words = {node.attr for node in ast.walk(given[0]) if isinstance(node, ast.Attribute)}
    return not words & clocks


def determinism_asked(sources: Sources) -> Iterator[Evidence]:
    """Deterministic algorithms switched on."""
    for module in sources.modules:
        for name, call in module.calls:
            off = not call.args or (isinstance(call.args[0], ast.Constant) and call.args[0].value is False)
            asked = name == "torch.use_deterministic_algorithms" and not off
            if asked or name == "tensorflow.config.experimental.enable_op_determinism":
                yield module.at(call)
        yield from _assigned(module, "torch.backends.cudnn.deterministic", or_computed=True)


def benchmarking_asked(sources: Sources) -> Iterator[Evidence]:
    """Kernels chosen by timing them, which changes results from run to run."""
    for module in sources.modules:
        yield from _assigned(module, "torch.backends.cudnn.benchmark")


def _assigned(module: Module, name: str, *, or_computed: bool = False) -> Iterator[Evidence]:
    """Assignments of True to a dotted name, and of what is computed where that counts too."""
    for node in module.nodes:
        if not isinstance(node, ast.Assign):
            continue
        constant = isinstance(node.value, ast.Constant)
        if (isinstance(node.value, ast.Constant) and node.value.value is True) or (or_computed and not constant):
            for target in node.targets:
                dotted = module.dotted(target)
                if dotted == name or (dotted.startswith("cudnn.") and name.endswith(dotted)):
                    yield module.at(node)


def training_code(sources: Sources) -> Iterator[Evidence]:
    """A backward pass with an optimizer's step in the same file, or a call of ``fit`` in a file of a framework."""
    for module in sources.modules:
        calls = [(name.rpartition(".")[2], call) for name, call in module.calls if "." in name]
        backward = [call for name, call in calls if name in ("backward", "gradient", "value_and_grad", "minimize")]
        steps = [call for name, call in calls if name in ("step", "apply_gradients", "update")]
        if backward and steps:
            yield module.at(backward[0])
        if _uses_framework(module):
            yield from (module.at(call) for name, call in calls if name in ("fit", "fit_generator"))


def testing_code(sources: Sources) -> Iterator[Evidence]:
    """The network switched to evaluation, or a framework's own evaluation."""
    for module in filter(_uses_framework, sources.modules):
        for name, call in module.calls:
            method = name.rpartition(".")[2]
            if (method == "eval" and "." in name and not call.args) or method in ("evaluate", "score", "test_step"):
                yield module.at(call)


def entry_points(sources: Sources) -> Iterator[Evidence]:
    """Scripts that are meant to be started."""
    for module in sources.modules:
        for node in module.tree.body:
            if isinstance(node, ast.If) and "__name__" in ast.dump(node.test) and "__main__" in ast.dump(node.test):
                yield module.at(node)


def networks_defined(sources: Sources) -> Iterator[Evidence]:
    """Classes of networks and layers."""
    return _nodes(sources, lambda module, node: _derives(module, node, _MODULES) and _uses_framework(module))


def whole_networks_loaded(sources: Sources) -> Iterator[Evidence]:
    """Networks taken ready-made from elsewhere by a name that may come to mean another."""
    return _calls(sources, lambda name, call: name == "torch.hub.load")


def data_code(sources: Sources) -> Iterator[Evidence]:
    """Classes of data sets, transforms, loaders."""
    readers = (".DataLoader", "tensorflow.data.Dataset")
    for module in sources.modules:
        yield from (module.at(node) for node in module.nodes if _derives(module, node, _DATA_CLASSES))
        for name, call in module.calls:
            if name.startswith("torchvision.transforms") or name.endswith(readers):
                yield module.at(call)


def data_checked(sources: Sources) -> Iterator[Evidence]:
    """Checksums that data are compared with: hexadecimal digests in code that computes digests."""
    for module in sources.modules:
        hashing = any(name.partition(".")[0] == "hashlib" for name in module.names.values())
        uses = any(word in name.lower() for name in module.names for word in ("md5", "sha256", "digest"))
        digest = next((node for node in module.nodes if _is_text(node, _HEX)), None)
        if digest and (hashing or uses or "data" in module.path):
            yield module.at(digest)


def absolute_paths(sources: Sources) -> Iterator[Evidence]:
    """Paths of one machine, written into code."""
    return _nodes(sources, lambda module, node: _is_text(node, _ABSOLUTE))


def settings_told(sources: Sources) -> Iterator[Evidence]:
    """Learning rate, batch size and the like as options or defaults that can be read."""
    for module in sources.modules:
        for name, call in module.calls:
            if name.endswith(".add_argument") and call.args and _is_text(call.args[0], _SETTINGS):
                yield module.at(call)
        for node in module.nodes:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(node.value, ast.Constant)
                and node.value.value
                and _SETTINGS.match(node.target.id)
            ):
                yield module.at(node)


def settings_buried(sources: Sources) -> Iterator[Evidence]:
    """An optimizer whose learning rate is a bare number in the middle of the code."""

    def bare(call: ast.Call) -> bool:
        rates = (keyword.value for keyword in call.keywords if keyword.arg in ("lr", "learning_rate"))
        return any(isinstance(rate, ast.Constant) for rate in rates)

    return _calls(sources, lambda name, call: ".optim" in name and bare(call))


def weights_written(sources: Sources) -> Iterator[Evidence]:
    """Code that keeps the trained weights."""
    methods = (".save_weights", ".save_pretrained", ".save_checkpoint")
    return _calls(sources, lambda name, call: name in _SAVERS or name.endswith(methods))


def hardware_recorded(sources: Sources) -> Iterator[Evidence]:
    """Code that writes down what it ran on."""
    return _calls(sources, lambda name, call: name in _HARDWARE)


def gpu_assumed(sources: Sources) -> Iterator[Evidence]:
    """Code that needs a GPU without asking whether there is one."""
    for module in sources.modules:
        if not any(name == "torch.cuda.is_available" for name, _ in module.calls):
            calls = ((name, call) for name, call in module.calls if name.endswith(".cuda"))
            yield from (module.at(call) for name, call in calls if not name.startswith("torch"))


def documented(sources: Sources) -> tuple[int, int, Evidence | None]:
    """(public functions and classes with a docstring, all of them, the first one)."""
    public = [
        (module, node)
        for module in sources.modules
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    have = [module.at(node) for module, node in public if ast.get_docstring(node)]
    return len(have), len(public), next(iter(have), None)


def _uses_framework(module: Module) -> bool:
    return any(name.partition(".")[0] in _FRAMEWORKS for name in module.names.values())
