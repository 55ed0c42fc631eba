# What the scripts share: everything they need is set up here. Sourced, not run.

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

# cached NAME: the folder for what is big to make, outside the checkout, so that every checkout has the same one:
# FACEBRIDGE_CACHE, or facebridge in the user's cache.
cached() { realpath --canonicalize-missing "${FACEBRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/facebridge}/$1"; }

# made_once FOLDER WANTED COMMAND...: FOLDER as `COMMAND... FOLDER.making` fills it, unless it is there as WANTED already.
made_once() {
  folder=$1 wanted=$2; shift 2
  [ "$(cat "$folder/ready" 2>/dev/null)" = "$wanted" ] && return 0
  mkdir -p "$(dirname "$folder")"
  # Two checkouts tested at a time make it once.
  exec 9>"$folder.lock"
  flock 9
  [ "$(cat "$folder/ready" 2>/dev/null)" = "$wanted" ] && return 0
  # What root has made only root removes.
  rm -rf --one-file-system "$folder" "$folder.making" 2>/dev/null ||
    as_root rm -rf --one-file-system "$folder" "$folder.making"
  mkdir "$folder.making"
  "$@" "$folder.making"
  mv "$folder.making" "$folder"
  printf '%s' "$wanted" >"$folder/ready"
}

# in_namespace COMMAND...: as root, in a mount namespace of its own: what it mounts is gone with it, however it ends.
in_namespace() {
  set -- unshare --mount --propagation private "$@"
  # sudo takes the environment away, and with it what it tells pip of mirrors and certificates.
  for name in $(env | sed -n 's/^\(PIP_[A-Z0-9_]*\)=.*/\1/p'); do
    eval "set -- \"$name=\$$name\" \"\$@\""
  done
  as_root env "$@"
}

# debian_in FOLDER SUITE PACKAGE...: within in_namespace: a minimal Debian that reaches the network as this machine does.
debian_in() {
  debian=$1 suite=$2; shift 2
  install_debian_packages debootstrap debian-archive-keyring
  # The machine's own mirror where it is a Debian, else debootstrap's.
  # shellcheck disable=SC2016  # apt's variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)
  # Anew each time: half a Debian can't be finished. What a broken attempt has mounted in it goes with the namespace.
  # shellcheck disable=SC2016,SC2086  # the inner shell's variables; a mirror or nothing
  with_retry 'debootstrap' unshare --mount sh -c 'rm -rf --one-file-system "$1"; shift; exec debootstrap "$@"' \
    sh "$debian" --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include="$(echo "$*" | tr ' ' ,)" "$suite" "$debian" $mirror >>"$debian.log"
  rm -f "$debian"/var/cache/apt/archives/*.deb
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then cp -L "$file" "$debian$file"; fi
  done
}
