"""Sources behind URLs: read through a server of objects, slow and faulty, and held against zarr-python's read of the disk."""

import errno
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import boto3
import numpy as np
import pytest
import zarr
from support import MountRefused, assert_same_store, mounted, rechunkfs
from test_following import until

SERVER = Path(__file__).with_name("object_server.py")
LAYOUT = ["--along", "epoch", "--chunks", "object=15"]
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYSECRET"


class Served:
    def __init__(self, port, folder):
        self.endpoint, self.folder = f"http://127.0.0.1:{port}", folder

    def be(self, kind):
        with urllib.request.urlopen(f"{self.endpoint}/-/be/{kind}", timeout=10) as answer:
            answer.read()

    def requests(self):
        with urllib.request.urlopen(f"{self.endpoint}/-/requests", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def served(folder, *options):
    command = [sys.executable, str(SERVER), str(folder), *map(str, options)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Served(int(server.stdout.readline()), folder)
    finally:
        server.stdin.close()
        server.wait(20)


@pytest.fixture
def bucket(tmp_path, source, monkeypatch):
    """The survey with holes as `s3://bucket/deep/s.zarr`, and what the environment has to say."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    (tmp_path / "served/bucket/deep").mkdir(parents=True)
    shutil.move(tmp_path / "s.zarr", tmp_path / "served/bucket/deep/s.zarr")
    return tmp_path / "served"


def url_of(server, scheme):
    if scheme == "http":
        return f"{server.endpoint}/bucket/deep/s.zarr", []
    return "s3://bucket/deep/s.zarr", ["--storage-option", f"endpoint={server.endpoint}"]


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_url_shows_what_its_directory_holds(bucket, scheme):
    store = bucket / "bucket/deep/s.zarr"
    nights = zarr.open_group(store, mode="r+").create_group("nights/late", attributes={"n": 2})
    nights.create_array("n", shape=(4, 6), chunks=(2, 3), dtype="i4")[...] = np.arange(24).reshape(4, 6)
    zarr.consolidate_metadata(store)
    with served(bucket) as server:
        url, options = url_of(server, scheme)
        run = rechunkfs("inspect", url, *options, "--json")
        assert run.returncode == 0, run.stderr
        with mounted(url, *LAYOUT, *options) as view:
            assert_same_store(view, store)
            assert view.status()["view"]["requests"]["gets"] > 0


def test_a_node_that_consolidated_metadata_names_and_that_is_not_there_is_an_error(bucket):
    store = bucket / "bucket/deep/s.zarr"
    zarr.consolidate_metadata(store)
    (store / "mag/zarr.json").unlink()
    with served(bucket) as server:
        url, _ = url_of(server, "http")
        run = rechunkfs("inspect", url)
        assert run.returncode and "mag/zarr.json" in run.stderr and "consolidate again" in run.stderr
        with pytest.raises(MountRefused) as refused, mounted(url, *LAYOUT):
            pass
        assert "mag/zarr.json" in refused.value.stderr


def test_faults_cost_time_and_never_an_answer(bucket):
    store = bucket / "bucket/deep/s.zarr"
    with served(bucket, "--delay", "0.005", "--fault", "4") as server:
        url, options = url_of(server, "s3")
        with mounted(url, *LAYOUT, *options) as view:
            assert_same_store(view, store)
        counts = server.requests()
        assert counts["faults"] > 10
        assert counts["most_at_once"] > 8, "requests wait for each other"


def test_presence_comes_from_listings(bucket):
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        with mounted(url, *LAYOUT, *options, "--refresh", "never") as view:
            before = server.requests()
            names = os.listdir(view / "mag")
            after = server.requests()
        assert len(names) > 2
        n_files = len(list((bucket / "bucket/deep/s.zarr/mag").rglob("*")))
        asked = sum(after[kind] - before[kind] for kind in ("get", "head", "list"))
        assert asked < n_files / 2, f"{asked} requests for {n_files} files"


def test_objects_that_are_put_again_or_deleted_show(bucket):
    store = bucket / "bucket/deep/s.zarr"
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        with mounted(url, *LAYOUT, *options, "--refresh", "0.2") as view:
            assert_same_store(view, store)
            group = zarr.open_group(store, mode="r+")
            values = group["mag"][...]
            group["mag"][...] = values + 1

            def shows():
                try:
                    return np.array_equal(zarr.open_group(view, mode="r")["mag"][...], group["mag"][...], equal_nan=True)
                except OSError:
                    return False  # Opened just before: ESTALE.

            until("what was put again shows", shows)
            chunk = next(path for path in (store / "mag/c").rglob("*") if path.is_file())
            chunk.unlink()
            until("what was deleted is fill value", shows)


def test_ranges_at_random(bucket):
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        with mounted(bucket / "bucket/deep/s.zarr", *LAYOUT) as local, mounted(url, *LAYOUT, *options) as view:
            files = sorted(path.relative_to(local) for path in local.rglob("*") if path.is_file())
            assert files == sorted(path.relative_to(view) for path in view.rglob("*") if path.is_file())
            rng = random.Random(7)
            for name in rng.choices(files, k=80):
                size = (local / name).stat().st_size
                assert (view / name).stat().st_size == size
                start = rng.randrange(size + 1)
                n = rng.randrange(size - start + 1)
                with open(local / name, "rb") as ours, open(view / name, "rb") as theirs:
                    ours.seek(start), theirs.seek(start)
                    assert ours.read(n) == theirs.read(n), name


def test_what_is_denied_is_an_error_and_no_secret_is_told(bucket):
    with served(bucket, "--denied") as server:
        url, options = url_of(server, "s3")
        with pytest.raises(MountRefused) as refused, mounted(url, *LAYOUT, *options):
            pass
        assert "InvalidAccessKeyId" in refused.value.stderr and SECRET not in refused.value.stderr
        assert "zarr.json" in refused.value.stderr


def test_a_server_that_goes_away_is_an_error_and_not_absence(bucket):
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        options += ["--refresh", "never"]
        with mounted(url, *LAYOUT, *options) as view:
            name = next(path for path in sorted((view / "mag").iterdir()) if path.name.startswith("c"))
            # The bucket vanishes: every answer is 404 from now on.
            (bucket / "bucket").rename(bucket / "elsewhere")
            with pytest.raises(OSError) as failed:
                name.read_bytes()
            assert failed.value.errno != 2
            with pytest.raises(OSError) as failed:
                (view / "epoch_mjd" / "no-such").stat() if (view / "epoch_mjd").exists() else (view / "no-such").stat()
            assert failed.value.errno == 5


@pytest.mark.parametrize("kind", ["unavailable", "reset", "short", "stalled"])
def test_a_server_that_fails_for_good_is_an_error_in_time_and_serves_again(bucket, kind):
    store = bucket / "bucket/deep/s.zarr"
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        with mounted(url, *LAYOUT, *options, "--refresh", "never", "--read-timeout", "2") as view:
            name = next(path for path in sorted((view / "mag").iterdir()) if path.name.startswith("c"))
            assert name.stat().st_size > 0
            server.be(kind)
            began = time.monotonic()
            with pytest.raises(OSError) as failed:
                name.read_bytes()
            assert failed.value.errno == errno.EIO
            assert time.monotonic() - began < 40
            server.be("well")
            until("it serves again", lambda: is_read(name))
            assert_same_store(view, store)


def is_read(path):
    try:
        return bool(path.read_bytes())
    except OSError:
        return False  # What was asked meanwhile may be on its way still.


def test_slow_bodies_are_waited_for(bucket):
    store = bucket / "bucket/deep/s.zarr"
    with served(bucket, "--delay", "0.02") as server:
        url, options = url_of(server, "s3")
        with mounted(url, *LAYOUT, *options) as view:
            server.be("slow")
            assert np.array_equal(
                zarr.open_group(view, mode="r")["mag"][...], zarr.open_group(store, mode="r")["mag"][...], equal_nan=True
            )


def test_one_page_of_a_listing_tells_of_a_whole_line_of_files(tmp_path, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    store = tmp_path / "bucket/line.zarr"
    values = np.arange(4 * 240, dtype="f4").reshape(4, 240)
    array = zarr.create_group(store).create_array(
        "mag", shape=values.shape, chunks=(4, 1), dtype="f4", fill_value=0, dimension_names=("object", "epoch")
    )
    array[...] = values
    with served(tmp_path) as server:
        options = ["--storage-option", f"endpoint={server.endpoint}"]
        layout = ["--chunks", "object=1,epoch=20"]
        with mounted("s3://bucket/line.zarr", *layout, *options, "--refresh", "never") as view:
            before = server.requests()
            assert np.array_equal(zarr.open_group(view, mode="r")["mag"][...], values)
            after = server.requests()
    # One for the line of 12 virtual chunks, and the first chunk read says how long blocks are.
    assert after["list"] - before["list"] <= 1
    assert after["get"] - before["get"] <= 240 + 1
    assert after["head"] - before["head"] == 0


@contextmanager
def process(*command, env=None):
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(20)
        running.stderr.close()


def test_a_server_of_another_make_answers_as_ours_does(bucket):
    store = bucket / "bucket/deep/s.zarr"
    with process(sys.executable, "-m", "moto.server", "-p", "0") as moto:
        endpoint = next(found[0] for line in moto.stderr if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
        # Or it stops where nobody reads what it says.
        threading.Thread(target=moto.stderr.read, daemon=True).start()
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="bucket")
        for path in store.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "bucket", f"deep/{path.relative_to(store.parent)}")
        options = ["--storage-option", f"endpoint={endpoint}"]
        with mounted("s3://bucket/deep/s.zarr", *LAYOUT, *options) as view:
            assert_same_store(view, store)


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def test_what_nginx_serves_is_what_its_directory_holds(bucket, tmp_path):
    store = bucket / "bucket/deep/s.zarr"
    zarr.consolidate_metadata(store)
    nginx = subprocess.run([SERVER.parents[2] / "scripts/nginx"], stdout=subprocess.PIPE, text=True, check=True, timeout=200)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port, root=bucket))
    with process(nginx.stdout.strip(), "-e", "stderr", "-p", str(tmp_path), "-c", str(config)) as server:
        url = f"http://127.0.0.1:{port}/bucket/deep/s.zarr"

        def is_up():
            assert server.poll() is None, server.stderr.read()
            try:
                return urllib.request.urlopen(f"{url}/zarr.json", timeout=5).status == 200
            except urllib.error.URLError:
                return False

        until("nginx answers", is_up)
        with mounted(url, *LAYOUT) as view:
            ours, source = zarr.open_group(view, mode="r"), zarr.open_group(store, mode="r")
            assert np.array_equal(ours["mag"][...], source["mag"][...], equal_nan=True)
            # What is shown as it is, too: nginx denies directories, among them those of chunks.
            assert_same_store(view, store)


@pytest.mark.parametrize("url", ["https://me:hunter22secret@host/s.zarr", "https://host/s.zarr?X-Amz-Signature=hunter22secret"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    for command in (["inspect", url], ["mount", url, "nowhere", *LAYOUT]):
        run = rechunkfs(*command)
        assert run.returncode and "hunter22secret" not in run.stderr + run.stdout
        assert "environment" in run.stderr


def test_unknown_options_and_schemes_are_refused():
    run = rechunkfs("inspect", "s3://bucket/s.zarr", "--storage-option", "regoin=x")
    assert run.returncode and "regoin" in run.stderr
    run = rechunkfs("inspect", "ftp://host/s.zarr")
    assert run.returncode and "s3, gs, az, http" in run.stderr
    run = rechunkfs("materialize", ".", "s3://bucket/s.zarr")
    assert run.returncode and "directories" in run.stderr
    for command in ("materialize", "verify"):
        run = rechunkfs(command, ".", "elsewhere", "--storage-option", "region=x")
        assert run.returncode and "--storage-option" in run.stderr
