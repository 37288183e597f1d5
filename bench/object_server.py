"""The object server of the cases that read over the network: `examples/object_server.rs` on the working directory."""

import json
import subprocess
import urllib.request
from contextlib import contextmanager

from bench.process import Failed, end

PROGRAM = "target/release/examples/object_server"
DELAY_MS = 20
# Nobody looks at them; a client without any would look for some elsewhere.
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "us-east-1"}


class Served:
    def __init__(self, port):
        self.endpoint = f"http://127.0.0.1:{port}"

    def requests(self, since="requests"):
        """How many of each kind there were, and bytes of bodies; `reset` forgets them."""
        with urllib.request.urlopen(f"{self.endpoint}/-/{since}", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def served(bench):
    """Its own process; `s3://bucket/NAME` is the store NAME of the working directory."""
    command = [bench.root / PROGRAM, bench.work, "--delay-ms", str(DELAY_MS)]
    bench.note_command(command)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise Failed("the object server has not started")
        yield Served(port)
    finally:
        process.stdin.close()
        end(process)
        process.stdout.close()
