# Two stages: build on Debian 12, then only what runs.
FROM debian:bookworm-slim AS build
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      g++ cmake ninja-build pkg-config libboost1.81-dev libpqxx-dev libspdlog-dev libfmt-dev nlohmann-json3-dev \
      libtomlplusplus-dev libcli11-dev libsystemd-dev libsqlite3-dev
COPY . /source
RUN cmake -S /source -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRR_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr && \
    ninja -C /build && strip /build/bin/run-recorderd /build/bin/run-recorder

FROM debian:bookworm-slim
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      libpqxx-6.4 libspdlog1.10 libfmt9 libtomlplusplus3 libsqlite3-0 libsystemd0 ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --no-create-home --home-dir /var/lib/run-recorder run-recorder && \
    install -d -o run-recorder -g run-recorder /run/run-recorder /var/lib/run-recorder
COPY --from=build /build/bin/run-recorderd /build/bin/run-recorder /usr/bin/
USER run-recorder
ENV RUNTIME_DIRECTORY=/run/run-recorder STATE_DIRECTORY=/var/lib/run-recorder
VOLUME ["/run/run-recorder", "/var/lib/run-recorder"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/run-recorderd"]
