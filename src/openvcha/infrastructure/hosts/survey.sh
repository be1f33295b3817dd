# Looks at this machine and changes nothing. Prints lines NAME<TAB>VALUE; its arguments are the
# directories whose free space matters.
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
exec </dev/null
tell() { printf '%s\t%s\n' "$1" "$2"; }
tell_each() { while IFS= read -r line; do tell "$1" "$line"; done; }

tell now "$(date +%s.%N)"
tell uid "$(id -u)"
if [ -r /etc/os-release ]; then (. /etc/os-release && tell os "$ID ${VERSION_ID:-}"); fi
for name in python3.13 python3.12 python3.11 python3; do
  path=$(command -v "$name") || continue
  tell python "$path $("$path" -I -c '
import importlib.util, sys
print("%d.%d.%d" % sys.version_info[:3], "venv" if importlib.util.find_spec("ensurepip") else "-")
' 2>/dev/null)"
done
for bin in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /usr/pgsql/bin; do
  [ -x "$bin/postgres" ] && [ -x "$bin/pg_basebackup" ] || continue
  tell postgresql "$bin $("$bin/postgres" --version 2>/dev/null)"
done
if path=$(command -v etcd); then
  tell etcd "$path $("$path" --version 2>/dev/null | head -n 1)"
fi

cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print $2 }' | head -n 2000 | tell_each listener
if command -v ss >/dev/null; then ss -Hltnp 2>/dev/null | head -n 2000 | tell_each socket; fi

if [ -d /run/systemd/system ]; then tell systemd runs; fi
if command -v systemctl >/dev/null; then
  for unit in etcd postgresql; do
    tell unit "$unit $(systemctl is-enabled "$unit.service" 2>/dev/null || :) $(systemctl is-active "$unit.service" 2>/dev/null || :)"
  done
fi

if [ "$(id -u)" = 0 ]; then
  tell firewall readable
  if command -v nft >/dev/null; then nft list ruleset 2>/dev/null | head -n 1000 | tell_each nft; fi
  for save in iptables-save ip6tables-save; do
    if command -v "$save" >/dev/null; then "$save" 2>/dev/null | head -n 1000 | tell_each iptables; fi
  done
fi

for directory; do
  at=$directory
  while [ ! -e "$at" ] && [ "$at" != / ]; do at=$(dirname "$at"); done
  tell space "$(df -Pk "$at" 2>/dev/null | awk 'NR == 2 { print $4 }') $directory"
done

own=/usr/local/lib/openvcha/bin/python
if [ -x "$own" ]; then
  tell openvcha "$("$own" -I -c 'from importlib.metadata import version; print(version("openvcha"))' 2>/dev/null)"
fi
if [ -e /etc/systemd/system/openvcha-node@.service ]; then tell unit_file there; fi
if id -u openvcha >/dev/null 2>&1; then tell account openvcha; fi
tell end "$(date +%s.%N)"
