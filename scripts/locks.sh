# The locks. Sourced by ./dev.

# compile NAME ARGUMENT...: one lock, without the addresses and paths of this machine.
compile() {
  local lock=locks/$1.txt
  shift
  "$tools/bin/python" -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
    --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    --no-emit-options --output-file "$lock" "$@"
  sed -i -e '/^# The following packages are/d' -e '/./,$!d' "$lock"
  sed -i '1i # Made by ./dev lock: not edited by hand.' "$lock"
}

# The oldest Python resolves, since it needs the most packages. Everything is resolved once, together;
# the other locks are cut out of that, so that no two locks differ in a version.
run_lock() {
  local tools=$root/.venv-lock
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  OPENVCHA_PYTHON=${OPENVCHA_PYTHON:-python3.11}
  [ -x "$tools/bin/python" ] || "$(find_python)" -m venv "$tools"
  venv=$tools pip_install --require-hashes -r "$root/locks/lock.txt"
  cp -r "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/locks" "$root/src" "$work"
  cd "$work"
  compile test pyproject.toml --extra embedded --extra test "$@"
  rm -f locks/embedded.txt locks/runtime.txt
  compile embedded pyproject.toml --extra embedded --constraint locks/test.txt
  compile runtime pyproject.toml --constraint locks/test.txt
  compile build pyproject.toml --build-deps-for editable --only-build-deps --constraint locks/test.txt
  compile lock locks/lock.in "$@"
  cp locks/*.txt "$root/locks"
  say "Wrote: $(echo locks/*.txt)"
}
