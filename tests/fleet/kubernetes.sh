#!/usr/bin/env bash
# A real Kubernetes control plane (kube-apiserver, kube-controller-manager, etcd) without containers and without
# anything but Debian packages: upstream 1.20.2 is built once from Debian 12's source package and kept in a cache.
# The last line on stdout is the folder that holds the three binaries; progress goes to stderr.
#
#   kubernetes.sh            use what is there, else build it: about 7 minutes on 2 cores, 4 GB of scratch, once
#   kubernetes.sh --cached   never build: fail at once, and say how to get it
#
# KUBEBUILDER_ASSETS, where set, names a folder that already holds them (envtest's convention) and wins.
set -euo pipefail

readonly VERSION=1.20.2
readonly BINARIES=(etcd kube-apiserver kube-controller-manager)
readonly SCRATCH_MB=4000
readonly ROOT=${XDG_CACHE_HOME:-${HOME:?HOME is not set: set it or XDG_CACHE_HOME}/.cache}/failoverd
readonly CACHE=$ROOT/kubernetes-$VERSION
readonly SCRATCH=$ROOT/.kubernetes-$VERSION.scratch

say() { printf 'kubernetes: [%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() {
  printf 'kubernetes: %s\n' "$@" >&2
  exit 1
}

# Prints the names of the binaries that folder $1 lacks.
missing_in() {
  local name
  for name in "${BINARIES[@]}"; do
    [ -x "$1/$name" ] || printf '%s ' "$name"
  done
}

given() {
  local missing
  missing=$(missing_in "$KUBEBUILDER_ASSETS")
  [ -z "$missing" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks: $missing" \
    "envtest's own archive has no kube-controller-manager: take it from Kubernetes' server archive of the same version," \
    "or unset KUBEBUILDER_ASSETS and run $0 without options, which builds all of it from Debian packages."
  printf '%s\n' "$KUBEBUILDER_ASSETS"
}

need_tools() {
  local tool missing=''
  for tool in apt-get dpkg-deb flock tar; do
    command -v "$tool" >/dev/null || missing+="$tool "
  done
  [ -z "$missing" ] || die "cannot build Kubernetes here, these programs are missing: $missing" \
    "On a system that is not Debian 12, set KUBEBUILDER_ASSETS to a folder that holds: ${BINARIES[*]}"
  local free_mb
  free_mb=$(df -Pm "$ROOT" | awk 'NR == 2 { print $4 }')
  [ "$free_mb" -ge "$SCRATCH_MB" ] ||
    die "the build needs $SCRATCH_MB MB of scratch in $ROOT, $free_mb MB are free: make room or set XDG_CACHE_HOME"
}

# Packages are fetched through an apt of our own, so that the system's sources stay as they are (deb-src is seldom on)
# and no privilege is needed. The mirrors and the proxy are those that the system already uses.
debian() { apt-get -c "$SCRATCH/apt.conf" -qq "$@" >>"$SCRATCH/apt.log" 2>&1; }

make_apt() {
  local signed=/usr/share/keyrings/debian-archive-keyring.gpg uri suite
  mkdir -p "$SCRATCH"/apt/{lists,archives}/partial "$SCRATCH/apt/parts"
  [ ! -e "$signed" ] || signed=" [signed-by=$signed]"
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
    sort -u | while read -r uri suite; do
    case $suite in
      bookworm | bookworm-*) printf 'deb%s %s %s main\ndeb-src%s %s %s main\n' "$signed" "$uri" "$suite" "$signed" "$uri" "$suite" ;;
    esac
  done >"$SCRATCH/apt/sources.list"
  [ -s "$SCRATCH/apt/sources.list" ] ||
    die "no Debian 12 (bookworm) main archive among this system's apt sources, and only its 'kubernetes' source package is known to build." \
      "Add one, or set KUBEBUILDER_ASSETS to a folder that holds: ${BINARIES[*]}"
  cat >"$SCRATCH/apt.conf" <<CONF
Dir::Etc::SourceList "$SCRATCH/apt/sources.list";
Dir::Etc::SourceParts "$SCRATCH/apt/parts";
Dir::State::Lists "$SCRATCH/apt/lists";
Dir::Cache "$SCRATCH/apt";
APT::Sandbox::User "root";
CONF
}

fetch() {
  say "fetching Debian's kubernetes source and Go 1.19 (116 MB)"
  make_apt
  cd "$SCRATCH"
  debian update && debian source --download-only --tar-only kubernetes &&
    debian download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev ||
    die "the Debian packages could not be fetched; apt said:" "$(tail -n 5 "$SCRATCH/apt.log")"
  local source=(kubernetes_*.orig.tar.*) package
  case ${source[0]} in
    *"$VERSION".orig.tar.*) ;;
    *) die "Debian's source package is ${source[0]}, expected upstream $VERSION: the archive has moved on, change VERSION" ;;
  esac
  say "unpacking"
  mkdir -p go/src/k8s.io/kubernetes
  for package in golang-*.deb; do
    dpkg-deb -x "$package" packages
  done
  tar -xf "${source[0]}" --strip-components=1 -C go/src/k8s.io/kubernetes
  # 1.0.1, which upstream vendored, reads the runtime's map layout by hand and crashes under Go 1.18 and later.
  local vendored=go/src/k8s.io/kubernetes/vendor/github.com/modern-go/reflect2
  rm -rf "$vendored"
  cp -r packages/usr/share/gocode/src/github.com/modern-go/reflect2 "$vendored"
}

