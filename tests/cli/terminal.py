"""Runs a command with standard output and error on a terminal of its own and prints what the terminal was sent.

    terminal.py COLUMNS TEXT COMMAND...

When TEXT has been shown (empty: never) Ctrl-C is typed. Exits as the command does."""

import fcntl
import os
import pty
import struct
import sys
import termios
import time

columns, text, command = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    while os.get_terminal_size(1).columns != columns:
        time.sleep(0.01)
    os.execvp(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
shown = b""
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # the command has ended
        break
    if not data:
        break
    shown += data
    if text and text in shown:
        os.write(terminal, b"\x03")
        text = b""
sys.stdout.buffer.write(shown)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
