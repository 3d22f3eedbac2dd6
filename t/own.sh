# A private machine, in namespaces, for tests that need root, or fixed ports and paths; they source it first.
# Changes to /etc, /usr and /var are gone afterwards.

# shellcheck shell=sh disable=SC2154 # top is that of tap.sh, which this sources
if [ -z "${CSPOOL_OWN:-}" ]; then
	if [ "$(id -u)" -eq 0 ] && unshare --mount --net --pid --fork --mount-proc true 2>/dev/null; then
		CSPOOL_OWN=yes exec unshare --mount --net --pid --fork --mount-proc --kill-child sh "$0"
	fi
	. "$(dirname "$0")/tap.sh"
	skip_all "only root can have a machine of its own"
fi
. "$(dirname "$0")/tap.sh"
/usr/bin/python3 -c 'import nacl, docopt, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	skip_all "the distribution's python3-nacl and python3-docopt are not installed"

mount -t tmpfs none /mnt
for directory in etc usr var; do
	mkdir -p "/mnt/$directory" "/mnt/work/$directory"
	mount -t overlay overlay -o "lowerdir=/$directory,upperdir=/mnt/$directory,workdir=/mnt/work/$directory" "/$directory" ||
		skip_all "nothing can be laid over /$directory here"
done
