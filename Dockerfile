# The sidecar image: `docker build -t talon-proxy .`; deploy/README.md says how it is run.
#
# Two stages, so that neither pip nor a compiler's headers are in what runs. Everything is installed from the
# hash-pinned locks; the proxy itself is compiled (pyproject.toml, hooks.mypyc), which takes a third off the CPU per
# call. `make image` does these steps without a container engine.
FROM python:3.13-trixie AS build
WORKDIR /build
COPY requirements.lock deploy/compile.lock ./
# For the compiler, which reads their types, and for the image.
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock -r compile.lock \
 && python -m pip install --no-cache-dir --require-hashes --only-binary :all: \
      --target /opt/talon-proxy -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN HATCH_BUILD_HOOKS_ENABLE=1 python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /build/dist . \
 && python -m pip install --no-cache-dir --no-deps --target /opt/talon-proxy /build/dist/*.whl \
 && python -m compileall -q /opt/talon-proxy

FROM python:3.13-slim-trixie
COPY --from=build /opt/talon-proxy /opt/talon-proxy
# Nothing is ever written: run it with a read-only root. No PYTHONPATH of a caller's, and no working directory, is
# looked into (-P).
ENV PYTHONPATH=/opt/talon-proxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Numeric, so that Kubernetes can check runAsNonRoot. It owns nothing: any other user will do as well.
USER 65532:65532
EXPOSE 7410 7411
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-P", "-m", "proxy", "health"]
ENTRYPOINT ["python", "-P", "-m", "proxy"]
CMD ["serve"]
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="talon-proxy" \
      org.opencontainers.image.description="A sidecar between a shop's backend and Talon.One" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
