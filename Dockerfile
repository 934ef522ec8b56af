# The image that runs train in: Python and every library as runtime.lock pins them, hashes checked, and nothing that a
# run does not need. No compiler, no pip, no root. Built by `make image`, which gives the arguments below; the
# same commit gives the same image, bit for bit: no bytecode is compiled, logs and caches are removed, and the builder
# sets the times.
#
# The libraries are layers of their own below the project's, and `make image` builds them first, with the time of the
# distribution's archive below: what does not change keeps its digest, so that a new commit pushes and pulls a few
# megabytes. By itself, this file builds the same content at once.
#
# One file for every variant: BASE_IMAGE and LOCK choose. The default base brings CUDA; a machine without a GPU is
# served by any Debian or Ubuntu whose Python is 3.11 to 3.14, with a lock that has the CPU build of torch
# (tools/cpu_lock.py).

ARG BASE_IMAGE=docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04@sha256:f8ef28f579ea42a44b415d2c5d46f788e6a9b395c6c83f2929416e1fc192c143
# the stage `libraries`, or an image of it
ARG LIBRARIES=libraries

# `--build-context wheels=FOLDER` takes this place: wheels that are installed instead of asking an index.
FROM scratch AS wheels

FROM ${BASE_IMAGE} AS python
# The state of the distribution's archive that packages come from, where the archive keeps its states (Ubuntu's does);
# what was installed is listed in the image's /usr/share/ndrepro/packages.txt and in its bill of materials.
ARG APT_SNAPSHOT=20260901T000000Z
# The secret `ca`, certificates of a company's proxy for example, serves the build alone.
# hadolint ignore=DL3008
RUN --mount=type=secret,id=ca \
    rm -f /etc/apt/sources.list.d/cuda* \
    && if [ -e /run/secrets/ca ]; then CA=/run/secrets/ca; fi \
    && set -- -q -o "APT::Snapshot=${APT_SNAPSHOT}" ${CA:+-o "Acquire::https::CAInfo=${CA}"} \
    && apt-get "$@" update \
    && DEBIAN_FRONTEND=noninteractive apt-get "$@" -y install --no-install-recommends python3 ca-certificates \
    && mkdir -p /usr/share/ndrepro \
    && dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' > /usr/share/ndrepro/packages.txt \
    && find / -xdev -name __pycache__ -type d -prune -exec rm -rf {} + \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /var/lib/dpkg/*-old /tmp/*

FROM python AS installer
ARG APT_SNAPSHOT=20260901T000000Z
# hadolint ignore=DL3008
RUN --mount=type=secret,id=ca \
    if [ -e /run/secrets/ca ]; then CA=/run/secrets/ca; fi \
    && set -- -q -o "APT::Snapshot=${APT_SNAPSHOT}" ${CA:+-o "Acquire::https::CAInfo=${CA}"} \
    && apt-get "$@" update \
    && DEBIAN_FRONTEND=noninteractive apt-get "$@" -y install --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG LOCK=runtime.lock
COPY ${LOCK} /tmp/requirements.lock
# The installer lives in an environment of its own and installs for another, which therefore has none: torch and the
# CUDA libraries below /layers/torch, everything else below /layers/other. The wheels are fetched first, so that what
# was installed is known by its hashes (the bill of materials has them).
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip_conf --mount=type=bind,from=wheels,target=/run/wheels \
    if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && if [ -e /run/secrets/pip_conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip_conf; fi \
    && if ls /run/wheels/*.whl > /dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/run/wheels; fi \
    && python3 -m venv /tmp/installer \
    && python3 -m venv --without-pip /opt/ndrepro \
    && for part in torch other; do \
        awk -v part="$part" '/^[^ #]/ { here = /^(torch|triton|nvidia-|cuda-)/ ? "torch" : "other" } here == part' \
            /tmp/requirements.lock > "/tmp/$part.lock" \
        && /tmp/installer/bin/pip download --quiet --disable-pip-version-check --no-cache-dir \
            --no-deps --only-binary :all: --require-hashes --dest /tmp/wheels -r "/tmp/$part.lock" \
        && /tmp/installer/bin/pip --python /opt/ndrepro/bin/python3 install --quiet --disable-pip-version-check \
            --no-cache-dir --no-compile --no-deps --no-warn-script-location --require-hashes --no-index \
            --find-links /tmp/wheels --root "/layers/$part" -r "/tmp/$part.lock" \
        || exit 1; \
    done \
    && mkdir -p /layers/torch/opt/ndrepro /layers/other/opt/ndrepro \
    && cp -a /opt/ndrepro /layers/other/opt \
    && sha256sum /tmp/wheels/*.whl > /layers/other/opt/ndrepro/wheels.sha256 \
    && printf '#!/bin/sh\nexec /opt/ndrepro/bin/python3 -m ndrepro "$@"\n' > /layers/other/opt/ndrepro/bin/ndrepro \
    && chmod 755 /layers/other/opt/ndrepro/bin/ndrepro \
    && find /layers -name __pycache__ -type d -prune -exec rm -rf {} + \
    && rm -rf /tmp/wheels

FROM python AS libraries
COPY --from=installer /layers/torch/opt/ndrepro /opt/ndrepro
COPY --from=installer /layers/other/opt/ndrepro /opt/ndrepro

FROM ${LIBRARIES}
ARG LOCK=runtime.lock
COPY . /srv/ndrepro
COPY ${LOCK} /srv/ndrepro/requirements.lock
ENV PATH=/opt/ndrepro/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/srv/ndrepro \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    LANG=C.UTF-8
WORKDIR /tmp
USER 65534:65534
ARG BASE_IMAGE
ARG BASE_DIGEST=sha256:f8ef28f579ea42a44b415d2c5d46f788e6a9b395c6c83f2929416e1fc192c143
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="ndrepro" \
      org.opencontainers.image.description="Signed, re-executable runs of network deconvolution" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
# `docker run IMAGE run lenet_nd_1_digits` trains; another program is named with --entrypoint
ENTRYPOINT ["ndrepro"]
CMD ["--help"]
