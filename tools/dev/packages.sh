# What ./dev installs: Debian 12's packages, by what needs them. Sourced by it.
# shellcheck shell=bash disable=SC2034,SC2154

packages_build=(cmake ninja-build g++ pkg-config ccache mold libuv1-dev libpq-dev libssl-dev
  libcpp-httplib-dev libyaml-cpp-dev libyaml-dev prometheus-cpp-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libcli11-dev)
packages_test=(googletest libgtest-dev libgmock-dev postgresql openssl python3 prometheus pgbouncer
  prometheus-pgbouncer-exporter)
packages_page=(chromium fonts-dejavu-core)
packages_lint=(git clang-format clang-tidy shellcheck pyflakes3)
packages_static=(python3-yaml python3-venv unzip prometheus)
commands_quick=(node:nodejs npm:npm go:golang-go)
packages_property=(postgresql python3 g++ libcli11-dev libpq-dev)
packages_fuzz=(clang libclang-rt-14-dev)
packages_bench=(postgresql pgbouncer haproxy python3)
packages_sizing=(postgresql python3 python3-matplotlib)
# Debian's, beside what the cluster builds for itself: containers, their network, certificates.
packages_cluster=(containerd runc containernetworking-plugins iptables iproute2 openssl gcc libc6-dev)

# Installs what is missing of the packages named. Silent and instant when nothing is.
install_missing() {
  local installed missing=() package
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    grep -qx "$package installed" <<<"$installed" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || {
      echo "dev: missing packages, and no sudo to install them: ${missing[*]}" >&2
      return 1
    }
    as_root=(sudo)
  fi
  echo "dev: installing ${missing[*]}" >&2
  # RUNLEVEL=1: the packages' own services (PostgreSQL on 5432, ...) are not wanted, so not started.
  local apt=("${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o Dpkg::Use-Pty=0)
  "${apt[@]}" update >&2
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >&2
}

# COMMAND:PACKAGE ...; what is installed in another way (a newer Go, a Rust of one's own) is taken.
install_missing_commands() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  ((${#missing[@]} == 0)) || install_missing "${missing[@]}"
}

# All that .ci/run needs, at once: that is quicker than a group a time.
setup() {
  local packages=("${packages_build[@]}" "${packages_test[@]}" "${packages_page[@]}"
    "${packages_lint[@]}" "${packages_static[@]}") pair
  for pair in "${commands_quick[@]}"; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
  done
  install_missing "${packages[@]}"
}
