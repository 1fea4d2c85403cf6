#!/usr/bin/env bash
# Installs or upgrades the SpineOne node on Debian, Ubuntu, RHEL and their relatives. Run it again at any time.
#
#   sudo deploy/install.sh [--prefix DIR] [--state DIR] [--user NAME] [--python PROGRAM] [--no-systemd]
#
# Each release gets a folder of its own below the prefix (/opt/spineone); `current` points at the one in use. An upgrade
# is tried on a copy of the database before the running node is stopped, and taken back if the new one does not start.
# PIP_FLAGS is handed to pip (an index of CPU builds of torch: see README.md).
set -euo pipefail

prefix=/opt/spineone state=/var/lib/spineone user=spineone python="" systemd=yes
source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
unit=dicom-node.service
need_mb=6000

say() { printf '%s\n' "$*"; }
refuse() { printf 'error: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case "$1" in
    --prefix | --state | --user | --python)
      [ $# -ge 2 ] || refuse "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    --no-systemd) systemd=no; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf 'error: unknown option %s (--help lists them)\n' "$1" >&2; exit 2 ;;
  esac
done
config="$state/node.toml"

# ---------------------------------------------------------------- checks before anything is touched

family() {
  # shellcheck source=/dev/null
  . /etc/os-release 2>/dev/null || true
  case " ${ID:-} ${ID_LIKE:-} " in
    *" debian "* | *" ubuntu "*) echo debian ;;
    *" rhel "* | *" fedora "* | *" centos "*) echo rhel ;;
    *) echo unknown ;;
  esac
}

good_python() {
  command -v "$1" >/dev/null &&
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local name
  for name in ${python:+"$python"} python3.13 python3.12 python3.11 python3; do
    if good_python "$name"; then command -v "$name"; return; fi
    [ -z "$python" ] || return 1
  done
  return 1
}

install_python() {
  case "$(family)" in
    debian) DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3 python3-venv ;;
    rhel) dnf install -y -q python3.12 || dnf install -y -q python3.11 ;;
    *) return 1 ;;
  esac
}

free_mb() {
  local folder="$1"
  while [ ! -d "$folder" ]; do folder="$(dirname "$folder")"; done
  df -Pm "$folder" | awk 'NR == 2 { print $4 }'
}

[ "$(id -u)" = 0 ] || refuse "must be run as root (sudo $0)"
[ -f "$source_dir/pyproject.toml" ] || refuse "$source_dir is not the source folder of the node: pyproject.toml is missing"
[ "$(free_mb "$prefix")" -ge "$need_mb" ] || refuse "$prefix has $(free_mb "$prefix") MB free; an installation needs $need_mb MB"
if [ "$systemd" = yes ] && [ ! -d /run/systemd/system ]; then
  refuse "systemd does not run here; --no-systemd installs without service (containers: deploy/container)"
fi
chosen="$(find_python)" || {
  [ -z "$python" ] || refuse "$python is not Python 3.11 or newer with venv"
  say "Python 3.11 or newer with venv is missing: installing it"
  install_python || refuse "no package of Python 3.11 or newer could be installed; install one and name it with --python"
  chosen="$(find_python)" || refuse "this system's Python is older than 3.11; install a newer one and name it with --python"
}

exec 9>"/run/lock/spineone-install.lock" || refuse "cannot write /run/lock"
flock -n 9 || refuse "another installation is running"

# ---------------------------------------------------------------- user, folders, the new release

if ! id "$user" >/dev/null 2>&1; then
  useradd --system --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
fi
group="$(id -gn "$user")"
install -d -m 0755 "$prefix" "$prefix/releases"
install -d -m 0750 -o "$user" -g "$group" "$state"
install -d -m 0700 -o "$user" -g "$group" "$state/backups"

