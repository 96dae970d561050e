# From the repository alone: docker build -t run-recorder . makes the image of the daemon and the tool: the two programs, the
# libraries they load, and nothing else, no shell and no package manager. With --target tool -t run-recorder-tool it
# makes one that holds the static tool alone, for images of workers to copy it from. Debian 12 builds both.
FROM debian:bookworm-slim AS sources
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      g++ cmake ninja-build pkg-config libboost1.81-dev libpqxx-dev libspdlog-dev libfmt-dev nlohmann-json3-dev \
      libtomlplusplus-dev libcli11-dev libsystemd-dev libsqlite3-dev libhowardhinnant-date-dev \
      tzdata ca-certificates
COPY . /source

FROM sources AS build-tool
RUN cmake --preset static -S /source -B /build && ninja -C /build

FROM scratch AS tool
COPY --from=build-tool /build/bin/run-recorder /run-recorder
ENTRYPOINT ["/run-recorder"]

FROM sources AS build
RUN cmake -S /source -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DRR_TESTS=OFF && ninja -C /build && \
    strip /build/bin/run-recorderd /build/bin/run-recorder
# /image becomes the root of the last stage. Its user has a number, because some want to see that it is not root's.
RUN mkdir -p /image/usr/bin /image/usr/share /image/etc/ssl/certs /image/run/run-recorder /image/var/lib/run-recorder && \
    install -d -m 1777 /image/tmp && \
    cp /build/bin/run-recorderd /build/bin/run-recorder /image/usr/bin && \
    ldd /image/usr/bin/* | awk '$2 == "=>" {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' | sort -u | \
      xargs cp --dereference --parents --target-directory=/image && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs && \
    cp --archive /usr/share/zoneinfo /image/usr/share && \
    printf 'root:x:0:0::/:\nrun-recorder:x:10001:10001::/var/lib/run-recorder:\n' > /image/etc/passwd && \
    printf 'root:x:0:\nrun-recorder:x:10001:\n' > /image/etc/group && \
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' > /image/etc/nsswitch.conf && \
    chown -R 10001:10001 /image/run/run-recorder /image/var/lib/run-recorder && \
    chmod 0700 /image/var/lib/run-recorder

FROM scratch
LABEL org.opencontainers.image.title="run-recorder" \
      org.opencontainers.image.description="Records what background jobs did, and finds the ones that silently died" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /image/ /
USER 10001:10001
ENV RUNTIME_DIRECTORY=/run/run-recorder STATE_DIRECTORY=/var/lib/run-recorder
# The sockets, for the workers; the spool, and the SQLite database where no other is configured.
VOLUME ["/run/run-recorder", "/var/lib/run-recorder"]
# It answers and accepts all events. Whether it accepts at least starts and ends of runs is GET /readyz on the control
# socket.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/bin/run-recorder", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/run-recorderd"]
