#!/usr/bin/env bash
# package.sh [deb] [static] - makes what is installed, below target/package:
#
#   deb      lunette_VERSION_ARCH.deb
#   static   lunette-static, a program that needs no library, and image/, the tree of packaging/container/Containerfile
#
#   PROFILE   cargo's profile: dist (the default), or one that builds faster
#   BINARY    the deb is made of this program, and nothing is built
#   REVISION  Debian's part of the version (1)
#
# It needs a Rust toolchain, and for deb dpkg-dev. The static program is built for musl where that target is installed, else
# with the C library linked in: then names of hosts are looked up only where the system has that library's modules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-dist} out=$PWD/target/package
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[[ -n $version ]] || { echo "package: no version in Cargo.toml" >&2; exit 1; }
# What the files are dated: the commit, so that the same tree gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
mkdir -p "$out"

folder() { case $1 in dev) echo debug ;; *) echo "$1" ;; esac; } # PROFILE

deb() {
  local binary=${BINARY:-} root=$out/deb arch full
  [[ -n $binary ]] || { cargo build --locked --profile "$profile" --bin lunette; binary=target/$(folder "$profile")/lunette; }
  arch=$(dpkg --print-architecture) full=$version-${REVISION:-1}
  rm -rf "$root"
  install -d "$root"/{DEBIAN,usr/{bin,sbin},usr/share/man/man{1,8},lib/systemd/system,usr/lib/sysusers.d,etc/lunette,usr/share/doc/lunette}
  strip --strip-unneeded --remove-section=.comment --remove-section=.note -o "$root/usr/bin/lunette" "$binary"
  chmod 755 "$root/usr/bin/lunette"
  install -m 755 scripts/setup.sh "$root/usr/sbin/lunette-setup"
  install -m 644 packaging/systemd/lunette.{service,socket} "$root/lib/systemd/system/"
  install -m 644 packaging/systemd/sysusers.conf "$root/usr/lib/sysusers.d/lunette.conf"
  install -m 644 packaging/systemd/serve.conf "$root/etc/lunette/"
  install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/lunette"
  install -m 644 docs/*.md "$root/usr/share/doc/lunette/"
  cp -r packaging/kubernetes "$root/usr/share/doc/lunette/examples"
  chmod -R u=rwX,go=rX "$root/usr/share/doc/lunette"
  sed -e '/^@MIT@/{' -e 'r /dev/stdin' -e 'd' -e '}' packaging/debian/copyright >"$root/usr/share/doc/lunette/copyright" \
    < <(sed -n '/^Permission/,$p' LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /')
  chmod 644 "$root/usr/share/doc/lunette/copyright"
  { printf 'lunette (%s) unstable; urgency=medium\n\n  * What has changed: CHANGELOG.md in the source.\n\n' "$full"
    printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' packaging/debian/control.in)" "$(LC_ALL=C date -uRd "@$SOURCE_DATE_EPOCH")"
  } | gzip -9n >"$root/usr/share/doc/lunette/changelog.Debian.gz"
  pages "$root" "$binary"
  echo /etc/lunette/serve.conf >"$root/DEBIAN/conffiles"
  install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
  local shlibs
  # It wants a source package around it.
  mkdir -p "$out/shlibs/debian"; echo "Source: lunette" >"$out/shlibs/debian/control"
  shlibs=$(cd "$out/shlibs" && dpkg-shlibdeps -O "$root/usr/bin/lunette" | sed 's/^shlibs:Depends=//')
  sed -e "s/@VERSION@/$full/" -e "s/@ARCH@/$arch/" -e "s/@SHLIBS@/$shlibs/" -e "s/@KIB@/$(du -sk --apparent-size "$root" | cut -f1)/" \
    packaging/debian/control.in >"$root/DEBIAN/control"
  (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  chmod 644 "$root"/DEBIAN/{control,conffiles,md5sums}
  find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$root" "$out/lunette_${full}_$arch.deb" >&2
  echo "$out/lunette_${full}_$arch.deb"
}

pages() { # ROOT BINARY: its manual and completions
  local root=$1 binary=$2 shell
  "$binary" man "$root/usr/share/man/man1"
  find "$root/usr/share/man/man1" -type f -exec gzip -9n {} +
  gzip -9nc packaging/debian/lunette-setup.8 >"$root/usr/share/man/man8/lunette-setup.8.gz"
  install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
  "$binary" completions bash >"$root/usr/share/bash-completion/completions/lunette"
  "$binary" completions zsh >"$root/usr/share/zsh/vendor-completions/_lunette"
  "$binary" completions fish >"$root/usr/share/fish/vendor_completions.d/lunette.fish"
}

static() {
  local target rlib
  target=$(uname -m)-unknown-linux-musl
  rlib=$(rustc --print sysroot)/lib/rustlib
  if [[ ! -d $rlib/$target/lib ]]; then
    target=$(uname -m)-unknown-linux-gnu
    # By --target, so that what runs while it is built is not static too. In a program without a loader the crate getrandom does not
    # find the C library's function by its name, and would want /dev/urandom.
    export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\""
  fi
  cargo build --locked --profile "$profile" --bin lunette --target "$target"
  strip -o "$out/lunette-static" "target/$target/$(folder "$profile")/lunette"
  image "$out/lunette-static"
}

image() { # PROGRAM: the tree of the container's image
  local root=$out/image
  rm -rf "$root"
  install -d "$root"
  install -m 755 "$1" "$root/lunette"
  install -d -m 700 "$root/var/lib/lunette" "$root/run/lunette"
  # The Containerfile's user; only root can give files away.
  [[ $(id -u) != 0 ]] || chown 64000:64000 "$root/var/lib/lunette" "$root/run/lunette"
  echo "$root"
}

(($# > 0)) || set -- deb static
for what; do
  case $what in
    deb | static) "$what" ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
  esac
done
