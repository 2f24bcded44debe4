# Sourced by scripts/evolve and scripts/test; defines set_up.
#
# set_up EXTRA makes .venv beside this folder if it is missing and installs the package with the pinned
# versions of constraints.txt. A stamp per extra, holding a digest of what was installed from, lets a
# second start skip everything. The system's Python only lends its venv module.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "ticketsearch needs Python 3.11 or newer; none of python3, python3.13 … python3.11 is one." >&2
    exit 2
}

set_up() {
    local extra=$1 wanted stamp found base
    # An editable installation points to the folder, so a moved one is made again.
    wanted="$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum) $root"
    stamp="$root/.venv/.installed-${extra:-package}"
    # The package alone is there as well where it was installed with an extra.
    for found in "$root"/.venv/.installed-"${extra:-}"*; do
        if [ -x "$python" ] && [ -f "$found" ] && [ "$(cat "$found")" = "$wanted" ]; then
            return
        fi
    done
    if [ ! -x "$python" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
        base=$(find_python) || exit 2
        echo "Making $root/.venv" >&2
        "$base" -m venv --clear "$root/.venv" || {
            echo "Could not make $root/.venv; on Debian and Ubuntu the venv module is the package python3-venv." >&2
            exit 2
        }
    fi
    echo "Installing ticketsearch into $root/.venv (once; this takes a few minutes)" >&2
    PIP_CONSTRAINT="$root/scripts/constraints.txt" "$python" -m pip install --quiet \
        --disable-pip-version-check --editable "$root${extra:+[$extra]}" >&2 || exit 2
    printf '%s\n' "$wanted" >"$stamp"
}
