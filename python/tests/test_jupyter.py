"""A real kernel, as notebooks have one: cells, the button that interrupts, a restart."""

import re
import textwrap

import jupyter_client.manager
import pytest
from conftest import commands_about, mounts_below, wait_until


class Notebook:
    def __init__(self, folder):
        self.kernel, self.client = jupyter_client.manager.start_new_kernel(cwd=str(folder), startup_timeout=60)

    def begin(self, cell):
        return self.client.execute(textwrap.dedent(cell))

    def end(self, request):
        """What the cell wrote, and the text of its error."""
        written, error = "", ""
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                written += content["text"]
            elif kind in ("display_data", "update_display_data"):
                written += content["data"].get("text/plain", "")
            elif kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                return written, error

    def run(self, cell):
        return self.end(self.begin(cell))


@pytest.fixture
def notebook(tmp_path):
    notebook = Notebook(tmp_path)
    yield notebook
    notebook.client.stop_channels()
    notebook.kernel.shutdown_kernel(now=True)


def test_a_notebook_mounts_copies_is_interrupted_and_restarts(notebook, epochs, large, tmp_path):
    written, error = notebook.run(f"""
        import time, rechunkfs, zarr
        view = rechunkfs.mount({str(epochs)!r}, along="epoch")
        print(zarr.open_group(view.path, mode="r")["lightcurves"][0, 1])
        """)
    assert (written, error) == ("1.0\n", "")
    copy = f'rechunkfs.materialize({str(large)!r}, "copy.zarr", along="epoch", codecs="zstd:22", threads=1, chunk_size="256KiB"'
    request = notebook.begin(f"{copy})")
    partial = tmp_path / "copy.zarr.rechunkfs-partial"
    wait_until(lambda: partial.is_dir() and any(partial.rglob("c")), "the copy is under way")
    notebook.kernel.interrupt_kernel()
    written, error = notebook.end(request)
    assert re.match("KeyboardInterrupt: stopped.* --resume$", error), error
    assert len(commands_about(tmp_path)) == 1, "the mount alone"
    # The interrupt was the cell's: the mount is still there, and the copy goes on with a bar.
    written, error = notebook.run(f'{copy}, resume=True).resumed')
    assert error == "" and "materialize" in written
    assert notebook.run('print((view.path / "zarr.json").exists())') == ("True\n", "")
    notebook.kernel.restart_kernel(now=True)
    wait_until(lambda: not mounts_below(tmp_path), "a restart unmounts")
