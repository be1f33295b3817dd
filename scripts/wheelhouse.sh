# openvcha and all that it needs, as wheels. Sourced by ./dev.

# run_wheelhouse [DIR]: replaces DIR, if it is a wheelhouse.
run_wheelhouse() {
  local target=${1:-wheelhouse}
  cd "$here"
  if [ -e "$target" ] && [ ! -e "$target/requirements.txt" ]; then
    die "$target exists and is not a wheelhouse"
  fi
  ensure runtime
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  pip_patiently wheel -q --no-deps --require-hashes -r "$root/locks/runtime.txt" -w "$work/wheels"
  # Of a copy: a build beside the sources would take over what an earlier one has left there.
  mkdir "$work/source"
  cp -r "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/src" "$work/source"
  find "$work/source" -name '*.egg-info' -prune -exec rm -rf {} +
  pip_patiently wheel -q --no-deps --no-build-isolation -w "$work/wheels" "$work/source"
  "$venv/bin/python" "$root/scripts/wheelhouse.py" "$work/wheels"
  rm -rf "$target"
  mkdir -p "$(dirname "$target")"
  mv "$work/wheels" "$target"
  chmod 755 "$target"
  say "Wrote: $target ($(find "$target" -name '*.whl' | wc -l) wheels)"
}
