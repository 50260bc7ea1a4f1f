FROM python:3.11-slim AS build
COPY . /src
RUN python -m venv /opt/ingest \
    && /opt/ingest/bin/pip install --no-cache-dir '/src[monitor]'

FROM python:3.11-slim
COPY --from=build /opt/ingest /opt/ingest
RUN useradd --uid 10001 --create-home ingest \
    && install --directory --owner ingest --mode 700 /var/lib/ingest
ENV PATH=/opt/ingest/bin:$PATH \
    INGEST_STATE_DIR=/var/lib/ingest
USER ingest
WORKDIR /home/ingest
VOLUME /var/lib/ingest
STOPSIGNAL SIGTERM
ENTRYPOINT ["ingest"]
CMD ["--help"]
