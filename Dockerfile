# Builds replyvault and puts it into a small image without a compiler, running as an unprivileged user.
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Dependencies change less often than code: they get a layer of their own.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY crates/domain/Cargo.toml crates/domain/
COPY crates/simulator/Cargo.toml crates/simulator/
RUN mkdir -p src crates/domain/src crates/simulator/src && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs crates/domain/src/lib.rs crates/simulator/src/lib.rs \
    && cargo build --profile dist --locked && rm -rf src crates/*/src
COPY config.toml ./
COPY src ./src
COPY crates ./crates
RUN touch src/main.rs src/lib.rs crates/*/src/lib.rs && cargo build --profile dist --locked && strip target/dist/replyvault

FROM debian:bookworm-slim
# Certificates for https to the CDN and to storage.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin replyvault \
    && install -d -o replyvault -g replyvault -m 0700 /data
COPY --from=build /src/target/dist/replyvault /usr/local/bin/replyvault
USER 10001:10001
VOLUME /data
WORKDIR /data
ENV REPLYVAULT_SERVER__LISTEN=0.0.0.0:8080 \
    REPLYVAULT_DATA__DIR=/data \
    REPLYVAULT_STORAGE__URL=file:/data/bucket
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["replyvault", "health"]
ENTRYPOINT ["replyvault"]
CMD ["serve"]
