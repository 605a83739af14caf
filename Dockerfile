# syntax=docker/dockerfile:1
# cortex-autolearn as a container.
#
#   docker build --tag cortex-autolearn .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --user 10001:10001 \
#     --volume /srv/cortex:/srv/cortex cortex-autolearn
#
# The base is any image with Python of 3.11 or newer and its module venv, for both stages the same. Who trains at a
# provider names the extra that its backend needs: --build-arg EXTRAS=bedrock (or openai, or bedrock,openai).

ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG EXTRAS=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE requirements.lock /source/
COPY cortex_autolearn /source/cortex_autolearn
# What runs has the versions of requirements.lock, and no more of it than the package needs. That it was not tampered
# with is checked by the lock's hashes: everything is downloaded with them first, and installed from there alone.
RUN set -eu; \
    python3 -m venv /opt/cortex-autolearn; \
    pip=/opt/cortex-autolearn/bin/pip; \
    $pip download --quiet --require-hashes --requirement /source/requirements.lock --dest /wheels; \
    $pip wheel --quiet --no-deps --wheel-dir /wheels /source; \
    $pip install --quiet --no-index --find-links /wheels "cortex-autolearn${EXTRAS:+[$EXTRAS]}"; \
    /opt/cortex-autolearn/bin/python -m compileall -q /opt/cortex-autolearn/lib; \
    $pip uninstall --quiet --yes pip

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="cortex-autolearn" \
      org.opencontainers.image.description="Lets a Cortex agent fleet improve by itself from its task records" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/cortex-autolearn /opt/cortex-autolearn
# All that is written lies in the volume, also what SQLite sorts in a file: /tmp may be read-only. Without a folder for
# that, whatever sorts more than a few MB (`status` of 40,000 tasks) fails with "disk I/O error". It goes with CORTEX_HOME.
ENV PATH=/opt/cortex-autolearn/bin:/usr/local/bin:/usr/bin:/bin \
    CORTEX_HOME=/srv/cortex \
    SQLITE_TMPDIR=/srv/cortex/llm-mesh/auto-learning \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2
# A user by number: no base image must know it, and an orchestrator sees that it is not root.
USER 10001:10001
WORKDIR /
# The fleet's tree: what it writes, what is made of it, and the state.
VOLUME /srv/cortex
# Loopback of the container; for other containers or a published port: http.host = "0.0.0.0" and http.allow_public = true.
EXPOSE 9464
# The first drains, a second one leaves at once; give it longer than daemon.drain_grace_s (--stop-timeout 45).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["cortex-autolearn", "health"]
# Without a shell: signals reach the daemon, as process 1.
ENTRYPOINT ["cortex-autolearn"]
CMD ["run"]
