"""Container engines: docker, podman, Apptainer."""
