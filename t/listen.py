"""A small inetd: listen on 127.0.0.1:PORT, and start a command for each connection, which is its 0 and 1.

Usage: listen.py PORT COMMAND...

Prints the port that it listens on (for PORT 0 a free one), and ends with SIGINT or SIGTERM.
"""

import signal
import socket
import subprocess
import sys


def main(port, command):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.create_server(("127.0.0.1", int(port))) as server:
        print(server.getsockname()[1], flush=True)
        children = []
        try:
            while True:
                client, _ = server.accept()
                with client:
                    children.append(subprocess.Popen(command, stdin=client, stdout=client))
                children = [child for child in children if child.poll() is None]
        except KeyboardInterrupt:
            pass
        finally:
            for child in children:
                child.terminate()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
