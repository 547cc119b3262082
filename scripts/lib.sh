# shellcheck shell=bash
# Helpers shared by the scripts that make Debian systems: tests/boxes/box and vagrant/setup. Sourced, never run.
#
# The invariant: what is built here trusts what this machine trusts, installs from where this machine installs, and
# is otherwise what `mmdebstrap --variant=minbase` gives, plus sshd and systemd.

# die MESSAGE... prints the message and what to try, and stops.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# as_root CMD... runs a command as root: directly, or through sudo.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        command -v sudo >/dev/null || die "needs root for '$1', and there is no sudo; run it as root"
        sudo -- "$@"
    fi
}

# need_packages PACKAGE... installs those Debian packages that this machine lacks.
need_packages() {
    local missing=() package installed
    command -v dpkg-query >/dev/null || die "works on Debian and Ubuntu only (there is no dpkg here)"
    # shellcheck disable=SC2016 # dpkg-query's own variables
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        [[ $'\n'$installed$'\n' == *$'\n'"installed $package"$'\n'* ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    say "installing ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    if ! as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        as_root "${apt[@]}" update >&2 || die "'apt-get update' failed; mend this machine's apt sources first"
        as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
            die "could not install ${missing[*]}; try: apt-get install ${missing[*]}"
    fi
}

# apt_uris lists the URIs of this machine's own apt sources, in either format.
apt_uris() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [[ -r $file ]] || continue
        sed -nE -e 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' \
            -e 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' "$file"
    done
}

# debian_mirror prints the mirror that this machine itself installs Debian from.
debian_mirror() {
    local uri
    uri=$(apt_uris | grep -E '^https?://.*/debian/?$' | head -n 1 || true)
    uri=${SHIP_TESTBED_MIRROR:-$uri}
    [[ -n $uri ]] || die "this machine's apt sources name no Debian mirror; set SHIP_TESTBED_MIRROR=URL"
    printf '%s\n' "${uri%/}"
}

# security_mirror prints the same for security updates.
security_mirror() {
    local uri
    uri=$(apt_uris | grep -E '^https?://.*/debian-security/?$' | head -n 1 || true)
    uri=${uri:-$(debian_mirror)-security}
    printf '%s\n' "${uri%/}"
}

# nameserver prints a name server that a guest of this machine can reach too (so not one on the loopback).
nameserver() {
    local address
    address=${SHIP_TESTBED_DNS:-$(
        awk '$1 == "nameserver" && $2 !~ /^(127\.|::1|fe80:)/ { print $2; exit }' \
            /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null || true
    )}
    [[ -n $address ]] || die "found no name server but loopback ones in /etc/resolv.conf; set SHIP_TESTBED_DNS=ADDRESS"
    printf '%s\n' "$address"
}

# base_stamp SUITE prints a short hash of what a base system is made from, so that a cached one is rebuilt when it changes.
base_stamp() {
    {
        printf '%s\n' "$1" "$(debian_mirror)" "$(security_mirror)"
        declare -f build_base_as_root
        find /usr/local/share/ca-certificates -name '*.crt' -exec cat {} + 2>/dev/null || true
    } | sha256sum | cut -c 1-12
}

# in_root DIR CMD... runs a command in a chroot, with nothing of the caller's environment.
in_root() {
    local dir=$1
    shift
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive chroot "$dir" "$@"
}

# build_base_as_root SUITE DIR MIRROR SECURITY makes a minimal, current, bootable Debian with sshd in DIR.
build_base_as_root() {
    local suite=$1 dir=$2 mirror=$3 security=$4 log=$2.log dns
    dns=$(nameserver)
    rm -rf "$dir"
    mkdir -p "$dir"
    mmdebstrap --quiet --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
        --include=usr-is-merged,systemd,systemd-sysv,dbus,openssh-server,python3,sudo,ca-certificates,iproute2,libpam-systemd \
        "$suite" "$dir" "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $security $suite-security main" \
        >"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        die "mmdebstrap $suite from $mirror failed (all of it: $log); check that this machine reaches the mirror"
    }
    # As Debian's own cloud images: deb822 sources with security updates, a UTF-8 locale.
    rm -f "$dir/etc/apt/sources.list"
    cat >"$dir/etc/apt/sources.list.d/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: $security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    echo 'LANG=C.UTF-8' >"$dir/etc/default/locale"
    # Trust what this machine trusts. pip has its own bundle, uv too: both are sent to the system's.
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$dir/usr/local/share/ca-certificates/"
        in_root "$dir" update-ca-certificates >>"$log" 2>&1
    fi
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$dir/etc/pip.conf"
    mkdir -p "$dir/etc/uv"
    printf 'system-certs = true\n' >"$dir/etc/uv/uv.toml"
    echo 'UV_SYSTEM_CERTS=1' >>"$dir/etc/environment"
    rm -f "$dir/etc/resolv.conf"
    echo "nameserver $dns" >"$dir/etc/resolv.conf"
    # As a cloud image: no package lists, no host keys, no identity (mmdebstrap copies this machine's name).
    rm -rf "$dir"/var/lib/apt/lists/* "$dir"/var/cache/apt/*.bin "$dir"/var/cache/apt/archives/*.deb \
        "$dir"/etc/ssh/ssh_host_* "$dir/var/lib/dbus/machine-id" "$dir/etc/hostname"
    : >"$dir/etc/machine-id"
    rm -f "$log"
}

# in_readme NAME FILE puts the file between the README's marks of that name.
in_readme() {
    local readme
    readme=$(awk -v name="$1" -v table="$2" '
        $0 == "<!-- " name " -->" { print; while ((getline line <table) > 0) print line; inside = 1; next }
        $0 == "<!-- /" name " -->" { inside = 0 }
        !inside' README.md)
    printf '%s\n' "$readme" >README.md
}