as_user() { if [ "$user" = root ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }

release="$prefix/releases/$(date -u +%Y%m%dT%H%M%SZ)"
[ ! -e "$release" ] || refuse "$release exists already; wait a second and run again"
give_up() {
  rm -rf "$release" "${trial:-}" "${copy:-}"
  refuse "$1. Nothing was changed: what was installed before is as it was"
}
trap 'give_up "interrupted"' INT TERM
say "release   $release ($("$chosen" --version))"
"$chosen" -m venv "$release" || give_up "no virtual environment could be made"
# pip builds in its source folder, so it gets a copy: the original stays clean.
copy="$(mktemp -d)"
say "libraries pip fetches them: several minutes, more than 2 GB where torch comes with CUDA"
cp -R "$source_dir"/{pyproject.toml,README.md,LICENSE,NOTICE,spineone_core,trainer,dicom_node} "$copy/"
# shellcheck disable=SC2086
"$release/bin/python" -m pip install --disable-pip-version-check ${PIP_FLAGS:-} \
  -c "$source_dir/constraints.txt" "${copy}[postgresql]" || give_up "pip could not install the node"
rm -rf "$copy"
copy=""
"$release/bin/dicom-node" --help >/dev/null || give_up "the new release does not start"
install -d "$release/share/doc/spineone"
cp "$source_dir"/{LICENSE,NOTICE,README.md,CHANGELOG.md} "$source_dir"/docs/*.md "$release/share/doc/spineone/"


# The units of the node that are running: one unit, or one for each role.
active_units() {
  [ "$systemd" = yes ] || return 0
  systemctl list-units --plain --no-legend --state=active,activating,reloading 'dicom-node*' | awk '{ print $1 }'
}

# The SQLite file that the settings name; nothing for PostgreSQL.
database_file() {
  "$release/bin/python" - "$config" <<'PYTHON'
import sys
from pathlib import Path
from sqlalchemy.engine import make_url
from dicom_node.errors import SettingsError
from dicom_node.settings.reading import load_settings
try:
    url = make_url(load_settings(Path(sys.argv[1])).database)
except SettingsError as error:
    sys.exit("\n".join(f"error: {line}" for line in error.problems))
print(url.database if url.get_backend_name() == "sqlite" else "")
PYTHON
}

# ---------------------------------------------------------------- an upgrade is tried on a copy first

old="$(readlink -f "$prefix/current" 2>/dev/null || true)"
stamp="$(basename "$release")"
database=""
if [ -f "$config" ]; then
  database="$(database_file)" || give_up "the new release does not accept the settings"
  [ -n "$database" ] || say "note      the database is PostgreSQL: this script makes no copy of it; use pg_dump before an upgrade"
fi
if [ -n "$old" ] && [ -f "$database" ]; then
  trial="$(mktemp -d "$state/.trial-XXXXXX")"
  chown "$user:$group" "$trial"
  say "trial     settings, model and a copy of the database with the new release"
  as_user "$old/bin/dicom-node" backup "$trial/node.tar" --config "$config" >/dev/null || give_up "the database cannot be copied"
  try=(env SPINEONE_DATA_DIR="$trial/data" SPINEONE_DATABASE_URL= SPINEONE_DESTINATIONS='[]')
  as_user "${try[@]}" "$release/bin/dicom-node" restore "$trial/node.tar" --dir "$state" >/dev/null ||
    give_up "the new release cannot read the database or the settings"
  as_user "${try[@]}" "$release/bin/dicom-node" check --config "$config" ||
    give_up "the new release does not accept the settings or the model"
  rm -rf "$trial"
  trial=""
fi

# ---------------------------------------------------------------- the change

point_to() {
  ln -sfn "$1" "$prefix/.next"
  mv -T "$prefix/.next" "$prefix/current"
}

# Start each by name: starting the target alone would not tell that one of them failed.
start() { systemctl daemon-reload && systemctl start "${running[@]}"; }

take_back() {
  say "error: the new release did not start; taking the old one back" >&2
  journalctl -u 'dicom-node*' -n 20 --no-pager -o cat >&2 || true
  systemctl stop "${running[@]}" || true
  point_to "$old"
  cp -a "$state/backups/units-$stamp/." /etc/systemd/system/
  if [ -n "$backup" ]; then
    mv "$database" "$state/backups/failed-$stamp.db"
    rm -f "$database-wal" "$database-shm"
    as_user "$old/bin/dicom-node" restore "$backup" --dir "$state"
  fi
  start || refuse "the old release does not start either: see journalctl -u 'dicom-node*'"
  rm -rf "$release"
  refuse "the upgrade was taken back; $old runs again. The database of the failed attempt: $state/backups"
}

backup=""
mapfile -t running < <(active_units)
if [ "${#running[@]}" -gt 0 ]; then
  say "stopping  ${running[*]}"
  systemctl stop "${running[@]}"
fi
if [ -n "$old" ] && [ -f "$database" ]; then
  backup="$state/backups/before-$stamp.tar"
  as_user "$old/bin/dicom-node" backup "$backup" --config "$config"
fi
if [ "$systemd" = yes ]; then
  install -d -m 0700 "$state/backups/units-$stamp"
  for file in "$source_dir"/deploy/systemd/*; do
    if [ -f "/etc/systemd/system/$(basename "$file")" ]; then
      cp -a "/etc/systemd/system/$(basename "$file")" "$state/backups/units-$stamp/"
    fi
    sed "s#/opt/spineone#$prefix#g; s#/var/lib/spineone#$state#g; s#^User=spineone#User=$user#; s#^Group=spineone#Group=$group#" \
      "$file" >"/etc/systemd/system/$(basename "$file")"
  done
  systemctl daemon-reload
fi
point_to "$release"
trap - INT TERM
ln -sfn "$prefix/current/bin/dicom-node" /usr/local/bin/dicom-node

if [ ! -f "$config" ]; then
  as_user "$release/bin/dicom-node" init --dir "$state"
  chown "root:$group" "$config"
  chmod 0640 "$config"
  say "next      edit $config (AE title, port, [[peers]], [[destinations]])"
  say "          sudo -u $user dicom-node check --config $config"
  if [ "$systemd" = yes ]; then say "          systemctl enable --now $unit"; fi
elif [ "${#running[@]}" -gt 0 ]; then
  start || take_back
  say "running   ${running[*]}, from $release"
else
  as_user "$release/bin/dicom-node" init --dir "$state" >/dev/null
  say "upgraded  to $release; the node was not running and was not started"
fi
# The release before this one is kept for going back by hand; older ones go.
find "$prefix/releases" -mindepth 1 -maxdepth 1 -type d ! -path "$release" ! -path "${old:-$release}" -exec rm -rf {} +
say "ok"
