# The environment in .venv: created once, and updated when its sources change. Sourced by ./dev.

# Prints the first Python that is new enough and has venv.
find_python() {
  local name
  for name in ${OPENVCHA_PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

make_venv() {
  local python=$1
  rm -rf "$venv"
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
  else
    "$python" -m venv --without-pip "$venv"
    add_pip || {
      rm -rf "$venv"
      die "this Python cannot create an environment with pip: install python3-venv (as root:" \
        "apt-get install python3-venv)"
    }
  fi
}

# Debian has a separate package for ensurepip. This unpacks pip from Debian's package in the
# environment, so that nothing is installed on the machine.
add_pip() {
  local parts=$venv/pip-package wheel
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  mkdir "$parts"
  (cd "$parts" && apt-get download -q python3-pip-whl && dpkg-deb -x ./*.deb .) >/dev/null 2>&1 || return 1
  wheel=$(echo "$parts"/usr/share/python-wheels/pip-*.whl)
  "$venv/bin/python" "$wheel/pip" install -q --no-index "$wheel" || return 1
  rm -rf "$parts"
}

# True if .venv works and was created at this path: its scripts contain the path.
venv_works() {
  [ -x "$venv/bin/python" ] &&
    [ "$("$venv/bin/python" -c 'import pip, sys; print(sys.prefix)' 2>/dev/null)" = "$venv" ] &&
    head -n 2 "$venv/bin/pip" | grep -qF "$venv/bin/"
}

# Waits for a slow registry and retries a failed transfer. Overrides settings of the machine that
# would install outside the environment.
pip_install() { pip_patiently install -q --no-build-isolation "$@"; }

pip_patiently() {
  local try
  for try in 1 2 3; do
    if PIP_USER=0 PIP_RETRIES=${PIP_RETRIES:-8} PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-60} \
      PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 \
      "$venv/bin/python" -m pip "$@"; then
      return
    fi
    [ "$try" = 3 ] || sleep $((try * 3))
  done
  die "pip $1 failed: see above"
}

# The sources of an environment: its path, the project file and the locks.
fingerprint() {
  { echo "$root" && cd "$root" && cat pyproject.toml locks/build.txt "locks/$1.txt"; } |
    sha256sum | cut -d ' ' -f 1
}

stamped() { [ "$(cat "$venv/stamp-$1" 2>/dev/null)" = "$(fingerprint "$1")" ]; }

fresh() { [ -x "$venv/bin/python" ] && [ -x "$venv/bin/vcha" ] && stamped "$1"; }

build() {
  local python
  # A concurrent ./dev waits here, and then finds the work done.
  flock 9
  if fresh "$1"; then return; fi
  if ! venv_works; then
    python=$(find_python) || die "Python 3.11 or newer is required (Debian, Ubuntu: python3, python3-venv)"
    say "Creating .venv with $("$python" --version), once"
    make_venv "$python"
  fi
  say "Installing the locked packages ($1); this can take a minute"
  pip_install --require-hashes -r "$root/locks/build.txt"
  pip_install --require-hashes -r "$root/locks/$1.txt"
  pip_install --no-deps -e "$root"
  fingerprint "$1" >"$venv/stamp-$1"
}

# ensure runtime|embedded|sdk|test: each includes runtime, and test includes all of them.
ensure() {
  if fresh "$1" || fresh test; then return; fi
  if [ "$1" = runtime ] && { fresh embedded || fresh sdk; }; then return; fi
  (build "$1") 9<"$root"
}

ensure_engines() {
  if needs_embedded; then ensure embedded; else ensure runtime; fi
}
