"""Starts what observes this process, and ends it with the process or where it becomes another program.

at start                 the process file; audit hook, and what notes which variables are read; the modules that are
                         there already; finders of modules; what follows a fork and an exit
import of numpy.random   its generator's state, before anything is drawn from it
import of torch          torch's hooks (``torch_hooks``), unless the trail is off
fork                     in the child: files of its own, and its end, where multiprocessing made it
exit, exec               the random generators' states, what waits of the trail, the process file
"""

from __future__ import annotations

import atexit
import os
import sys

from . import plain_json
from .module_import import ModuleFinder
from .notes import hand_on
from .opened_files import LIMITS, OPENED_FILES, OpenedFiles, writing_limited
from .process_file import ProcessFile, is_own
from .random_states import random_states
from .read_variables import note_read_variables
from .started_programs import CHANGES, STARTS, UNOBSERVED, started_after_change, started_without_hook

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing

    from .torch_hooks import TorchObserver


class ProcessObserver:
    """All that observes one process; a fork gives the child its own state in the same object."""

    def __init__(self, folder: str, trail: str) -> None:
        self._folder = folder
        self._trail = trail
        self._process = ProcessFile(folder)
        self._opened = OpenedFiles(self._process)
        self._torch: TorchObserver | None = None
        self._missed: Exception | None = None
        self._first_states: dict[str, str] = {}
        self._ended = False

    def start(self) -> None:
        """Write the process file and install everything. Raises OSError where the folder cannot be written."""
        self._process.write()
        sys.addaudithook(self._audit)
        self._opened.see_loaded()
        note_read_variables(self._process.variables)
        ModuleFinder("numpy.random", self._numpy_imported).install()
        ModuleFinder("torch", self._torch_imported).install()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._exit)

    def _audit(self, event: str, arguments: tuple[typing.Any, ...]) -> None:
        # called for every audit event of the program: what is not looked at must cost next to nothing
        if event in ("open", "exec") or (event == "import" and arguments[1] is not None):
            try:
                self._note_missed()
                if event == "open":
                    self._opened.see(arguments[0], arguments[2])
                elif event == "exec":
                    self._opened.see_executed(arguments[0])
                else:
                    self._opened.see_compiled(*arguments[:2])
            except Exception as error:
                if not is_own(error):
                    raise
                self._missed = error
                if not isinstance(error, RecursionError):
                    self._note_missed()
        elif event in LIMITS:
            if limit := writing_limited(event, arguments):
                self._note_at_once(OPENED_FILES, limit)
        elif event in STARTS or event in CHANGES:
            try:
                look = started_without_hook if event in STARTS else started_after_change
                if unobserved := look(event, arguments):
                    self._note_at_once(UNOBSERVED, unobserved)
            except Exception as error:
                if not is_own(error):
                    raise
                self._process.note("started programs", error)
            if event == "os.exec":
                self._end("exec")

    def _note_missed(self) -> None:
        """Note why an opening was not seen; later than that happened, where there was no room for it."""
        error, self._missed = self._missed, None
        if error is not None:
            self._note_at_once(OPENED_FILES, error)

    def _note_at_once(self, part: str, error: object) -> None:
        """Note a problem where the process may end without writing: by ``os._exit``, or unable to."""
        if text := self._process.note(part, error):
            try:
                line = f'{{"problem":{plain_json.quoted(text)}}}\n'
                hand_on(self._process.folder, self._process.stem, line.encode())
                self._process.write()
            except OSError as problem:
                if not is_own(problem):
                    raise
                return  # it is tried again at the end

    def _numpy_imported(self, random: typing.Any) -> None:
        # a library may import it and draw nothing, as torchvision does
        try:
            self._first_states["numpy"] = random_states().get("numpy", "")
            if self._torch is not None:
                self._torch.add_first_states(self._first_states)
        except Exception as error:
            self._process.note("numpy.random", error)

    def _torch_imported(self, torch: typing.Any) -> None:
        try:
            from .torch_hooks import TorchObserver

            self._torch = TorchObserver(torch, self._process, self._trail)
            self._torch.install()
            self._torch.add_first_states(self._first_states)
        except Exception as error:
            self._process.note("torch", error)

    def _forked(self) -> None:
        try:
            read = self._process.variables
            self._process = ProcessFile(self._folder, forked_from=self._process.pid)
            self._process.variables = read
            self._ended = False
            self._opened.restart(self._process)
            if self._torch is not None:
                self._torch.restart(self._process)
            self._process.write()
            self._end_with_multiprocessing()
        except Exception as error:
            self._process.note("fork", error)

    def _end_with_multiprocessing(self) -> None:
        """A process that multiprocessing forked ends by ``os._exit``, after its finalizers."""
        util = sys.modules.get("multiprocessing.util")
        if util is None:
            return
        # it forgets the finalizers of the parent first, then runs these
        util.register_after_fork(self, lambda observer: util.Finalize(None, observer._exit, exitpriority=-(1 << 30)))

    def _exit(self) -> None:
        self._end("exit")

    def _end(self, ending: str) -> None:
        if self._ended or os.getpid() != self._process.pid:
            return
        self._ended = ending == "exit"
        self._note_missed()
        try:
            if self._torch is not None:
                self._torch.finish()
        except Exception as error:
            self._process.note("torch", error)
        try:
            self._process.write(ending, random_states())
        except Exception as error:
            self._process.note("end", error)


def start() -> None:
    """Observe this process, as the environment variables ask. Raises OSError where nothing can be written."""
    ProcessObserver(os.environ["NDREPRO_HOOK_OUT"], os.environ.get("NDREPRO_HOOK_TRAIL", "auto")).start()
