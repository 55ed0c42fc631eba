# Functions that the scripts share. The scripts source this file.

say() { printf '\033[1m» %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# with_retry NAME COMMAND...: run a download up to three times, each for at most ten minutes; then fail.
with_retry() {
  what=$1; shift
  # timeout starts programs only, and as_root is a function.
  # shellcheck disable=SC2086  # several words
  if [ "$1" = as_root ]; then shift; root=$(becoming_root "$1"); set -- $root "$@"; fi
  for attempt in 1 2 3; do
    if timeout 600 "$@"; then return 0; fi
    say "$what failed (attempt $attempt of 3)"
  done
  fail "$what failed three times: check the network. The command was: $*"
}

# becoming_root COMMAND: print the words to put before a command that needs root.
becoming_root() {
  if [ "$(id -u)" -eq 0 ]; then echo env DEBIAN_FRONTEND=noninteractive
  elif command -v sudo >/dev/null; then echo sudo env DEBIAN_FRONTEND=noninteractive
  else fail "$1 needs root: run this as root, or install sudo"
  fi
}

as_root() {
  root=$(becoming_root "$1")
  # shellcheck disable=SC2086  # several words
  $root "$@"
}

# install_debian_packages PACKAGE...: install the packages that are missing.
install_debian_packages() {
  missing=
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "missing programs:$missing: install them (there is no apt-get to do it)"
  say "installing$missing"
  with_retry "apt-get update" as_root apt-get update -qq
  # shellcheck disable=SC2086  # one word a package
  with_retry "apt-get install" as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# facebridge_version: print the version of this checkout. bridge/__init__.py is the only place that contains it.
facebridge_version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' bridge/__init__.py; }

# python_environment [NAME...]: make .venv with the packages of requirements.lock, of requirements-build.lock, and of
# requirements-NAME.lock for each name; a second call does nothing.
python_environment() {
  ready=.venv/ready-$(echo "$*" | tr ' ' -)
  locks='requirements-build.lock requirements.lock'
  for name in "$@"; do locks="$locks requirements-$name.lock"; done
  # shellcheck disable=SC2086  # several words
  wanted="$(cat pyproject.toml $locks | cksum) $PWD"
  [ "$(cat "$ready" 2>/dev/null)" = "$wanted" ] && return 0
  command -v python3 >/dev/null || install_debian_packages python3
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$(python3 -V) is too old: install Python 3.11 or newer"
  if [ ! -x .venv/bin/pip ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_debian_packages python3-venv
    python3 -m venv .venv
  fi
  say "installing Facebridge and its dependencies into .venv"
  # pip cannot check the hash of a folder, so the checkout is installed by itself, with the locked build tools.
  # shellcheck disable=SC2046  # several words
  with_retry "pip install" .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --only-binary :all: --require-hashes $(printf ' --requirement %s' $locks)
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --editable . || fail 'the checkout could not be installed into .venv'
  printf '%s' "$wanted" >"$ready"
}

# cached NAME: print the folder for large installations. It is outside the checkout, so that all checkouts share it:
# FACEBRIDGE_CACHE, or the folder facebridge of the user's cache.
cached() { realpath --canonicalize-missing "${FACEBRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/facebridge}/$1"; }

# code_version FILE...: print a checksum of scripts without their comments, as a VERSION for made_once.
code_version() { cat "$@" | grep -v '^ *#' | cksum; }

# made_once FOLDER VERSION COMMAND...: make FOLDER with `COMMAND... FOLDER.making`, unless its VERSION exists already.
made_once() {
  folder=$1 version_wanted=$2; shift 2
  [ "$(cat "$folder/ready" 2>/dev/null)" = "$version_wanted" ] && return 0
  mkdir -p "$(dirname "$folder")"
  # If two checkouts run at the same time, the second waits for the first.
  exec 9>"$folder.lock"
  flock 9
  [ "$(cat "$folder/ready" 2>/dev/null)" = "$version_wanted" ] && return 0
  # Only root can remove the files of root.
  rm -rf --one-file-system "$folder" "$folder.making" 2>/dev/null ||
    as_root rm -rf --one-file-system "$folder" "$folder.making"
  mkdir "$folder.making"
  "$@" "$folder.making"
  mv "$folder.making" "$folder"
  printf '%s' "$version_wanted" >"$folder/ready"
}

# in_namespace COMMAND...: run as root in a mount namespace of its own, so that its mounts always end with it.
in_namespace() {
  set -- unshare --mount --propagation private "$@"
  # sudo clears the environment, and pip needs its variables for mirrors and certificates.
  for name in $(env | sed -n 's/^\(PIP_[A-Z0-9_]*\)=.*/\1/p'); do
    eval "set -- \"$name=\$$name\" \"\$@\""
  done
  as_root env "$@"
}

# debian_in FOLDER SUITE PACKAGE...: inside in_namespace, make a minimal Debian with this machine's network settings.
debian_in() {
  debian=$1 suite=$2; shift 2
  install_debian_packages debootstrap debian-archive-keyring
  # This machine's mirror if it runs Debian, otherwise the default of debootstrap.
  # shellcheck disable=SC2016  # apt's variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1)
  # Each attempt starts with an empty folder, because debootstrap cannot continue. Mounts of a failed attempt end with
  # the inner namespace.
  # shellcheck disable=SC2016,SC2086  # the inner shell's variables; a mirror or nothing
  with_retry 'debootstrap' unshare --mount sh -c 'rm -rf --one-file-system "$1"; shift; exec debootstrap "$@"' \
    sh "$debian" --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include="$(echo "$*" | tr ' ' ,)" "$suite" "$debian" $mirror >>"$debian.log"
  rm -f "$debian"/var/cache/apt/archives/*.deb
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then cp -L "$file" "$debian$file"; fi
  done
}
