"""Cases over S3: every request takes 20 ms, however many there are at a time."""

import os

from bench.cases_reads import OBJECTS, rows_of
from bench.context import Row, spread
from bench.mounts import view
from bench.object_server import DELAY_MS, KEYS, served
from bench.process import Failed
from bench.stores import strict

PEERS = {"tensorstore": "tensorstore_s3", "zarr-python": "zarr_python_s3"}


def counted(requests):
    """Requests by kind, and bytes, as text."""
    kinds = ", ".join(f"{requests[kind]} {kind}" for kind in ("get", "head", "list") if requests[kind])
    return f"{kinds}, {requests['bytes'] / 1e6:.1f} MB"


def first_lightcurves(bench, name, n_rows, flags, target):
    """A lightcurve by the peers from the URL, and by zarr-python from a fresh mount of it, in turn: the values must be the same.

    Returns a row for each peer, and who asked for what."""
    store = bench.store(name)
    places = {"tensorstore": strict(store), "zarr-python": store}
    work = f"first lightcurve of {name} over S3 at {DELAY_MS} ms a request, zarr-python"
    rows = {peer: Row(bench.case, work, f"{peer} on the source", target) for peer in PEERS}
    asked, mounts, with_mount = {}, [], []
    os.environ |= KEYS
    bench.worker.do("warm_s3", store=store, environment=KEYS)
    with served(bench) as server:
        options = [*flags, "--storage-option", f"endpoint={server.endpoint}"]
        for picked in rows_of(bench, n_rows):
            checksums = set()
            for peer, task in PEERS.items():
                server.requests("reset")
                where = {"endpoint": server.endpoint, "store": places[peer].name, "array": "lightcurves"}
                found = bench.worker.do(task, **where, row=picked)
                asked[peer] = server.requests()
                rows[peer].theirs.append(found["seconds"])
                checksums.add(found["checksum"])
            server.requests("reset")
            with view(bench, f"s3://bucket/{store.name}", options) as mount:
                mounts.append(server.requests())
                server.requests("reset")
                found = bench.worker.do("zarr_python", store=mount.path, array="lightcurves", row=picked)
                asked["rechunkfs"] = server.requests()
                with_mount.append(mount.seconds + found["seconds"])
            if checksums != {found["checksum"]}:
                raise Failed(f"object {picked}: the mount's values or those of a peer are not the source's")
            for row in rows.values():
                row.ours.append(found["seconds"])
    for peer, row in rows.items():
        row.notes += [f"{who}: {counted(asked[who])}" for who in ("rechunkfs", peer)]
    first = next(iter(rows.values()))
    first.notes.append(f"with `mount` before it {spread(with_mount)} s, which asks {counted(mounts[-1])}")
    return rows, asked


def seed(bench):
    rows, _ = first_lightcurves(bench, "seed", 20_000, ["--chunks", "object=1,epoch=100"], 1)
    return list(rows.values())


def idf(bench):
    rows, asked = first_lightcurves(bench, "idf", 47_287, OBJECTS, 1 / 5)
    for peer, row in rows.items():
        row.require("bytes <= 1/20", asked["rechunkfs"]["bytes"] <= asked[peer]["bytes"] / 20)
    return list(rows.values())
