"""Programs that Python code of this process starts without the hook: nobody sees what is imported there.

Seen by audit events (PEP 578): the variables that are given on, and options of Python's among the words. As
multiprocessing raises none when it starts a process, a change of the variables that lead to the hook counts as well.
What such a program, a shell or compiled code starts in turn is not seen.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing

# begins the reason in the process file's problems
UNOBSERVED = "started without the hook"
# event -> where the words and the variables are among its arguments; of a shell the whole command is one word
STARTS: dict[str, tuple[int, int | None]] = {
    "subprocess.Popen": (1, 3),
    "os.exec": (1, 2),
    "os.posix_spawn": (1, 2),
    "os.system": (0, None),
}
CHANGES = ("os.putenv", "os.unsetenv")
_OUTPUT, _SEARCHED = "NDREPRO_HOOK_OUT", "PYTHONPATH"
_INTERPRETERS = ("python", "pypy", "perl", "ruby", "node", "R")
# those of the system that libraries start with variables of their own, and that start nothing themselves
_TOOLS = ("cat", "file", "getconf", "hostname", "id", "ldconfig", "ldd", "ls", "lscpu", "nproc", "nvidia-smi", "uname")
_OF_THE_SYSTEM = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_LETTERS = 200
_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def started_without_hook(event: str, arguments: tuple[typing.Any, ...]) -> str:
    """The command that an event starts, where the hook is kept out of it; else ""."""
    words_at, variables_at = STARTS[event]
    words = arguments[words_at]
    listed = [words] if isinstance(words, (str, bytes)) else list(words)
    text = " ".join(os.fsdecode(word) for word in listed)
    given = None if variables_at is None else arguments[variables_at]
    given = os.environ if given is None else given
    variables = {os.fsdecode(name): os.fsdecode(value) for name, value in dict(given).items()}
    goes_on = variables.get(_OUTPUT) and _HERE in variables.get(_SEARCHED, "").split(os.pathsep)
    seen = goes_on or (not isinstance(words, (str, bytes)) and _is_tool(os.fsdecode(listed[0])))
    return "" if seen and not _is_kept_out(text.split()) else text[:_LETTERS]


def started_after_change(event: str, arguments: tuple[typing.Any, ...]) -> str:
    """What a change of this process's variables keeps the hook out of, in words; else ""."""
    name, value = os.fsdecode(arguments[0]), os.fsdecode(arguments[1]) if event == "os.putenv" else ""
    leads_on = value and (name == _OUTPUT or _HERE in value.split(os.pathsep))
    return "" if name not in (_OUTPUT, _SEARCHED) or leads_on else f"what it started with {name}={value}"[:_LETTERS]


def _is_tool(name: str) -> bool:
    """Whether a program is one of the system's that starts no other."""
    folder, base = os.path.split(name)
    return base in _TOOLS and (not folder or folder in _OF_THE_SYSTEM)


def _is_kept_out(words: list[str]) -> bool:
    """Whether options of Python's (-I, -E, -S) that keep it out follow a word that names an interpreter, or ``env``
    changes its variables."""
    program, is_value = "", False
    for word in words:
        name = os.path.basename(word)
        if is_value:
            is_value = False
        elif name == "env" or name.startswith(_INTERPRETERS):
            program = name
        elif program == "env" and word.startswith(("-", f"{_SEARCHED}=", f"{_OUTPUT}=")):
            return True
        elif not word.startswith("-"):
            program = program if program == "env" and "=" in word else ""
        elif program and not word.startswith("--") and set(word) & set("IES"):
            return True
        else:
            is_value = program != "" and word in ("-W", "-X")
    return False
