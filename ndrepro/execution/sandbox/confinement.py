"""What a confined process sees of the file system, and how that becomes bubblewrap's command line.

The root is an empty file system in memory. Only what is named is mounted into it, each path under its own name, so
that what a run records names the same files as outside (but for ``Confinement.mapped`` and ``placed``):

* read-only: the system's libraries and programs, the interpreter with its packages, code, data, hardware facts;
* writable: the folders that are named, and a private ``/tmp`` and ``/dev/shm``;
* nothing else: no home folder, no key home, no other run, no ledger, no socket of the user's. ``inside`` refuses Unix
  sockets besides, since a read-only mount does not.

Symbolic links on the way to a path are made again, since the folders that hold them are not there. Where a visible
folder holds one that must stay hidden (``Confinement.hidden``), an empty one is mounted over it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ndrepro.protocol.errors import SandboxError

# programs, libraries and what the dynamic loader and the C library read; absent ones are left out
_SYSTEM = (
    "/usr /bin /sbin /lib /lib32 /lib64 /etc/alternatives /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d "
    "/etc/passwd /etc/group /etc/hosts /etc/nsswitch.conf /etc/localtime /etc/timezone /etc/os-release "
    # what Python's and other libraries look up
    "/etc/debian_version /etc/lsb-release /etc/mime.types /etc/services /etc/protocols /etc/locale.alias /etc/fonts "
    # numerical libraries choose their kernels by these, and a run records them
    "/sys/bus /sys/class /sys/dev /sys/devices /sys/fs/cgroup /sys/module"
)
# people keep projects there, in containers above all: shown is what is named in them
_SOURCES = (Path("/usr/src"), Path("/usr/local/src"))
_GPU_DEVICES = ("nvidia*", "dxg")
# below the home folder
_PRIVATE_NAMES = ".ssh .gnupg .aws .azure .config .netrc .kube .docker .mozilla .password-store"
# services listen there, or show the machine's state; what is below may be named
_OF_THE_MACHINE = tuple(Path(name) for name in ["/run", "/var", "/proc", "/sys", "/dev", "/etc"])
_MOST_LINKS = 40  # as many as the kernel follows
# where the script that starts the processes lies inside
INSIDE = Path("/.ndrepro/inside.py")
# and which files must be where
EXPECTED = INSIDE.with_name("expected.json")


@dataclass(frozen=True)
class Confinement:
    """The paths that a confined process may read or write; its current folder; whether it gets the GPUs.

    ``hidden`` are folders that stay invisible even where a readable one holds them, but for what is named in them:
    the folder of runs. Of ``secret`` ones, such as the key home, nothing may be named. ``mapped`` are paths inside,
    with those outside that are shown there, read-only: data that somebody else has at another place; ``placed`` are
    likewise folders to be written, which are not shown under their own paths. ``links`` are made where nothing is
    mounted, with their targets. ``home`` is a home folder of the program's alone, empty but for what
    is named below it; ``None`` for ``/tmp``. ``expected`` is a JSON file with the inode and time of change (ns) of what
    must be at paths inside, or nothing is started: whoever can write above a path may lead it elsewhere after it was
    compared.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    folder: Path
    hidden: tuple[Path, ...] = ()
    secret: tuple[Path, ...] = ()
    gpu: bool = False
    mapped: Mapping[Path, Path] = field(default_factory=dict)
    placed: Mapping[Path, Path] = field(default_factory=dict)
    links: Mapping[Path, str] = field(default_factory=dict)
    home: Path | None = None
    expected: Path | None = None

    def words(self, inside: Path) -> list[str]:
        """The options of bubblewrap (bwrap(1)) that make this root; ``inside`` is mounted at ``INSIDE``.

        Raises SandboxError for a readable path that would show a hidden folder or the user's home.
        """
        secret = {path.resolve() for path in self.secret}
        places = {path.resolve() for path in self.hidden} | secret
        for path in (*self.readable, *self.writable):
            expect_harmless(path, places, secret)
        wanted = [Path(name) for name in _SYSTEM.split() if os.path.lexists(name)]
        inner = [path for path in self.readable if not {*self.placed.values()}.isdisjoint(path.parents)]
        shown = [path for path in self.readable if path not in inner]
        read = dict.fromkeys(item for path in (*wanted, *shown) for item in link_steps(path))
        write = dict.fromkeys(item for path in self.writable for item in link_steps(path))
        mounts = {path: ["--symlink", target, str(path)] for path, target in (*read, *write) if target}
        mounts |= {path: ["--ro-bind", str(path), str(path)] for path, target in read if not target}
        tops = [path for path, target in read if not target]
        covers = [path for path in {*places, *_SOURCES} if path.is_dir() and any(top in path.parents for top in tops)]
        mounts |= {path: ["--tmpfs", str(path)] for path in covers}
        mounts |= {path: ["--bind", str(path), str(path)] for path, target in write if not target}
        mapped = self._free(self.mapped, mounts, places, secret)
        mounts |= {path: ["--ro-bind", str(found), str(path)] for path, found in mapped}
        mounts |= {path: ["--symlink", target, str(path)] for path, target in self.links.items() if path not in mounts}
        for path, top in [*self._free(self.placed, mounts, places, secret)]:
            mounts[path] = ["--bind", str(top), str(path)]
            # what is only to be read of it is not to be written there either
            real = (each for each in map(Path.resolve, inner) if top in each.parents)
            mounts |= {(at := path / each.relative_to(top)): ["--ro-bind", str(each), str(at)] for each in real}
        mounts |= self._home(mounts)
        mounts |= {Path(name): words for name, words in _private().items()}
        if self.gpu:
            devices = [path for pattern in _GPU_DEVICES for path in sorted(Path("/dev").glob(pattern))]
            mounts |= {path: ["--dev-bind", str(path), str(path)] for path in devices}
        mounts[INSIDE] = ["--ro-bind", str(inside), str(INSIDE)]
        if self.expected is not None:
            mounts[EXPECTED] = ["--ro-bind", str(self.expected), str(EXPECTED)]
        order = list(_needed(mounts))
        if INSIDE not in order:  # something else would be executed in its place
            raise SandboxError(f"{INSIDE.parent}: the sandbox keeps its own program there", "move what is there")
        found = [word for path in order for word in mounts[path]]
        # /proc/sys of the whole machine is root's to write, even for a root without capabilities
        for name in (*map(str, covers), "/dev", "/proc", "/"):
            found += ["--remount-ro", name]
        return [*found, "--chdir", str(self.folder)]

    def _home(self, mounts: Collection[Path]) -> dict[Path, list[str]]:
        """The mount of the home folder; none where something else is shown there or above it."""
        home = self.home
        taken = {*mounts, Path("/proc"), Path("/dev"), INSIDE.parent}
        if home is None or home in (*_OF_THE_MACHINE, Path("/")) or taken & {home, *home.parents}:
            return {}
        return {home: ["--tmpfs", str(home)]}

    def _free(
        self,
        wanted: Mapping[Path, Path],
        mounts: Mapping[Path, list[str]],
        hidden: Collection[Path],
        secret: Collection[Path],
    ) -> Iterator[tuple[Path, Path]]:
        """What is ``wanted`` at paths inside, resolved. Raises SandboxError where something else is shown at such a
        path, above or below it.
        """
        private = [INSIDE.parent, *map(Path, _private())]
        for path, found in wanted.items():
            expect_harmless(found, hidden, secret)
            # what an empty folder covers is not there
            cover = next((each for each in path.parents if mounts.get(each, [""])[0] == "--tmpfs"), None)
            above = [each for each in path.parents if cover is None or cover in each.parents]
            taken = [each for each in mounts if each == path or each in above or path in each.parents]
            taken += [each for each in _OF_THE_MACHINE if each == path or each in path.parents]
            taken += [each for each in private if each == path or path in each.parents]
            taken += [path] if _is_searched(path, self.home) else []
            if taken or str(path) != os.path.abspath(path):
                has = ", ".join(map(str, taken[:3])) or "no such path"
                raise SandboxError(
                    f"{found}: it cannot be shown as {path}: the sandbox has {has}",
                    "link it to that path, and leave --data out",
                )
            yield path, found.resolve()


