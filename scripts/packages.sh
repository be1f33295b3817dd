# The system packages that the tests need. Sourced by ./dev.

# missing_packages [engines]: with it, those of the engines too.
missing_packages() {
  if [ "${1:-}" = engines ]; then
    find_postgresql || echo postgresql-15
    find_etcd || echo etcd-server
    # Hosts in namespaces, which only root can make.
    if [ "$(id -u)" = 0 ]; then
      [ -x /usr/sbin/sshd ] || echo openssh-server
      command -v ip >/dev/null || echo iproute2
    fi
  fi
  command -v curl >/dev/null || echo curl
  command -v git >/dev/null || echo git
  local python
  if ! python=$(find_python); then
    echo python3-venv
  elif can_install && [ ! -x "$venv/bin/python" ] && ! "$python" -c 'import ensurepip' 2>/dev/null; then
    echo python3-venv
  fi
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt-get itself waits for dpkg's lock, but not for that of its lists, which an automatic update
# holds for minutes on a newly started machine.
APT_SECONDS=${APT_SECONDS:-600}
patient_apt_get() {
  local end=$((SECONDS + APT_SECONDS)) code out
  out=$(mktemp)
  while true; do
    code=0
    apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout="$APT_SECONDS" "$@" 2>&1 | tee "$out" || code=$?
    if [ "$code" = 0 ] || ! grep -qE 'Could not get lock|Unable to lock' "$out" || [ "$SECONDS" -ge "$end" ]; then
      rm -f "$out"
      return "$code"
    fi
    say "Another program is installing packages; waiting for it (at most $APT_SECONDS s)"
    sleep 2
  done
}

# Installs packages without starting their services, now or at the next boot, and without creating a
# database cluster. Restores the settings that it changes for that, even after a failure.
install_packages() (
  policy=/usr/sbin/policy-rc.d
  saved=$policy.before-openvcha
  clusters=/etc/postgresql-common/createcluster.d/openvcha.conf
  restore() {
    rm -f "$policy" "$clusters"
    if [ -e "$saved" ]; then mv "$saved" "$policy"; fi
    if [ -n "$made" ]; then rmdir --ignore-fail-on-non-empty "$made"; fi
  }
  # A file that a killed run saved is the machine's original: do not overwrite it.
  if [ -e "$policy" ] && [ ! -e "$saved" ]; then mv "$policy" "$saved"; fi
  made=$(dirname "$clusters")
  if [ -d "$made" ]; then made=; fi
  trap restore EXIT
  trap 'exit 1' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  mkdir -p "$(dirname "$clusters")"
  echo 'create_main_cluster = false' >"$clusters"

  export DEBIAN_FRONTEND=noninteractive
  patient_apt_get update
  packages=()
  for package in "$@"; do
    # Other releases have another major version; postgresql is the default one of each release.
    case $package in postgresql-*) apt-cache show "$package" >/dev/null 2>&1 || package=postgresql ;; esac
    packages+=("$package")
  done
  patient_apt_get install -y --no-install-recommends "${packages[@]}"
  for package in "${packages[@]}"; do
    case $package in
      etcd-server) unit=etcd.service ;;
      openssh-server) unit=ssh.service ;;
      postgresql*) unit=postgresql.service ;;
      *) continue ;;
    esac
    if command -v systemctl >/dev/null; then systemctl --quiet disable "$unit" || true; fi
  done
)

# ensure_packages [engines]: with it, those of the engines too.
ensure_packages() {
  local missing engines=
  [ "${1:-}" != engines ] || engines="PostgreSQL 14 or newer, etcd 3.4 or newer, "
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" = 0 ] && return
  if can_install; then
    say "Installing ${missing[*]} (their services are not started)"
    install_packages "${missing[@]}" >&2
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" = 0 ] && return
    die "still missing after the installation: ${missing[*]}"
  fi
  say "The tests need ${engines}curl, git and Python 3.11 or newer."
  say "Missing here (Debian package names): ${missing[*]}"
  die "install them, for example: sudo apt-get install ${missing[*]}"
}
