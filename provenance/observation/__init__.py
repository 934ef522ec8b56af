"""The recorder's side of the start-up hook: prepares a program's environment, and reads what its processes wrote.

from provenance.observation.preparation import prepare
from provenance.observation.collection import collect

observer = prepare(folder, trail="auto")          # a new folder: the hook's copy, and an empty one for its output
subprocess.run(command, env={**os.environ, **observer.variables})
processes = collect(observer.output)              # one ProcessRecord for each Python process
"""
