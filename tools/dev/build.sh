# Builds and tests. Sourced by ./dev. Three folders, each for one purpose:
#
#   build/       carpool as it is delivered: optimised, linked as a whole
#   build-test/  everything plainly, to be tested
#   build-asan/  everything with AddressSanitizer and UndefinedBehaviorSanitizer
# shellcheck shell=bash disable=SC2034,SC2154

# ccache finds what was compiled in another checkout, and headers that were read once.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros

# Most tests wait: for PostgreSQL, for a time that has to pass. Those that compute say so (PROCESSORS).
test_jobs=$((3 * $(nproc)))

# stage NAME COMMAND [ARGS]: runs it, and notes what it took for `./dev check --times`.
stage() { "$python" tools/dev/times.py stage "$@"; }

# configure FOLDER [CMAKE ARGS]
configure() {
  local folder=$1
  shift
  cmake -S . -B "$folder" -G Ninja --log-level=WARNING "$@" >/dev/null
}

configure_plain() { configure build-test -DCMAKE_BUILD_TYPE=Debug; }

# configure_sanitized [CMAKE ARGS]: what else is asked, and with which PostgreSQL, is forgotten unless
# it is named.
configure_sanitized() {
  configure build-asan -DCMAKE_BUILD_TYPE=Debug -DCARPOOL_SANITIZE=ON -DCARPOOL_DELIVERED= \
    -DCARPOOL_POSTGRESQL_NEWEST= -DCARPOOL_POSTGRESQL_OLDEST= "$@"
}

# build [--tests]: carpool, and with --tests all that `./dev test` asks.
build() {
  install_missing "${packages_build[@]}" "${packages_test[@]}"
  mkdir -p build
  (
    flock 9 # .ci/run does more than one thing that begins with a build
    configure build -DCMAKE_BUILD_TYPE=RelWithDebInfo
    stage "build, as delivered" ninja -C build carpool
  ) 9>build/.lock
  [[ ${1-} != --tests ]] || build_everything
}

# Six files as one are quicker, and do not compile where two of them use one name for two things. That
# is said, and costs time instead of a red run.
build_sanitized() {
  stage "build, build-asan" ninja -C build-asan && return
  echo "dev: once more, each file by itself; if it works, one of the above belongs into \`alone\`" \
    "of CMakeLists.txt" >&2
  cmake -S . -B build-asan -DCARPOOL_UNITY=OFF >/dev/null
  stage "build, build-asan, each file by itself" ninja -C build-asan
}

# run_tests FOLDER [CTEST ARGS]
run_tests() {
  local folder=$1
  shift
  if [[ $folder == build-asan ]]; then
    build_sanitized
  else
    stage "build, $folder" ninja -C "$folder"
  fi
  ctest_in "$folder" "$@"
}

ctest_in() {
  local folder=$1
  shift
  stage "tests, $folder" ctest --test-dir "$folder" --output-on-failure -j "$test_jobs" "$@"
}

postgresql() {
  install_missing_commands npm:npm
  "$python" tools/postgresql.py "$1"
}

# The sanitizers see everything; the binary as it is delivered is asked again what they hide, such as
# times and memory, and what needs PostgreSQL again on the newest. One ctest, so that no core idles.
build_everything() {
  local versions=() newest oldest
  if [[ $(uname -m) == x86_64 ]]; then
    newest=$(postgresql 18)
    oldest=$(postgresql 14)
    versions=("-DCARPOOL_POSTGRESQL_NEWEST=$newest" "-DCARPOOL_POSTGRESQL_OLDEST=$oldest")
  else
    echo "dev: other versions of PostgreSQL are packaged for x86_64 alone: only the installed one" >&2
  fi
  configure_sanitized -DCARPOOL_DELIVERED="$PWD/build/carpool" "${versions[@]}"
  build_sanitized
}

# run_test [--sanitize] [--postgresql VERSION] [CTEST ARGS]
run_test() {
  install_missing "${packages_build[@]}" "${packages_test[@]}" "${packages_page[@]}"
  if (($# == 0)); then
    build --tests
    ctest_in build-asan
    return
  fi
  local sanitize=false
  while [[ ${1-} == --sanitize || ${1-} == --postgresql ]]; do
    if [[ $1 == --sanitize ]]; then
      sanitize=true
      shift
    else
      POSTGRES_BIN_DIR=$(postgresql "${2-}")
      export POSTGRES_BIN_DIR
      set -- "${@:3}" -L integration
    fi
  done
  if "$sanitize"; then
    configure_sanitized
    run_tests build-asan "$@"
  else
    configure_plain
    run_tests build-test "$@"
  fi
}
