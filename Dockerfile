# gvsl in a container, on the CPU:
#   docker build -t gvsl .
#   docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" gvsl prepare SOURCE STORE
# For a GPU take torch from PyPI, whose wheels are built for CUDA, and run it with --gpus all --shm-size 8g:
#   docker build -t gvsl:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# cluster, dicom, hub, monai, nnunet, onnx, remote, tensorboard or all, with commas between
ARG EXTRAS=dicom,tensorboard

WORKDIR /gvsl
COPY constraints.txt ./
# From its index alone: beside PyPI, an index that can't be reached would go unseen, and bring several GB for CUDA.
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]" && gvsl --version

# Any user may run it, as with -u: what is downloaded or compiled goes here.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
ENTRYPOINT ["gvsl"]
CMD ["--help"]
