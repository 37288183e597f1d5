"""Other processes: bounded in time, ended by us, and never by name."""

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """Something did not do what it should; says what."""


def run(command, timeout=600, check=True):
    """Runs to the end; returns what it printed. In a session of its own, so that Ctrl-C is ours to handle."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command[:4])} ...: not done after {timeout} s") from error
    if check and done.returncode:
        raise Failed(f"{' '.join(command[:4])} ...: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def end(process, grace=10):
    """Ends a child: asks first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not after {timeout} s")
        time.sleep(0.005)


def is_alive(pid):
    """Whether a process that need not be a child of ours still runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Worker:
    """A process that runs bench/tasks.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.tasks"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()

    def ask(self, task, **arguments):
        self.process.stdin.write(json.dumps({"task": task, **arguments}, default=os.fspath) + "\n")
        self.process.stdin.flush()

    def answer(self, timeout=1200):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise Failed(f"a reader has not answered for {timeout} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"a reader has ended, exit code {self.process.wait(5)}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"a reader failed: {answer['error']}")
        return answer

    def do(self, task, **arguments):
        self.ask(task, **arguments)
        return self.answer()