def _is_searched(path: Path, home: Path | None) -> bool:
    """Whether Python looks at such a path by itself: below the sandbox's own folder, where the user's site-packages are
    in its home, or where an interpreter's environment is described.
    """
    searched = {INSIDE.parent, (home or Path("/tmp")) / ".local"}
    return bool(searched & {path, *path.parents}) or path.name == "pyvenv.cfg"


def _private() -> dict[str, list[str]]:
    return {
        "/proc": ["--proc", "/proc"],
        "/dev": ["--dev", "/dev"],
        "/dev/shm": ["--tmpfs", "/dev/shm"],
        "/tmp": ["--tmpfs", "/tmp"],
    }


def _needed(mounts: dict[Path, list[str]]) -> Iterator[Path]:
    """The paths in the order of mounting, parents first, without what a folder mounted before already shows."""
    shown: list[Path] = []
    for path in sorted(mounts):
        kind = mounts[path][0]
        nearest = next((each for each in reversed(shown) if each in path.parents), None)
        over = None if nearest is None else mounts[nearest][0]
        if (over, kind) not in (("--ro-bind", "--ro-bind"), ("--ro-bind", "--symlink"), ("--bind", "--symlink")):
            yield path
            shown.append(path)


def expect_harmless(path: Path, hidden: Collection[Path], secret: Collection[Path]) -> None:
    """Raises SandboxError for the user's home or a folder that holds it, for where keys or runs are, and for /run.

    ``hidden`` and ``secret`` are resolved paths, as in Confinement.
    """
    real, home = path.resolve(), Path.home().resolve()
    above = {real, *real.parents}
    if real == home or real in home.parents:
        why = f"it holds the home folder {home}"
    elif above & {*secret, *(home / name for name in _PRIVATE_NAMES.split())}:
        why = "keys and passwords are kept there"
    elif real in hidden:
        why = "it holds other runs"
    elif real in _OF_THE_MACHINE:
        why = "the machine's services are there"
    else:
        return
    raise SandboxError(f"{path}: {why}, which a sandbox does not show", "name a folder of its own, e.g. with --data")


