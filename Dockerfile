FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base

# The source and the build tools stay in this stage: the image contains only the installed packages.
FROM base AS packages
WORKDIR /source
COPY requirements-build.lock requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
      --only-binary :all: --require-hashes --requirement requirements-build.lock
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
      --only-binary :all: --require-hashes --requirement requirements.lock \
      --ignore-installed --no-warn-script-location --prefix /dependencies
COPY LICENSE README.md pyproject.toml ./
COPY bridge bridge
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheel . \
 && pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
      --no-deps --no-index --only-binary :all: \
      --ignore-installed --no-warn-script-location --prefix /facebridge /wheel/facebridge-*.whl

FROM base
# Copied, not mounted: Podman reuses a cached layer even if the content of a mount has changed, so an upgrade would
# have no effect (https://github.com/containers/buildah/issues/5400).
COPY --from=packages /dependencies /usr/local
COPY --from=packages /facebridge /usr/local
RUN pip check --disable-pip-version-check \
 && useradd --system --uid 1500 --create-home --home-dir /data facebridge
USER facebridge
WORKDIR /data
EXPOSE 8765 8099
HEALTHCHECK CMD ["python", "-I", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8099/healthz', timeout=3)"]
CMD ["facebridge", "run"]
