# The command `streamer`, without the local Kafka and without what training needs.
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY models models
COPY streamer streamer
RUN pip install --no-cache-dir --constraint constraints.txt . && rm -rf /src/*

# Nobody in particular: it needs no rights, and writes only to its working directory.
RUN useradd --create-home --uid 10001 streamer
USER streamer
WORKDIR /home/streamer

ENTRYPOINT ["streamer"]
CMD ["worker"]