def link_steps(path: Path) -> Iterator[tuple[Path, str]]:
    """Every symbolic link on the way to a path, with its target, and then where it leads, with none.

    Raises SandboxError where there is nothing.
    """
    current, rest = Path("/"), list(Path(os.path.abspath(path)).parts[1:])
    links = 0
    while rest:
        name = rest.pop(0)
        step = current.parent if name == ".." else current / name
        if step.is_symlink():
            links += 1
            target = os.readlink(step)
            if links > _MOST_LINKS:
                raise SandboxError(f"{path}: too many symbolic links")
            yield step, target
            current = Path("/") if target.startswith("/") else current
            rest = [part for part in Path(target).parts if part != "/"] + rest
        else:
            current = step
    if not current.exists():
        raise SandboxError(f"{path}: nothing is there", "see where it leads with `readlink -f`")
    yield current, ""


def settings_of_the_system() -> frozenset[Path]:
    """The files and folders below /etc that every confined process sees."""
    return frozenset(Path(name) for name in _SYSTEM.split() if name.startswith("/etc/"))


def is_of_the_machine(path: Path) -> bool:
    """Whether a path is where the machine has its own files and services, of which not all need be there."""
    places = {*map(Path, _SYSTEM.split()), *_OF_THE_MACHINE} - {Path("/var")}
    return not places.isdisjoint({path, *path.parents})


def is_of_the_system(path: Path) -> bool:
    """Whether a path is below /usr, where the system's packages put files that every confined process sees, and leads
    nowhere else. Others than they write below /usr/local and /usr/src.
    """
    places = {path, path.resolve()}
    return all(
        each.is_relative_to("/usr") and not any(each.is_relative_to(f"/usr/{name}") for name in ("local", "src"))
        for each in places
    )


def existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those of the paths where something is."""
    return tuple(path for path in paths if path.exists())


def entries(top: Path) -> Iterator[os.DirEntry[str]]:
    """All entries of a folder and the folders below it; of a file none. Links are not followed."""
    folders = [str(top.resolve())] if top.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                yield entry


def data_paths(data: Path) -> Sequence[Path]:
    """The data, and where the links at the top of their folder lead."""
    entries = sorted(data.iterdir()) if data.is_dir() else []
    return existing([data, *(entry for entry in entries if entry.is_symlink())])
