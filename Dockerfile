# syntax=docker/dockerfile:1
# The bank's three programs in one image; without further words it runs a branch on /data/bank.db.
#
#   docker build -t bank .
#   docker run -e BANK_ADMIN_PASSWORD=… -v mumbai:/data -p 127.0.0.1:9100:9100 -p 127.0.0.1:1069:1069 bank --name Mumbai
#
# A container listens beyond loopback, where the administrator's first password is refused: without
# BANK_ADMIN_PASSWORD at the first start the branch does not start, and says why.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /bank
# SQLite is compiled in by the C compiler that this image has; nothing else of the system is needed.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/bank/target \
    cargo build --release --locked -p bank-server -p bank-client -p bank-bridge \
    && install -D -t /programs target/release/bank-server target/release/bank-client target/release/bank-bridge

FROM debian:bookworm-slim
# The folders belong to the programs' user before they are volumes: a new volume takes the owner over.
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin bank \
    && install -d -o bank -g bank -m 0700 /data /key
COPY --from=build /programs/ /usr/local/bin/
USER bank
WORKDIR /data
ENV BANK_DB=/data/bank.db \
    BANK_HOST=0.0.0.0
VOLUME ["/data"]
# The branch protocol, the menu, and the bridge's HTTP.
EXPOSE 9100 1069 5000
# A stop takes at most two seconds.
STOPSIGNAL SIGTERM
# It fails when the branch does not answer, where BANK_HOST and BANK_PORT say that it listens, with TLS or without.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["bank-client", "--timeout", "4", "health"]
ENTRYPOINT ["bank-server"]
