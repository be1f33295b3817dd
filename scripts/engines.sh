# Finds the machine's PostgreSQL and etcd, as openvcha.node.engines does. Sourced by ./dev.

# at_least FOUND WANTED: compares dotted version numbers.
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

find_postgresql() {
  local bin version on_path
  on_path=$(readlink -f "$(command -v postgres || echo /nowhere/postgres)")
  for bin in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /usr/pgsql/bin "${on_path%/*}"; do
    [ -x "$bin/postgres" ] && [ -x "$bin/pg_basebackup" ] || continue
    version=$("$bin/postgres" --version | grep -oE '[0-9]+' | head -n 1)
    if at_least "$version" 14; then return 0; fi
  done
  return 1
}

find_etcd() {
  local version
  version=$(etcd --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1) || return 1
  at_least "$version" 3.4
}

needs_embedded() {
  case ${OPENVCHA_ENGINES:-} in
    system) return 1 ;;
    embedded) return 0 ;;
    *) ! { find_postgresql && find_etcd; } ;;
  esac
}
