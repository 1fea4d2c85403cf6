#!/usr/bin/env bash
# Installs or upgrades the SpineOne node on Debian, Ubuntu, RHEL and their relatives. Run it again at any time.
#
#   sudo deploy/install.sh [--prefix DIR] [--state DIR] [--user NAME] [--python PROGRAM] [--no-systemd] [--dry-run]
#   sudo deploy/install.sh --uninstall [--purge-data] [--prefix DIR] [--state DIR] [--user NAME] [--dry-run]
#
# Each release gets a folder of its own below the prefix (/opt/spineone); `current` points at the one in use. An upgrade
# is tried on a copy of the database before the running node is stopped, and taken back if the new one does not start.
# --dry-run says what would be done and changes nothing. --uninstall removes program and services, and leaves settings,
# data and user; with --purge-data they go too, once the path of the data was typed.
# PIP_FLAGS is handed to pip (an index of CPU builds of torch: see README.md).
#
# DESTDIR is put before /etc, /usr/local, /run and the like, for packages and tests; root is not needed then. NEED_MB is
# the free space to ask for, PROGRESS_S how often a long step says that it goes on.
set -euo pipefail

prefix=/opt/spineone state=/var/lib/spineone user=spineone python="" systemd=yes
dry_run=no uninstall=no purge=no
root="${DESTDIR:-}"
units_dir="$root/etc/systemd/system"
program="$root/usr/local/bin/dicom-node"
source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
unit=dicom-node.service
need_mb="${NEED_MB:-6000}"
progress_s="${PROGRESS_S:-20}"

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
    --dry-run) dry_run=yes; shift ;;
    --uninstall) uninstall=yes; shift ;;
    --purge-data) purge=yes; shift ;;
    -h | --help) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf 'error: unknown option %s (--help lists them)\n' "$1" >&2; exit 2 ;;
  esac
done
config="$state/node.toml"
[ "$purge" = no ] || [ "$uninstall" = yes ] || { printf 'error: --purge-data goes with --uninstall\n' >&2; exit 2; }

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

[ "$(id -u)" = 0 ] || [ -n "$root" ] || [ "$dry_run" = yes ] || refuse "must be run as root (sudo $0)"

# ---------------------------------------------------------------- taking the node away

# What a step does, or that it would be done.
step() {
  if [ "$dry_run" = yes ]; then say "would     $*"; else say "          $*"; "$@"; fi
}

