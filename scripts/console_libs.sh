#!/bin/sh
# Fetches the libraries that the console draws with into src/seawall/console/static/lib, pinned by hash
# (requirements/console-libs.txt), with npm or whatever mirror it is set up for. They go into wheels, never into the
# repository. Without npm or a network the console shows plain tables, so that is said and is no failure; a wrong hash is.
set -eu
cd "$(dirname "$0")/.."
lock=requirements/console-libs.txt
lib=src/seawall/console/static/lib
if [ -f "$lib/.of" ] && cmp -s "$lib/.of" "$lock"; then exit 0; fi
if ! command -v npm >/dev/null 2>&1; then
  echo "the console will show plain tables: npm is not here to fetch its chart library"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/lib"
while read -r name version digest files; do
  case $name in ''|'#'*) continue ;; esac
  if ! (cd "$work" && npm pack --silent "$name@$version" >"$name.out" 2>"$name.err"); then
    echo "the console will show plain tables: npm could not fetch $name $version ($(tail -n 1 "$work/$name.err"))"
    exit 0
  fi
  archive=$work/$(tail -n 1 "$work/$name.out")
  if [ "$(sha256sum "$archive" | cut -d' ' -f1)" != "$digest" ]; then
    echo "$name $version: the archive's SHA-256 is not the one in $lock; nothing of it is used" >&2
    exit 1
  fi
  for file in $files; do
    kept=$(basename "$file")
    [ "$kept" = LICENSE ] && kept=LICENSE.$name
    tar -xzOf "$archive" "package/$file" > "$work/lib/$kept"
  done
done < "$lock"
cp "$lock" "$work/lib/.of"
rm -rf "$lib"
mv "$work/lib" "$lib"
chmod -R a+rX "$lib"
echo "fetched the console's libraries ($(grep -c '^[a-z]' "$lock") packages)"
