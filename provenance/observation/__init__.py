"""The recorder's side of the start-up hook: prepares a program's environment, and reads what its processes wrote.

from provenance.observation.preparation import prepare
from provenance.observation.collection import collect
from provenance.observation.note_listener import NoteListener

observer = prepare(folder, trail="auto")          # a new folder: the hook's copy, and an empty one for its output
listener = NoteListener(observer.output)          # what processes note is here at once
subprocess.run(command, env={**os.environ, **observer.variables})
processes = collect(observer.output, listener.notes())  # one ProcessRecord for each Python process
"""
