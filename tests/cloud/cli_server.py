"""The AWS CLI without its start: a process that has it loaded, and forks for each command.

    cli_server.py SOCKET

A script asks AWS dozens of times, and the CLI takes most of a second to begin. CLIENT is the `aws` that the scripts
find: it hands its arguments, environment, folder and streams to a fork of this process, where the CLI's own main runs.
"""

import json
import os
import signal
import socket
import sys
from typing import NoReturn

CLIENT = """#!{python} -ISB
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect("{path}")
message = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(message).to_bytes(8, "big")], [0, 1, 2])
server.sendall(message)
answer = server.recv(8)
sys.exit(int(answer) if answer else 255)
"""


def read(connection: socket.socket) -> tuple[list[str], dict[str, str], str, list[int]]:
    size, streams, *_ = socket.recv_fds(connection, 8, 3)
    message = b""
    while len(message) < int.from_bytes(size, "big"):
        message += connection.recv(65536)
    words, environment, folder = json.loads(message)
    return words, environment, folder, streams


def run(words: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> NoReturn:
    """The command, with the caller's streams. It ends as a program does, with all that it said written."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    # The CLI said where its data is when it was loaded.
    environment = {"AWS_DATA_PATH": os.environ["AWS_DATA_PATH"]} | environment
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
    sys.argv = ["aws", *words]
    sys.exit(main())


def carry_out(connection: socket.socket) -> None:
    """In a fork: the command in a further one, and its exit code as the answer."""
    words, environment, folder, streams = read(connection)
    child = os.fork()
    if child == 0:
        run(words, environment, folder, streams)
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    from awscli.clidriver import create_clidriver, main

    # What the CLI loads only when it is used.
    create_clidriver().session.create_client("sts", "us-east-1")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            carry_out(connection)
            sys.exit()
        connection.close()
