# rsockd and rsock: docker build -t rsockd .
# docker run -p 7878:7878 -p 7879:7879 -v rsockd:/var/lib/rsockd -v ./access.toml:/etc/rsockd/access.toml rsockd \
#   --access /etc/rsockd/access.toml
# It listens on all addresses of its container, and so wants to know who may come: without --access it starts with
# -e RSOCKD_OPEN_TO_ALL=true alone, as where only 127.0.0.1:7878 of the host is published.
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p rsock-server -p rsock-client

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/rsockd --create-home rsockd
COPY --from=build /src/target/release/rsockd /src/target/release/rsock /usr/bin/
USER rsockd
EXPOSE 7878 7879
VOLUME /var/lib/rsockd
ENV RSOCKD_LISTEN=tcp://0.0.0.0:7878,ws://0.0.0.0:7879/rsocket RSOCKD_DATA=/var/lib/rsockd
HEALTHCHECK CMD ["curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:7879/healthz"]
# A drain takes 30 s at most: docker stop -t 45
STOPSIGNAL SIGTERM
ENTRYPOINT ["rsockd"]
