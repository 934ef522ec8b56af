"""Programs that Python code of this process starts, of which the hook will see nothing: named unless they are known.

Known are this very Python, where the hook's variables are given on and no option keeps it out, and a few tools of the
system that start nothing themselves. Shells, compilers, other languages and scripts are not: what they read and start
in turn is not seen. Starts are seen by audit events (PEP 578); as multiprocessing raises none when it starts a process,
a change of the variables that lead to the hook counts as well.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing

# begins the reason in the process file's problems
UNOBSERVED = "started without the hook"
# of a command that are shown
LETTERS = 200
# event -> where the words and the variables are among its arguments, of which the first is the program
STARTS: dict[str, tuple[int, int | None]] = {
    "subprocess.Popen": (1, 3),
    "os.exec": (1, 2),
    "os.posix_spawn": (1, 2),
    "os.system": (0, None),  # a shell's, whose command is one word
}
CHANGES = ("os.putenv", "os.unsetenv")
_OUTPUT, _SEARCHED = "NDREPRO_HOOK_OUT", "PYTHONPATH"
_TOOLS = ("cat", "file", "getconf", "hostname", "id", "ldconfig", "ldd", "ls", "lscpu", "nproc", "nvidia-smi", "uname")
# what of git only reads
_OF_GIT = (
    *("--version", "branch", "cat-file", "describe", "diff", "log", "ls-files", "remote", "rev-list", "rev-parse"),
    *("show", "status", "symbolic-ref", "tag"),
)
_LISTING_TAGS = ("-l", "--list", "--contains", "--points-at")  # else an editor may be started
# how those of git's variables begin that have it start no other program and look nowhere else, asked for the above
_HARMLESS_OF_GIT = (
    *("GIT_ASKPASS", "GIT_AUTHOR_", "GIT_CEILING_DIRECTORIES", "GIT_COMMITTER_", "GIT_EDITOR", "GIT_HTTP_", "GIT_LFS_"),
    *("GIT_OPTIONAL_LOCKS", "GIT_PYTHON_", "GIT_SSL_", "GIT_TERMINAL_PROMPT"),
)
_OF_THE_SYSTEM = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# as they are when the hook starts: the program may change both
_FOLDER = os.environ.get(_OUTPUT)
# sys.executable is made of the first word, which may be any
_PYTHON = os.path.realpath("/proc/self/exe" if os.path.exists("/proc/self/exe") else sys.executable)


def started_without_hook(event: str, arguments: tuple[typing.Any, ...]) -> str:
    """The command that an event starts, where it is not known that the hook sees it, or that nothing is to be seen;
    else "".
    """
    if event == "os.system":
        return os.fsdecode(arguments[0])[:LETTERS]
    words_at, variables_at = STARTS[event]
    program, listed = os.fsdecode(arguments[0]), arguments[words_at]
    words = [os.fsdecode(word) for word in ([listed] if isinstance(listed, (str, bytes)) else listed)][1:]
    given = None if variables_at is None else arguments[variables_at]
    given = os.environ if given is None else given
    variables = {os.fsdecode(name): os.fsdecode(value) for name, value in dict(given).items()}
    popen = event == "subprocess.Popen"
    place = os.fsdecode(arguments[2] or "") if popen else ""
    path = _path_of(program, variables, place, searched_alone=popen)
    if not path:
        return ""
    folder, name = os.path.split(path)
    name = name if folder in _OF_THE_SYSTEM else ""
    if os.path.realpath(path) == _PYTHON or (name[:6] == "python" and not name[6:].strip(".0123456789")):
        started = variables.get(_OUTPUT) == _FOLDER and _leads_here(variables.get(_SEARCHED, ""), place)
        known = started and not _is_kept_out(words)
    else:
        known = name in _TOOLS or (name == "git" and _only_reads(words, variables))
    return "" if known else " ".join([program, *words])[:LETTERS]


def started_after_change(event: str, arguments: tuple[typing.Any, ...]) -> str:
    """What a change of this process's variables keeps the hook out of, in words; else ""."""
    name, value = os.fsdecode(arguments[0]), os.fsdecode(arguments[1]) if event == "os.putenv" else ""
    leads_on = value == _FOLDER if name == _OUTPUT else _leads_here(value, "")
    return "" if name not in (_OUTPUT, _SEARCHED) or leads_on else f"what it started with {name}={value}"[:LETTERS]


def _path_of(program: str, variables: dict[str, str], working_folder: str, *, searched_alone: bool) -> str:
    """The file that is executed; "" where there is none, and the name where another working folder could have it.

    A name alone is looked for along PATH; by other calls than Popen in the working folder, or there, too.
    """
    folders = [] if searched_alone and os.sep not in program else [""]
    if os.sep not in program:
        folders += variables.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(working_folder, folder, program) for folder in folders]
    for path in paths:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return "" if all(map(os.path.isabs, paths)) else program


def _leads_here(searched: str, working_folder: str) -> bool:
    """Whether PYTHONPATH leads to the hook, and to no other ``sitecustomize`` before."""
    for entry in searched.split(os.pathsep):
        if entry == _HERE:
            return True
        folder = os.path.join(working_folder, entry) or os.curdir
        names = os.listdir(folder) if os.path.isdir(folder) else []
        if os.path.isfile(folder) or any(name.startswith("sitecustomize") for name in names):  # an archive may have it
            return False
    return False


def _is_kept_out(words: list[str]) -> bool:
    """Whether an option of Python's (-I, -E, -S) keeps the hook out, as Python reads its words."""
    rest = iter(words)
    for word in rest:
        if word[:1] != "-" or word in ("-", "--"):
            break
        if word == "--check-hash-based-pycs":
            next(rest, None)
        for number, letter in enumerate(word[1:] if word[:2] != "--" else "", 2):
            if letter in "IES":
                return True
            if letter in "cm":
                return False
            if letter in "WX":  # with a value, which may be the next word
                if number == len(word):
                    next(rest, None)
                break
    return False


def _only_reads(words: list[str], variables: dict[str, str]) -> bool:
    """Whether git is asked for what it only reads, and no variable leads it to other programs or repositories."""
    question, *rest = words[2:] if words[:1] == ["-C"] and words[2:] else [*words, ""]
    own = any(name.startswith("GIT_") and not name.startswith(_HARMLESS_OF_GIT) for name in variables)
    edits = question == "tag" and any(word not in _LISTING_TAGS for word in rest[:1] if word)
    edits = edits or any(word.startswith("--ed") for word in rest)
    return question in _OF_GIT and not own and not edits
