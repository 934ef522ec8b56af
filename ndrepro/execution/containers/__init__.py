"""Container engines: docker, podman, Apptainer, Enroot."""
