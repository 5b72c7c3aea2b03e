# The image of workers, evaluation and dashboard: docker build -t pairsearch .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# The package index of torch. The default has builds for the CPU alone, a tenth of the size of those with CUDA; for a
# GPU leave it empty, which is pip's own default, or name the index of a CUDA version. One command installs torch and
# torchvision, so that pip picks builds that belong together; set TORCH and TORCHVISION to fixed versions for a
# repeatable image.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH="torch>=2.9"
ARG TORCHVISION="torchvision>=0.24"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH" "$TORCHVISION"
WORKDIR /src
# .dockerignore admits the files of a checkout, or the wheel that `pairsearch deploy` wrote beside this file.
COPY . .
# Packages that a problem of your own imports, separated by spaces: pandas lightgbm==4.6.0
ARG PACKAGES=""
RUN set -- ./pairsearch-*.whl && if [ ! -e "$1" ]; then set -- .; fi && pip install "$1[dashboard]" $PACKAGES

FROM python:${PYTHON}-slim
# LightGBM and other compiled packages load the system's OpenMP library.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
# /data holds MNIST; a new named volume takes over its owner. /cache holds compiled kernels, which are code: it is used
# only if no other user can write to it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp pairsearch \
    && install --directory --owner=10001 --group=10001 /data \
    && install --directory --owner=10001 --group=10001 --mode=0700 /cache
# The image has no git, so results name the commit by this argument:
# --build-arg PAIRSEARCH_COMMIT=$(git describe --always --dirty=+ --abbrev=12)
ARG PAIRSEARCH_COMMIT=unknown
# The root file system may be read-only: Python writes no bytecode, and libraries write their files to /tmp.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PAIRSEARCH_COMMIT=$PAIRSEARCH_COMMIT \
    PAIRSEARCH_DATA=/data \
    NUMBA_CACHE_DIR=/cache
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["pairsearch"]
CMD ["--help"]
