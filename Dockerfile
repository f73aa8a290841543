# The image of the sidecar: the binary, glibc, CA certificates, and nothing else. No shell, no package
# manager, not root, nothing to write to. All other libraries are linked into the binary, which keeps
# a pod's resident memory small; libpq is built without LDAP and GSSAPI (tools/archives).
#
#   docker build --build-arg VERSION=0.1.0 --tag carpool:0.1.0 .
#
# The same file serves amd64 and arm64; build it on, or with an emulator for, the architecture.

FROM docker.io/library/debian:bookworm-slim AS build
RUN find /etc/apt -name '*.sources' -exec sed -i 's/^Types: deb$/Types: deb deb-src/' {} + \
    && find /etc/apt -name '*.list' -exec sed -i 's/^deb \(.*\)/&\ndeb-src \1/' {} + \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates cmake dpkg-dev g++ libcli11-dev libcpp-httplib-dev libfmt-dev libpq-dev \
        libspdlog-dev libssl-dev libuv1-dev libyaml-cpp-dev libyaml-dev ninja-build nlohmann-json3-dev \
        pkg-config prometheus-cpp-dev python3-minimal
WORKDIR /src
COPY tools/archives tools/archives
# Empty: Debian's shared libraries instead, and with them a libpq that knows GSSAPI and LDAP.
ARG ARCHIVES=/archives
RUN test -z "$ARCHIVES" || tools/archives "$ARCHIVES"
COPY CMakeLists.txt ./
COPY sidecar sidecar
ARG VERSION=0.1.0
# The tests are built and run elsewhere.
RUN cmake -S . -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCARPOOL_VERSION="$VERSION" \
        -DCARPOOL_ARCHIVES="$ARCHIVES" -DCARPOOL_TESTS=OFF \
    && ninja -C /build carpool \
    && strip /build/carpool

# What the loader names, each at the path by which it is found: glibc, and the loader itself.
# Names are resolved by glibc's own files and dns modules, which since 2.34 are part of libc.
RUN set -eu; \
    mkdir -p /image/etc/ssl/certs /image/etc/carpool /image/etc/carpool-secrets; \
    ldd /build/carpool | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | while read -r library; do \
        install -D -m 0755 "$library" "/image$library"; \
    done; \
    install -m 0755 /build/carpool /image/carpool; \
    install -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    install -D -m 0644 /etc/ssl/openssl.cnf /image/usr/lib/ssl/openssl.cnf; \
    ln -s /etc/ssl/certs /image/usr/lib/ssl/certs; \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf; \
    echo 'carpool:x:65532:65532:carpool:/:/sbin/nologin' >/image/etc/passwd; \
    echo 'carpool:x:65532:' >/image/etc/group

FROM scratch
COPY --from=build /image /
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Carpool" \
      org.opencontainers.image.description="A PostgreSQL connection pooler that rides in your pod" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch"
USER 65532:65532
EXPOSE 6432 9930
ENTRYPOINT ["/carpool"]
CMD ["run"]
