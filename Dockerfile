# One image for every stage; docker-compose.yml runs it once per stage.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential curl ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust:1.95-slim-bookworm /usr/local/cargo /usr/local/cargo
COPY --from=rust:1.95-slim-bookworm /usr/local/rustup /usr/local/rustup
ENV PATH=/usr/local/cargo/bin:$PATH RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/wup && /opt/wup/bin/pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml Cargo.toml Cargo.lock README.md LICENSE ./
COPY rust/ rust/
COPY python/ python/
RUN PATH=/opt/wup/bin:$PATH maturin build --locked --release --out /dist \
    && /opt/wup/bin/pip install --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm
COPY --from=build /opt/wup /opt/wup
COPY mappings/ /mappings/
# A named volume takes its owner from here.
RUN mkdir /recordings && chown 65532:65532 /recordings
ENV PATH=/opt/wup/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["wup"]
