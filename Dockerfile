# The core of bgetune and its service, without notebooks:
#   docker build -t bgetune .
#   docker run --rm -p 8000:8000 -v "$PWD/runs/mine:/srv/run:ro" bgetune
FROM python:3.12-slim
WORKDIR /srv/bgetune
COPY pyproject.toml requirements.lock README.md LICENSE ./
# PyTorch for the CPU; for an NVIDIA GPU leave this line out
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY src src
RUN pip install --no-cache-dir --constraint requirements.lock ".[serve]"
RUN useradd --create-home bgetune
USER bgetune
# vectors of the corpus, made by the first search, and models from the hub
ENV BGETUNE_CACHE=/home/bgetune/cache HF_HOME=/home/bgetune/hub
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["python", "-m", "bgetune.serve"]
CMD ["/srv/run", "--host", "0.0.0.0"]
