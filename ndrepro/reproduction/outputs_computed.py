"""The claim that no repetition checks: that outputs were computed, and not there before, or given in some word."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.analysis.verdicts.program_results import ProgramResults
from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.program_reproduction.private_folder import PrivateFolder
from ndrepro.execution.program_reproduction.recorded_words import recorded_words
from ndrepro.execution.programs.working_folder import EarlierContents, identity_of
from ndrepro.protocol.program_record import ProgramRecord
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import all_of, plural
from provenance.attestation.manifest import Manifest
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import files_below

# of what is there before the start, the smallest first: some seconds
_EARLIER_BYTES, _EARLIER_FILES = 1 << 30, 50_000
# kinds of standard input in which there may be something
_INPUTS = ("pipe", "file", "terminal")


@dataclass(frozen=True)
class BeforeStart:
    """What a program has before it starts.

    Attributes:
        had: the contents of its code and inputs, wherever they are, and what git has of the commit.
        unread: how many of these files are too large or too many to be read.
        given: the words of the record that it can see beside its command.
        lost_input: the recorded kind of standard input where there may have been something in it that it does not have
            now; else "".
        working_folder: where it runs.
    """

    had: EarlierContents
    unread: int
    given: Sequence[str]
    lost_input: str
    working_folder: Path

    @classmethod
    def of(cls, prepared: ProgramPlan, original: Manifest) -> BeforeStart:
        """Look at what was prepared. Raises StorageError for folders nested too deeply."""
        place, kind = prepared.place, ProgramRecord.of(original).streams.get("stdin")
        lost = str(kind) if kind in _INPUTS and place.standard_input is None else ""
        return cls(*_earlier(place), tuple(recorded_words(prepared)), lost, place.working_folder)

    def outputs_computed(self, now: ProgramResults) -> tuple[ClaimCheck, ...]:
        """The claim on what the repetition left, never checked: it names the outputs that repeat what was there, and
        what the program was given; () without outputs, metrics and notes.
        """
        if not now.outputs and not now.rows and not now.notes:
            return ()
        left = {
            os.path.relpath(self.working_folder / path, self.had.folder): sha256 for path, sha256 in now.outputs.items()
        }
        if now.rows:  # a script's own log is none of its outputs
            left[str(now.folder.metrics)] = file_digest(now.folder.metrics).sha256
        found = [
            f"{path} {origin}"
            for path, sha256 in left.items()
            if sha256 is not None and (origin := self.had.origin(path, sha256))
        ]
        words = "equal outputs show what this code writes; whether it computes that, its reader sees"
        words += (
            f"; {plural(self.unread, 'file')} of code and inputs were not compared with them" if self.unread else ""
        )
        words += f"; its standard input was a {self.lost_input}, and is empty now" if self.lost_input else ""
        words += f"; beside its arguments the record gave it {all_of(self.given)}" if self.given else ""
        if found:
            many = f"{plural(len(found), 'output')} with content that was there before the start: {all_of(found)}"
            words = f"{many}; {words}"
        return (claim("outputs computed", None, words),)


def _earlier(folder: PrivateFolder) -> tuple[EarlierContents, int]:
    """All that the program has before it starts: code and inputs, wherever they are, and what git has of the commit;
    and how many of these files are too large or too many to be read.
    """
    own = folder.repositories.folders
    files = {}
    for top in (folder.place, *folder.shown):
        for path in files_below(top) if top.is_dir() else [top]:
            inside = top == folder.place
            if any(path.is_relative_to(each) for each in own) or (inside and path.is_symlink()):
                continue
            if (known := identity_of(path)) is not None and known[0]:  # empty files hold no result
                files[os.path.relpath(path, folder.place) if inside else str(path)] = known
    had = EarlierContents.read(folder.place, files, largest=_EARLIER_BYTES, most=_EARLIER_FILES)
    unread = len(files) - len(had.files)
    return replace(had, files={**had.files, **folder.repositories.committed}), unread
