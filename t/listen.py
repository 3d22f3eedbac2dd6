"""A small inetd: listen on 127.0.0.1:PORT; for each connection start a command with it as standard input and output.

Usage: listen.py PORT COMMAND...

Prints the port that it listens on (a free one if PORT is 0). Ends with SIGINT or SIGTERM.
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
