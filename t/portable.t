#!/bin/sh
# What Linux alone has is taken away from Python: the suite works as on a BSD. F_FULLFSYNC of macOS is asked for.
. "$(dirname "$0")/tap.sh"
mkdir bsd mac
cat >bsd/sitecustomize.py <<'EOF'
import fcntl
import os
import select
import socket

LINUX = (
    (os, "fdatasync posix_fadvise posix_fallocate splice sendfile copy_file_range memfd_create eventfd pipe2 getrandom"
         " sched_getaffinity sched_setaffinity preadv2 pwritev2 RWF_SYNC O_PATH O_TMPFILE O_NOATIME O_DIRECT O_DSYNC"
         " pidfd_open unshare setns getxattr setxattr listxattr removexattr renameat2"),
    (select, "epoll EPOLLIN EPOLLOUT EPOLLHUP EPOLLERR POLLRDHUP"),
    (fcntl, "F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_NOTIFY F_SETLEASE"),
    (socket, "SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK MSG_MORE TCP_CORK TCP_QUICKACK AF_NETLINK AF_PACKET"),
)
for module, names in LINUX:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
EOF
cat >mac/sitecustomize.py <<'EOF'
import fcntl
import os
import sys

sys.platform = "darwin"
fcntl.F_FULLFSYNC = 51
real = fcntl.fcntl


def full_sync(fd, command, *rest):
    if command != fcntl.F_FULLFSYNC:
        return real(fd, command, *rest)
    with open(os.environ["SYNCED"], "a") as log:
        log.write("synced\n")
    if os.environ.get("NOT_SUPPORTED"):
        raise OSError(45, "Operation not supported")
    os.fsync(fd)
    return 0


fcntl.fcntl = full_sync
EOF
expect "it is taken away" 1 '' "*module 'os' has no attribute 'fdatasync'*" \
	env PYTHONPATH="$PWD/bsd" python3 -c 'import os; os.fdatasync'
for file in keygen append apply imapd; do
	expect "$file.t" 0 '*' '*' env PYTHONPATH="$PWD/bsd" sh "$here/$file.t"
	ok "all of it" sh -c "! grep '^not ok' out"
done
expect "make demo" 0 '*desktop> FETCH*' '' env PYTHONPATH="$PWD/bsd" MAIL=/nowhere TMPDIR="$scratch" sh "$top/t/demo.sh"

PYTHONPATH=$PWD/mac SYNCED=$PWD/synced
export PYTHONPATH SYNCED
CSPOOL_HOME=$PWD
export CSPOOL_HOME
chmod 700 .
cspool-mkspool spool
cspool-keygen key
printf 'Subject: x\n\ny\n' | cspool-seal --to=key.pub >stream
rm -f synced
expect "macOS: appended" 0 '' '' pipe 'cspool-append spool <stream'
ok "to the disk itself" grep -q synced synced
expect "or at least as other systems do it" 0 '' '' pipe 'NOT_SUPPORTED=1 cspool-append spool <stream'

# The shell parts under other shells: the script of the examples, the line of .forward, and what cspool-setup runs elsewhere.
unset CSPOOL_HOME PYTHONPATH
mkdir -p etc/alice tools
cp key etc/alice && cp key.pub etc/alice/recipient && echo "$PWD/spool" >etc/alice/spool
sed "s|/etc/cspool|$PWD/etc|; s|^PATH=.*|PATH=$PATH|" "$top/man/examples/deliver" >deliver
PYTHONPATH=$top/lib python3 -c 'from cspool import mailhost; print(mailhost.LOOK)' >look
# shellcheck disable=SC2086 # a shell may have an argument
for shell in dash 'busybox sh' 'bash --posix'; do
	command -v "${shell%% *}" >/dev/null || continue
	expect "$shell: the script of the examples" 0 '' '' pipe "echo hello | EXTENSION= $shell deliver alice lists"
	expect "$shell: a user who has no home" 67 '' '' pipe "echo hello | $shell deliver mallory"
	expect "$shell: the line of .forward" 75 '' '*' env CSPOOL_HOME="$PWD/none" $shell -c 'cspool-seal </dev/null | cspool-append || exit 75'
	expect "$shell: what cspool-setup asks of a mail host" 0 "cspool-setup:cwd $PWD*cspool-setup:tool */cspool-seal*" '' $shell look
done
done_testing
