# The kdmri service: the base install, without training.  Needs no BuildKit: the classic builder will do.
#
#   docker build -t kdmri .                                                                          CPU
#   docker build -t kdmri:gpu --build-arg TORCH_INDEX= --build-arg ONNXRUNTIME=onnxruntime-gpu \
#     --build-arg EXTRAS=traces .                                                                    NVIDIA
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What is to be installed: the requirements, and the project as a wheel.
FROM ${PYTHON_IMAGE} AS project
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY kdmri kdmri
COPY service service
# traces: small, and off until KDMRI_TRACES is set.  openvino: 180 MB for less than half the time on a processor that
# computes in bfloat16, and of no use with a GPU; tensorrt: gigabytes, for a GPU (deploy/README.md).
ARG EXTRAS="openvino traces"
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    print(*project['dependencies'], *sum(map(extras.get, '${EXTRAS}'.split()), []), sep='\n')" > /requirements.txt
# Training is not in the image, so its commands are not offered.
RUN sed -i '/"kdmri_training\./d' pyproject.toml && pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM ${PYTHON_IMAGE}
# PyPI's own torch for Linux carries CUDA (gigabytes); this index has the one for CPUs.  Empty: PyPI alone.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# onnxruntime and onnxruntime-gpu unpack into one folder, so exactly one of the two may be installed.
ARG ONNXRUNTIME=onnxruntime
# A number, not a name, so that an orchestrator can see that it is not root.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin kdmri
# A new volume takes over the owner of the folder that it is mounted on.
RUN install -d -m 700 -o kdmri /var/lib/kdmri
WORKDIR /app

# The requirements first, by their content: a change of the code leaves this layer, by far the largest, as it is.
COPY constraints.txt ./
COPY --from=project /requirements.txt ./
RUN sed -i "s/^onnxruntime\b/${ONNXRUNTIME}/" requirements.txt \
    && pip install --no-cache-dir --root-user-action=ignore ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
       -c constraints.txt -r requirements.txt
COPY --from=project /wheel /app/wheel
RUN pip install --no-cache-dir --root-user-action=ignore --no-deps wheel/*.whl
COPY models models

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    KDMRI_HOST=0.0.0.0 \
    KDMRI_PORT=8000 \
    KDMRI_MODELS=/app/models
USER 10001:10001
EXPOSE 8000
# /tmp is the one place the service writes to (uploads on their way in): give it a tmpfs and the root can be read-only.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
  "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['KDMRI_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["kdmri", "serve"]
