# One image for controller and agent: what a process does not import costs it no memory.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/
RUN python -m venv /opt/lvs-operator \
 && /opt/lvs-operator/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && /opt/lvs-operator/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
 && /opt/lvs-operator/bin/python -m compileall -q /opt/lvs-operator

FROM python:3.13-slim-bookworm
COPY --from=build /opt/lvs-operator /opt/lvs-operator
ENV PATH=/opt/lvs-operator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The agent's pod says runAsUser 0 itself; everything else runs as nobody.
USER 65532:65532
CMD ["lvs-controller"]