remove_program() {
  local file link
  if [ -d "$root/run/systemd/system" ]; then
    for file in "$source_dir"/deploy/systemd/*; do
      file="$units_dir/$(basename "$file")"
      [ -f "$file" ] || continue
      case "$file" in *@.service) ;; *) step systemctl disable --now "$(basename "$file")" || true ;; esac
    done
    for file in $(systemctl list-units --all --plain --no-legend 'dicom-node-worker@*' | awk '{ print $1 }'); do
      step systemctl disable --now "$file" || true
    done
  fi
  for file in "$source_dir"/deploy/systemd/*; do
    file="$units_dir/$(basename "$file")"
    if [ -f "$file" ]; then step rm -f "$file"; fi
  done
  [ ! -d "$root/run/systemd/system" ] || step systemctl daemon-reload
  link="$(readlink "$program" 2>/dev/null || true)"
  case "$link" in "$prefix"/*) step rm -f "$program" ;; esac
  if [ -d "$prefix/releases" ]; then step rm -rf "$prefix/releases" "$prefix/current"; fi
  if [ -d "$prefix" ] && [ -z "$(ls -A "$prefix" 2>/dev/null)" ]; then step rmdir "$prefix"; fi
}

# Before anything is touched: it must be a node's folder, and whoever deletes it must know which one it is.
ask_for_data() {
  [ -f "$config" ] || refuse "$state is no data of a node: $config is missing; nothing was deleted"
  [ "$dry_run" = no ] || return 0
  say "This deletes every image, result and setting in $state for good (not what node.toml puts elsewhere)."
  say "To go on, type its path:"
  local typed=""
  read -r typed || true
  [ "$typed" = "$state" ] || refuse "that is not $state: nothing was deleted"
}

if [ "$uninstall" = yes ]; then
  [ "$purge" = no ] || ask_for_data
  remove_program
  if [ "$purge" = no ]; then
    say "kept      $state (settings, data, backups) and the user $user; --uninstall --purge-data deletes them"
  else
    step rm -rf "$state"
    if id "$user" >/dev/null 2>&1 && [ "$user" != "$(id -un)" ]; then step userdel "$user"; fi
  fi
  say "ok"
  exit 0
fi

# ---------------------------------------------------------------- checks before an installation

[ -f "$source_dir/pyproject.toml" ] || refuse "$source_dir is not the source folder of the node: pyproject.toml is missing"
[ "$(free_mb "$prefix")" -ge "$need_mb" ] || refuse "$prefix has $(free_mb "$prefix") MB free; an installation needs $need_mb MB"
if [ "$systemd" = yes ] && [ ! -d "$root/run/systemd/system" ]; then
  refuse "systemd does not run here; --no-systemd installs without service (containers: deploy/container)"
fi
if [ "$dry_run" = yes ]; then
  say "python    $(find_python || echo "none that fits: a package of the system would be installed")"
  old="$(readlink -f "$prefix/current" 2>/dev/null || true)"
  [ -e "$prefix/current" ] || old=""
  id "$user" >/dev/null 2>&1 || say "would     make the system user $user"
  say "would     build a release below $prefix/releases (pip: several minutes)"
  if [ -n "$old" ]; then
    say "would     try it on a copy of the database of $state, with its settings and model"
    say "would     stop the node, back it up to $state/backups, and start it from the new release"
    say "would     keep $old for going back, and delete older releases"
  else
    say "would     make $state with settings, data folder and database"
  fi
  [ "$systemd" = no ] || say "would     write the units of $source_dir/deploy/systemd to $units_dir"
  say "would     point $program at $prefix/current/bin/dicom-node"
  say "nothing was changed"
  exit 0
fi
chosen="$(find_python)" || {
  [ -z "$python" ] || refuse "$python is not Python 3.11 or newer with venv"
  say "Python 3.11 or newer with venv is missing: installing it"
  install_python || refuse "no package of Python 3.11 or newer could be installed; install one and name it with --python"
  chosen="$(find_python)" || refuse "this system's Python is older than 3.11; install a newer one and name it with --python"
}

install -d "$root/run/lock" "$(dirname "$program")"
exec 9>"$root/run/lock/spineone-install.lock" || refuse "cannot write $root/run/lock"
flock -n 9 || refuse "another installation is running"

# ---------------------------------------------------------------- user, folders, the new release

if ! id "$user" >/dev/null 2>&1; then
  useradd --system --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
fi
group="$(id -gn "$user")"
install -d -m 0755 "$prefix" "$prefix/releases"
install -d -m 0750 -o "$user" -g "$group" "$state"
install -d -m 0700 -o "$user" -g "$group" "$state/backups"

as_user() { if [ "$user" = "$(id -un)" ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }

# A long step, which says every now and then that it goes on: a person who hears nothing for ten minutes stops it.
with_progress() {
  local folder="$1" status=0 began=$SECONDS ticker
  shift
  (
    while sleep "$progress_s"; do
      say "          goes on: $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s, $(du -sm "$folder" 2>/dev/null | cut -f1) MB installed"
    done
  ) 9>&- &
  ticker=$!
  "$@" || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  return "$status"
}

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
with_progress "$release" "$release/bin/python" -m pip install --disable-pip-version-check ${PIP_FLAGS:-} \
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
  # A partner that does not answer today is no reason against an upgrade: only the first line counts.
  said="$(as_user "${try[@]}" "$release/bin/dicom-node" check --config "$config" 2>&1)" || true
  say "$said"
  grep -q '^ok: settings, database, model$' <<<"$said" || give_up "the new release does not accept the settings or the model"
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
  cp -a "$state/backups/units-$stamp/." "$units_dir/"
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
  install -d "$units_dir"
  for file in "$source_dir"/deploy/systemd/*; do
    if [ -f "$units_dir/$(basename "$file")" ]; then
      cp -a "$units_dir/$(basename "$file")" "$state/backups/units-$stamp/"
    fi
    sed "s#/opt/spineone#$prefix#g; s#/var/lib/spineone#$state#g; s#^User=spineone#User=$user#; s#^Group=spineone#Group=$group#" \
      "$file" >"$units_dir/$(basename "$file")"
  done
  systemctl daemon-reload
fi
point_to "$release"
trap - INT TERM
ln -sfn "$prefix/current/bin/dicom-node" "$program"

if [ ! -f "$config" ]; then
  as_user "$release/bin/dicom-node" init --dir "$state"
  [ "$(id -u)" != 0 ] || chown "root:$group" "$config"
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
