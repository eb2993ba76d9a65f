# The sidecar image: `docker build -t talon-proxy .`
#
# Two stages, so that neither pip nor a compiler is in the image. Everything is installed from the hash-pinned locks; the
# proxy itself is compiled (pyproject.toml, hooks.mypyc), which takes a third off the CPU per call.
FROM python:3.13 AS build
WORKDIR /build
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: \
      --target /opt/talon-proxy -r requirements.lock
COPY tests/requirements.lock tests/
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r tests/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN HATCH_BUILD_HOOKS_ENABLE=1 python -m pip install --no-cache-dir --no-deps --no-build-isolation \
      --target /opt/talon-proxy . \
 && python -m compileall -q /opt/talon-proxy

FROM python:3.13-slim
LABEL org.opencontainers.image.title="talon-proxy" \
      org.opencontainers.image.description="A sidecar between a shop's backend and Talon.One" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/talon-proxy /opt/talon-proxy
# Nothing is ever written: run it with a read-only root. Numeric, so that Kubernetes can check runAsNonRoot.
ENV PYTHONPATH=/opt/talon-proxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 7410 7411
ENTRYPOINT ["python", "-P", "-m", "proxy"]
CMD ["serve"]
