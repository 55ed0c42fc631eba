FROM python:3.13-slim-bookworm
COPY . /source
RUN pip install --no-cache-dir --constraint /source/requirements.lock "/source[heif]" \
 && rm -r /source \
 && useradd --system --uid 1500 --create-home --home-dir /data facebridge
USER facebridge
WORKDIR /data
EXPOSE 8765 8099
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8099/healthz', timeout=3)"]
CMD ["facebridge", "run"]
