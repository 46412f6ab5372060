"""Runs a command and sends it a signal: interrupt.py SIGNAL WHEN COMMAND...

WHEN is FILE:N, when the file has N lines, or FILE:+N, when it has N more than at the start, or a number of seconds.
A command that ends before is let go. Exits with the command's code, 128 + N when signal N ended it. The command gets
the signals as from a terminal: a script's background job would ignore Ctrl-C."""
import signal
import subprocess
import sys
import time


def lines(path):
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0


def main():
    names = sys.argv[1].split(",")  # the second comes right after the first
    when, command = sys.argv[2], sys.argv[3:]
    path, _, count = when.rpartition(":")
    wanted = int(count) + (lines(path) if count.startswith("+") else 0) if path else 0
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command)
    while process.poll() is None:
        if lines(path) >= wanted if path else time.monotonic() - started >= float(when):
            for name in names:
                process.send_signal(getattr(signal, "SIG" + name))
            break
        time.sleep(0.001)
    code = process.wait()
    sys.exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()
