#!/bin/sh
# Installs opsctl from the archive of a release, after its signature and its checksum are verified. POSIX sh; needs tar and sha256sum, for
# the signature ssh-keygen 8.1 or later, for a URL curl or wget. Installs again over an installation.
#   install.sh ARCHIVE                      a file or a URL; ARCHIVE.sha256 and ARCHIVE.sig are beside it
#   install.sh --allowed-signers FILE ...   keys of the signers (ssh-keygen(1)); default: the key in the install.sh of the release
#   install.sh --sha256 HEX ...             expected checksum from a trusted source, instead of a signature
#   install.sh --prefix DIRECTORY ...       default: /usr/local
#   install.sh --uninstall                  removes the installed files; configuration and state are kept
# Exit codes: 0 done, 64 usage, 65 not verified, 69 a program is missing, 70 not installed.
set -eu
umask 022
# replaced by packaging/release: a line of an allowed signers file
SIGNERS=''
IDENTITY=opsctl-release

fail() { code=$1; shift; echo "install.sh: $*" >&2; exit "$code"; }
usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2; exit 64; }
needs() { command -v "$1" > /dev/null || fail 69 "$1 is not installed$2"; }

prefix=/usr/local expected='' signers_file='' uninstall='' source=''
while [ $# -gt 0 ]; do
  case "$1" in
    --prefix | --sha256 | --allowed-signers) [ $# -gt 1 ] || usage ;;
  esac
  case "$1" in
    --prefix) prefix=$2; shift 2 ;;
    --sha256) expected=$2; shift 2 ;;
    --allowed-signers) signers_file=$2; shift 2 ;;
    --uninstall) uninstall=yes; shift ;;
    -*) usage ;;
    *) [ -z "$source" ] || usage; source=$1; shift ;;
  esac
done
case "$prefix/" in
  */../*) fail 64 "--prefix must not contain .." ;;
  /*) ;;
  *) fail 64 "--prefix must be an absolute path" ;;
esac
while [ "$prefix" != "${prefix%/}" ]; do prefix=${prefix%/}; done
manifest=$prefix/share/opsctl/manifest

remove_listed() { # manifest: only paths below the prefix
  while IFS= read -r path; do
    case "$path" in */../* | */..) ;; "$prefix"/*) rm -f -- "$path" ;; esac
  done < "$1"
}

if [ -n "$uninstall" ]; then
  [ -z "$source" ] || usage
  if [ ! -e "$manifest" ]; then echo "opsctl is not installed below $prefix" >&2; exit 0; fi
  remove_listed "$manifest"
  rm -f -- "$manifest"
  # directories of opsctl alone
  rmdir "$prefix/share/doc/opsctl/systemd" "$prefix/share/doc/opsctl" "$prefix/share/opsctl" 2> /dev/null || true
  echo "removed from $prefix; /etc/opsctl and /var/lib/opsctl are kept"
  exit 0
fi

[ -n "$source" ] || usage
needs tar ''
needs sha256sum ''
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 70' HUP INT TERM

get() { # source target
  case "$1" in
    http://* | https://*)
      if command -v curl > /dev/null; then curl -fsSL --retry 3 -o "$2" "$1"
      elif command -v wget > /dev/null; then wget -q -O "$2" "$1"
      else fail 69 "a URL needs curl or wget"; fi ;;
    *) [ -f "$1" ] && cp -- "$1" "$2" ;;
  esac
}

name=${source##*/}
archive=$work/$name
get "$source" "$archive" || fail 65 "$source cannot be read"
actual=$(sha256sum < "$archive" | cut -d' ' -f1)

# authenticity: a signature, or a checksum from a source that the caller trusts
if [ -n "$expected" ]; then
  [ "$actual" = "$(printf %s "$expected" | tr 'A-F' 'a-f')" ] || fail 65 "the checksum of $name is $actual, expected $expected; nothing was installed"
else
  if [ -n "$signers_file" ]; then
    cp -- "$signers_file" "$work/signers" || fail 65 "$signers_file cannot be read"
  elif [ -n "$SIGNERS" ]; then
    printf '%s\n' "$SIGNERS" > "$work/signers"
  else
    fail 65 "no key to verify $name with: use --allowed-signers FILE, or --sha256 HEX with a checksum from a trusted source"
  fi
  needs ssh-keygen ' (openssh-client); or use --sha256 HEX'
  get "$source.sig" "$archive.sig" || fail 65 "$source.sig cannot be read: $name is not signed; nothing was installed"
  ssh-keygen -Y verify -f "$work/signers" -I "$IDENTITY" -n "$IDENTITY" -s "$archive.sig" < "$archive" > "$work/verified" 2>&1 \
    || fail 65 "the signature of $name is not valid: $(tail -n 1 "$work/verified"); nothing was installed"
  # an incomplete download has a wrong signature; a wrong checksum beside a right signature means mixed files of two releases
  get "$source.sha256" "$archive.sha256" || fail 65 "$source.sha256 cannot be read; nothing was installed"
  [ "$actual" = "$(cut -d' ' -f1 < "$archive.sha256")" ] || fail 65 "the checksum of $name does not match $name.sha256; nothing was installed"
fi

mkdir "$work/unpacked"
tar -xzof "$archive" -C "$work/unpacked" || fail 65 "$name is not an archive of a release"
from=
for directory in "$work"/unpacked/opsctl-*; do [ -x "$directory/opsctl" ] && from=$directory; done
[ -n "$from" ] || fail 65 "$name contains no opsctl"
version=$("$from/opsctl" --version 2>&1) || fail 65 "opsctl of $name does not start on this machine ($(uname -m)): $version"

put() { # mode source target: replaces the file atomically
  mkdir -p "${3%/*}"
  cp -- "$2" "$3.new.$$" && chmod "$1" "$3.new.$$" && mv -f -- "$3.new.$$" "$3" || { rm -f -- "$3.new.$$"; fail 70 "$3 cannot be written"; }
  printf '%s\n' "$3" >> "$work/manifest"
}
: > "$work/manifest"
put 755 "$from/opsctl" "$prefix/bin/opsctl"
for page in "$from"/man/*.[1-9]; do
  put 644 "$page" "$prefix/share/man/man${page##*.}/${page##*/}"
done
put 644 "$from/completions/opsctl.bash" "$prefix/share/bash-completion/completions/opsctl"
put 644 "$from/completions/_opsctl" "$prefix/share/zsh/site-functions/_opsctl"
put 644 "$from/completions/opsctl.fish" "$prefix/share/fish/vendor_completions.d/opsctl.fish"
for text in README.md CHANGELOG.md LICENSE LICENSE-APACHE LICENSE-MIT; do
  put 644 "$from/$text" "$prefix/share/doc/opsctl/$text"
done
for unit in "$from"/systemd/*; do
  put 644 "$unit" "$prefix/share/doc/opsctl/systemd/${unit##*/}"
done
# files of the version before that this one does not have
if [ -e "$manifest" ]; then
  grep -vxFf "$work/manifest" "$manifest" > "$work/old" || true
  remove_listed "$work/old"
fi
mkdir -p "${manifest%/*}"
cp -- "$work/manifest" "$manifest.new" && mv -f -- "$manifest.new" "$manifest"
echo "$version is installed in $prefix/bin"
