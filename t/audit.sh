# Fail if a package that the tools import has a known vulnerability. Skipped, with the reason, if that is not known.

# shellcheck shell=sh
set -eu
cd "$(dirname "$0")/.."
command -v pip-audit >/dev/null || {
	echo "audit: skipped: pip-audit is not installed"
	exit 0
}
if found=$(pip-audit --vulnerability-service osv --disable-pip --requirement lib/requirements.txt 2>&1); then
	echo "audit: nothing is known against what is imported"
elif echo "$found" | grep -q -i -e connection -e resolve -e timed; then
	echo "audit: skipped: the list of known faults cannot be reached"
else
	echo "$found"
	exit 1
fi
