"""Inside a network and a mount namespace: datagrams between two nodes of `RoutedWires`, cut and healed.

Prints what became of each. Run by a test, with `unshare`.
"""

import subprocess
import sys

from testnet.chaos.namespaces import RoutedWires, address_of

PORT = 9
SECONDS = 0.5  # a datagram on this machine takes far less
LISTEN = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], {PORT})); s.settimeout({SECONDS})
print("ready", flush=True)
try: s.recv(9); print("arrived")
except TimeoutError: print("dropped")
"""
SEND = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 9))"


def inside(wires: RoutedWires, node: int, *words: str) -> "subprocess.Popen[str]":
    command = ["nsenter", f"--net=/run/netns/{wires.names[node]}", "--", sys.executable, "-P", "-c", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def send(wires: RoutedWires, source: int, target: int) -> str:
    listener = inside(wires, target, LISTEN, address_of(target))
    assert listener.stdout is not None and listener.stdout.readline() == "ready\n"
    inside(wires, source, SEND, address_of(target)).wait()
    return listener.stdout.read().strip()


def main() -> None:
    wires = RoutedWires(["kontor-test-n0", "kontor-test-n1"])
    try:
        wires.open()
        print(send(wires, 0, 1))
        wires.hold(0, 1)
        print(send(wires, 0, 1))
        print(send(wires, 1, 0) + "-back")
        wires.release(0, 1)
        print(send(wires, 0, 1) + "-again")
    finally:
        wires.close()


if __name__ == "__main__":
    main()
