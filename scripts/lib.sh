# What scripts/run and scripts/test share: everything they need is set up here. Sourced, not run.

say() { printf '\033[1m» %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# A download that hangs is tried again: three times, ten minutes each, and then said.
with_retry() {
  what=$1; shift
  # timeout starts programs, and as_root is none.
  # shellcheck disable=SC2086  # several words
  if [ "$1" = as_root ]; then shift; root=$(becoming_root "$1"); set -- $root "$@"; fi
  for attempt in 1 2 3; do
    if timeout 600 "$@"; then return 0; fi
    say "$what did not finish (attempt $attempt of 3)"
  done
  fail "$what failed three times; is the network there? The command was: $*"
}

# The words before a command that root has to run.
becoming_root() {
  if [ "$(id -u)" -eq 0 ]; then echo env DEBIAN_FRONTEND=noninteractive
  elif command -v sudo >/dev/null; then echo sudo env DEBIAN_FRONTEND=noninteractive
  else fail "this needs root or sudo: $1"
  fi
}

as_root() {
  root=$(becoming_root "$1")
  # shellcheck disable=SC2086  # several words
  $root "$@"
}

# install_debian_packages PACKAGE...: those that are missing, from the distribution.
install_debian_packages() {
  missing=
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "please install:$missing (no apt-get here to do it)"
  say "installing$missing"
  with_retry "apt-get update" as_root apt-get update -qq
  # shellcheck disable=SC2086  # one word a package
  with_retry "apt-get install" as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# python_environment EXTRAS: .venv with the locked dependencies; a second call is instant.
python_environment() {
  extras=$1
  ready=.venv/ready-$extras
  wanted="$(cat pyproject.toml requirements.lock | cksum) $PWD"
  [ "$(cat "$ready" 2>/dev/null)" = "$wanted" ] && return 0
  command -v python3 >/dev/null || install_debian_packages python3
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed, $(python3 -V) is here"
  if [ ! -x .venv/bin/pip ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_debian_packages python3-venv
    python3 -m venv .venv
  fi
  say "installing Facebridge and what it needs into .venv"
  with_retry "pip install" .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock --editable ".[$extras]"
  printf '%s' "$wanted" >"$ready"
}
