"""Run the processes of the Procfile, each line of their output behind their name, and end them together.

`python run.py` runs all, `python run.py web worker1` only these.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

GRACE = 30
"""Seconds that a process has to end: a worker ends its tasks first."""


def read(path):
    """Return names and commands."""
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    pairs = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return {name.strip(): command.strip() for name, command in pairs}


def show(name, width, process):
    """Print what a process prints."""
    for line in process.stdout:
        sys.stdout.write(f"{name:<{width}} | {line}")
        sys.stdout.flush()


def main(names):
    commands = read("Procfile")
    if wrong := [name for name in names if name not in commands]:
        sys.exit(f"no process is called {wrong[0]}: {', '.join(commands)}")
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    running = {}
    width = max(map(len, commands))
    for name in names or commands:
        # In a session of its own: Ctrl-C comes here alone, and the order of the ends is ours.
        running[name] = process = subprocess.Popen(
            f"exec {commands[name]}",
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=show, args=(name, width, process), daemon=True).start()
    failed = ""
    while not ending.wait(0.2):
        ended = [name for name, process in running.items() if process.poll() is not None]
        if ended:
            failed = ended[0]
            print(f"{failed} has ended with {running[failed].returncode}: ending the others")
            break
    # Workers before their servers: what the Procfile starts last is ended first.
    for name, process in reversed(running.items()):
        if process.poll() is None:
            process.terminate()
            give_up = time.monotonic() + GRACE
            while process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
            if process.poll() is None:
                process.kill()
                process.wait()
        print(f"{name} has ended")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
