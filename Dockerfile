# docker build -t arc-experiments .                             for CPUs
# docker build -t arc-experiments --build-arg VARIANT=cuda .    for NVIDIA GPUs
# docs/containers.md says how to run it, and how it is tested without Docker.

FROM debian:bookworm-slim AS base
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates python3 \
  && rm -rf /var/lib/apt/lists/*

# Compilers stay in this stage: one need of the RE-ARC generators (pycosat) has no wheels.
FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src

# What the package needs, in a layer of its own: it is kept when only the package changes.
COPY pyproject.toml constraints.txt ./
ARG VARIANT=cpu
ARG CPU_WHEELS=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
  python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['re-arc'], sep='\n')" > requirements.txt \
  && case "$VARIANT" in \
    cpu) export PIP_EXTRA_INDEX_URL="$CPU_WHEELS" ;; \
    cuda) ;; \
    *) echo "VARIANT=$VARIANT: cpu or cuda" >&2; exit 1 ;; \
  esac \
  && pip install --prefer-binary --constraint constraints.txt --requirement requirements.txt \
  && pip install --no-deps --constraint constraints.txt reasoning-gym

COPY README.md LICENSE ./
COPY conf conf
COPY arc_experiments arc_experiments
RUN --mount=type=cache,target=/root/.cache/pip \
  pip install --no-deps --constraint constraints.txt .

FROM base AS run
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 1000 --create-home arc && install --directory --owner=arc --group=arc /runs
# Runs, models of the hub and caches are all in /runs, which is to be mounted: nothing else is written to.
ENV PATH=/opt/venv/bin:$PATH HOME=/runs USER=arc HF_HOME=/runs/.cache/huggingface \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /runs
ENTRYPOINT ["arc-experiments"]
CMD ["--help"]
