# The command `streamer`, without the local Kafka and without what training needs.

# The full image has a C compiler for the extensions.
FROM python:3.12 AS build
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY schemas schemas
COPY models models
COPY streamer streamer
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
WORKDIR /src
COPY --from=build /wheels /wheels
COPY constraints.txt ./
# `--build-arg EXTRAS=redis,ui` for `streamer sink redis` and `streamer ui`.
ARG EXTRAS=
RUN pip install --no-cache-dir --constraint constraints.txt "$(echo /wheels/*.whl)${EXTRAS:+[$EXTRAS]}" \
    && rm -rf /src/* /wheels

# Nobody in particular: it needs no rights, and writes only to its working directory.
RUN useradd --create-home --uid 10001 streamer
USER streamer
WORKDIR /home/streamer

# Of a worker; other commands have pages of their own.
ENV STREAMER_WORKER__METRICS_PORT=9090
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9090/livez')"]

ENTRYPOINT ["streamer"]
CMD ["worker"]
