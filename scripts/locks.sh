# The locks. Sourced by ./dev.

# compile NAME ARGUMENT...: writes one lock, without this machine's addresses and paths.
compile() {
  local lock=locks/$1.txt
  shift
  "$tools/bin/python" -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
    --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    --no-emit-options --output-file "$lock" "$@"
  sed -i -e '/^# The following packages are/d' -e '/./,$!d' "$lock"
  sed -i '1i # Made by ./dev lock: not edited by hand.' "$lock"
}

# group NAME: writes a dependency group's requirements to NAME.in; pip-compile supports no groups.
group() {
  "$tools/bin/python" - "$1" >"$1.in" <<'END'
import sys
import tomllib
from pathlib import Path

groups = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]


def flat(name):
    for each in groups[name]:
        yield from [each] if isinstance(each, str) else flat(each["include-group"])


print("\n".join(flat(sys.argv[1])))
END
}

# Resolves with the oldest Python, since it needs the most packages. Everything is resolved once,
# together; the other locks are subsets of that, so that no two locks differ in a version.
run_lock() {
  local name tools=$root/.venv-lock
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  OPENVCHA_PYTHON=${OPENVCHA_PYTHON:-python3.11}
  [ -x "$tools/bin/python" ] || "$(find_python)" -m venv "$tools"
  venv=$tools pip_install --require-hashes -r "$root/locks/lock.txt"
  cp -r "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/locks" "$root/src" "$work"
  cd "$work"
  group test
  group sdk
  compile test pyproject.toml test.in --extra embedded "$@"
  # pip-compile keeps existing hashes, so it need not fetch each file for them.
  for name in embedded runtime sdk; do cp locks/test.txt "locks/$name.txt"; done
  compile embedded pyproject.toml --extra embedded --constraint locks/test.txt
  compile runtime pyproject.toml --constraint locks/test.txt
  compile sdk pyproject.toml sdk.in --constraint locks/test.txt
  compile build pyproject.toml --build-deps-for editable --only-build-deps --constraint locks/test.txt
  compile lock locks/lock.in "$@"
  cp locks/*.txt "$root/locks"
  say "Wrote: $(echo locks/*.txt)"
}
