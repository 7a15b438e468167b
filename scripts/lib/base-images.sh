# The base images of Dockerfile.worker, made on this machine under the tags that it names: for those who reach Debian's packages and
# no image registry. The tools in them are this machine's own. Each carries a label, so that nobody takes it for the published one.
# shellcheck shell=bash
# Wants stack.sh (where mongod comes from), and DOCKER and docker_build of scripts/images.
# shellcheck disable=SC2153

OWN_BASE=io.libertum.own-base
# under all the others
OWN_DEBIAN=docker.io/library/debian:bookworm-slim

# The published images that Dockerfile.worker stands on, as it names them.
base_images() {
  local name value file=$ROOT/Dockerfile.worker script=
  while IFS='=' read -r name value; do script+="s|[$]{$name}|$value|g;"; done < <(sed -n 's/^ARG \([A-Z_]*\)=\(.*\)$/\1=\2/p' "$file")
  sed -n 's/^FROM \(docker\.io[^ ]*\) AS .*$/\1/p' "$file" | sed "$script"
}

is_own_base() { [[ -n $("$DOCKER" image inspect --format "{{ index .Config.Labels \"$OWN_BASE\" }}" "$1" 2>/dev/null) ]]; }

# own_bases IMAGE…: makes those that are not here.
own_bases() {
  local image
  command -v debootstrap >/dev/null || die "--own-bases makes Debian with debootstrap: apt-get install debootstrap"
  ((EUID == 0)) || die "--own-bases: debootstrap works as root only"
  for image in "$OWN_DEBIAN" "$@"; do
    if is_own_base "$image"; then continue; fi
    if "$DOCKER" image inspect "$image" >/dev/null 2>&1; then say "  $image is here, the published one: taken"; continue; fi
    say "  $image: making it here"
    case $image in
      "$OWN_DEBIAN") own_debian "$image" ;;
      */rust:*-slim-bookworm) own_rust "$image" ;;
      */golang:*-bookworm) own_golang "$image" ;;
      */mongo:*) own_mongo "$image" ;;
      *) die "nobody has written how $image is made here: scripts/lib/base-images.sh" ;;
    esac
  done
}

# What rust:slim has besides: the compiler's linker and the C library. A mirror of Debian: DEBIAN_MIRROR.
own_debian() {
  local root
  root=$(mktemp -d)
  if ! debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$root/debian" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$root/log" 2>&1; then
    tail -n 5 "$root/log" >&2
    die "debootstrap failed: $root/log"
  fi
  rm -rf "$root/debian/var/cache/apt/archives" "$root/debian/var/lib/apt/lists"
  tar -C "$root/debian" -c . | "$DOCKER" import --change "LABEL $OWN_BASE=debootstrap" - "$1" >/dev/null
  rm -rf "$root"
}

# own_base IMAGE WHAT FOLDER: builds it from a Dockerfile on standard input.
own_base() { docker_build --quiet --file - --label "$OWN_BASE=$2" --tag "$1" "$3" >/dev/null; }

own_rust() {
  local wanted=${1##*:} have
  wanted=${wanted%%-*}
  have=$(cd "$ROOT" && rustc --version | cut -d ' ' -f 2)
  [[ $have == "$wanted" ]] || die "Dockerfile.worker wants Rust $wanted, and rustc here is $have"
  own_base "$1" "rust $have of this machine" "$(cd "$ROOT" && rustc --print sysroot)" <<'DOCKERFILE'
FROM docker.io/library/debian:bookworm-slim
COPY bin/ /usr/local/rust/bin/
COPY lib/ /usr/local/rust/lib/
ENV CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/rust/bin:/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN cargo --version && rustc --version
DOCKERFILE
}

own_golang() {
  local wanted=${1##*:} have
  wanted=${wanted%%-*}
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || die "there is no Go to make $1 from: install Go $wanted, or give --stand-ins"
  version_at_least "${have#go}" "$wanted" || die "Dockerfile.worker wants Go $wanted, and go here is ${have#go}: install it, or give --stand-ins"
  own_base "$1" "$have of this machine" "$(GOTOOLCHAIN=local go env GOROOT)" <<'DOCKERFILE'
FROM docker.io/library/debian:bookworm-slim
COPY . /usr/local/go/
ENV GOPATH=/go \
    GOTOOLCHAIN=local \
    PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN go version
DOCKERFILE
}

# The mongod that scripts/stack runs: the one on PATH, else the pinned one for development, whatever the tag says.
own_mongo() {
  local folder
  mongodb_fetch
  folder=$(mktemp -d)
  cp "$(mongodb_program)" "$folder/mongod"
  own_base "$1" "mongod $(mongodb_version) of this machine" "$folder" <<'DOCKERFILE'
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcurl4 \
    && rm -rf /var/lib/apt/lists/*
COPY mongod /usr/bin/mongod
RUN mongod --version
DOCKERFILE
  rm -rf "$folder"
}