# Upstream builds in GOPATH mode, where the vendor folder is used and nothing is ever downloaded. In module mode Go 1.19
# refuses: its go.mod was written for Go 1.15 and would have to be tidied over the network.
go_environment() {
  export GOROOT=$SCRATCH/packages/usr/lib/go-1.19 GOPATH=$SCRATCH/go GOCACHE=$SCRATCH/go-cache GOTMPDIR=$SCRATCH
  export GO111MODULE=off GOPROXY=off GOENV=off GOFLAGS='' CGO_ENABLED=0
  export PATH=$GOROOT/bin:$PATH
  cd "$GOPATH/src/k8s.io/kubernetes"
}

# The one generated file that is not in the source package: the schema of every served type. Server-side apply and
# the API server's own start depend on it.
generate_openapi() {
  say "generating the OpenAPI definitions"
  go build -o "$SCRATCH/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local folders
  folders=$(grep -rl --include='*.go' --exclude='*_test.go' '^// *+k8s:openapi-gen=' pkg vendor/k8s.io/*/ |
    grep -vE '^vendor/k8s.io/(code-generator|sample-apiserver)/' | xargs -n1 dirname | LC_ALL=C sort -u |
    sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
  "$SCRATCH/openapi-gen" -i "$folders" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$SCRATCH/violations" >"$SCRATCH/go.log" 2>&1 ||
    die "openapi-gen failed:" "$(tail -n 20 "$SCRATCH/go.log")"
}

compile() {
  local packages=(./cmd/kube-apiserver ./cmd/kube-controller-manager) total done=0 line vendored flags='-s -w'
  # As upstream's own build does: the first is what --version prints, the second what /version answers.
  for vendored in component-base client-go/pkg; do
    vendored=k8s.io/kubernetes/vendor/k8s.io/$vendored/version
    flags+=" -X $vendored.gitVersion=v$VERSION -X $vendored.gitMajor=${VERSION%%.*} -X $vendored.gitMinor=$(cut -d. -f2 <<<"$VERSION")"
  done
  total=$(go list -deps "${packages[@]}" | wc -l)
  say "compiling up to $total packages on $(nproc) cores"
  go build -v -o "$SCRATCH/bin/" -ldflags "$flags" \
    "${packages[@]}" 2>&1 | while read -r line; do
    printf '%s\n' "$line" >>"$SCRATCH/go.log"
    done=$((done + 1))
    [ $((done % 200)) -ne 0 ] || say "compiled $done"
  done || die "the Go build failed:" "$(grep -vE '^[a-z0-9./_-]+$' "$SCRATCH/go.log" | tail -n 20)"
}

# Debian's etcd is used as it is. It stays a link, so that it follows the system's updates; a cache whose link dangles
# is repaired here without a build. The lock is not passed on: a daemon that the package starts would hold it for ever.
provide_etcd() {
  local target=$1 found
  found=$(command -v etcd || true)
  if [ -z "$found" ] && [ "$(id -u)" -eq 0 ]; then
    say "installing etcd-server and etcd-client"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
      etcd-server etcd-client >&2 9>&- || die "etcd-server could not be installed: run 'apt-get update', then this again"
    found=$(command -v etcd || true)
  fi
  [ -n "$found" ] || die "etcd is missing and this is not root: sudo apt-get install etcd-server etcd-client"
  ln -sfn "$found" "$target/etcd"
}

build() {
  # A build that was killed could not tidy up; under the lock nobody else uses this folder.
  rm -rf "$SCRATCH"
  mkdir -p "$SCRATCH/bin"
  trap 'rm -rf "$SCRATCH"' EXIT
  need_tools
  provide_etcd "$SCRATCH/bin"
  fetch
  go_environment
  generate_openapi
  compile
  "$SCRATCH/bin/kube-apiserver" --version >/dev/null || die "the built kube-apiserver does not run"
  cd "$ROOT"
  rm -rf "$CACHE"
  # Last, and in one step: a cache folder that exists is complete.
  mv -T "$SCRATCH/bin" "$CACHE"
  say "done: $CACHE"
}

main() {
  case ${1:-} in
    '' | --cached) ;;
    *) die "usage: $0 [--cached]" ;;
  esac
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    given
    return
  fi
  if [ -n "$(missing_in "$CACHE")" ]; then
    [ "${1:-}" != --cached ] || die "no real Kubernetes API server here. Run tests/fleet/kubernetes.sh: it builds one from Debian's packages, once (about 7 minutes)," \
      "or set KUBEBUILDER_ASSETS to a folder that holds: ${BINARIES[*]}"
    mkdir -p "$ROOT"
    exec 9>"$ROOT/kubernetes-$VERSION.lock"
    flock -n 9 || {
      say "another build is running: waiting for it"
      flock 9
    }
    case $(missing_in "$CACHE") in
      '') ;;
      'etcd ') provide_etcd "$CACHE" ;;
      *) build ;;
    esac
  fi
  printf '%s\n' "$CACHE"
}

main "$@"
