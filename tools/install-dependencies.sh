#!/bin/bash
# Installs what is missing, by apt, and says what. On a machine without apt it lists what is needed and stops.
#   tools/install-dependencies.sh GROUP...     groups: build, test, format, fonts, aarch64
# Something found where the compiler looks (or under CPATH, CMAKE_PREFIX_PATH) is not installed again.
set -u
cd "$(dirname "$0")/.."

has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() {
  local dir
  for dir in /usr/include /usr/local/include "/usr/include/$(uname -m)-linux-gnu" /opt/homebrew/include \
    ${CPATH:+${CPATH//:/ }} ${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH//[:;]//include }/include}; do
    [ -e "$dir/$1" ] && return 0
  done
  return 1
}
has_package() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=() notes=()
need() { # PACKAGE "why, and where else to find it" PROBE...
  local package=$1 why=$2
  shift 2
  "$@" && return
  missing+=("$package")
  notes+=("$(printf '  %-24s %s' "$package" "$why")")
}
# Like need(), for packages that only Debian and its kin name so.
need_package() { need "$1" "$2" has_package "$1"; }

for group in "$@"; do
  case $group in
  build)
    need g++ "C++20 compiler (g++ 12 or newer)" has_command g++
    need cmake "CMake 3.22 or newer" has_command cmake
    need ninja-build "ninja" has_command ninja
    need libdnnl-dev "oneDNN: matrix products and convolutions on the CPU" has_header dnnl.h
    need nlohmann-json3-dev "nlohmann/json 3.11" has_header nlohmann/json.hpp
    need libcli11-dev "CLI11 2.1: the command line" has_header CLI/CLI.hpp
    need libutf8proc-dev "utf8proc: the tokenizer's Unicode rules" has_header utf8proc.h
    need libtomlplusplus-dev "toml++ 3: config files" has_header toml++/toml.h
    if ! has_header stb_image.h; then
      need libstb-dev "stb: images in and out, glyphs of fonts" has_header stb/stb_image.h
    fi
    ;;
  test) need libgtest-dev "GoogleTest, for the tests alone" has_header gtest/gtest.h ;;
  format) need clang-format "clang-format 14, for make format and format-check" has_command clang-format ;;
  fonts)
    while read -r package; do
      need_package "$package" "a free font (data/fonts.txt), for remaking the base pipeline"
    done < <(grep -v '^#' data/fonts.txt)
    ;;
  aarch64)
    need g++-aarch64-linux-gnu "cross compiler" has_command aarch64-linux-gnu-g++
    need qemu-user-static "runs aarch64 programs" has_command qemu-aarch64-static
    ;;
  *)
    echo "install-dependencies: unknown group '$group' (build, test, format, fonts, aarch64)" >&2
    exit 2
    ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! has_command apt-get; then
  {
    echo "These are needed and were not found (by the names of their Debian 12 packages):"
    printf '%s\n' "${notes[@]}"
    echo "There is no apt-get here: install them by this machine's own means, then run make again."
    echo "Libraries in unusual places are found through CPATH, LIBRARY_PATH and CMAKE_PREFIX_PATH."
  } >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! has_command sudo; then
    echo "Missing: ${missing[*]}. To install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing what is missing, by apt${as_root:+ with sudo}:"
printf '%s\n' "${notes[@]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "apt could not install: ${missing[*]}" >&2
  exit 1
fi
grep -E '^[0-9]+ upgraded|^Need to get' "$log" || true
