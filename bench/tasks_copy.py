"""Copies by other libraries, run in a worker: the source's values in other chunks, synced once."""

import json
import os
import resource
import subprocess
import time


def synced(action, target):
    """Runs it; seconds with one sync of the file system at the end, and the most memory that this process took."""
    start = time.perf_counter()
    action()
    subprocess.run(["sync", "-f", target], check=True)
    return {"seconds": time.perf_counter() - start, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}


def document(source):
    with open(f"{source}/lightcurves/zarr.json") as file:
        return json.load(file)


def codecs(source, codec):
    """`source`: the same; `none`: bytes alone."""
    return document(source)["codecs"] if codec == "source" else [{"name": "bytes", "configuration": {"endian": "little"}}]


def warm_copy(source, target, chunks, shards=None, codec="source"):
    """Imports, outside of the clock."""
    import dask.array  # noqa: F401
    import tensorstore  # noqa: F401
    import zarr  # noqa: F401

    return {}


def copy_tensorstore(source, target, chunks, shards=None, codec="source"):
    """All of the source in memory at once, then written: the quickest way there is with it, whatever it takes."""
    import tensorstore as ts

    inner = codecs(source, codec)
    if shards:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {"chunk_shape": chunks, "codecs": inner, "index_codecs": index, "index_location": "end"}
        inner = [{"name": "sharding_indexed", "configuration": sharding}]

    def work():
        opened = ts.open(spec(f"{source}/lightcurves"), read=True).result()
        metadata = {
            "shape": list(opened.shape), "data_type": document(source)["data_type"], "fill_value": "NaN", "codecs": inner,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shards or chunks}},
        }  # fmt: skip
        created = ts.open({**spec(target), "metadata": metadata}, create=True).result()
        created.write(opened.read().result()).result()

    def spec(path):
        # Synced once at the end, as the others are, and not file by file.
        store = {"driver": "file", "path": f"{path}/", "file_io_sync": False}
        return {"driver": "zarr3", "kvstore": store}

    return synced(work, target)


def copy_dask(source, target, chunks, codec="source"):
    """from_zarr, rechunk, store, on its threads."""
    import dask.array as da
    import zarr

    def work():
        opened = zarr.open_array(f"{source}/lightcurves", mode="r")
        compressors = opened.compressors if codec == "source" else None
        created = zarr.create_array(
            target, shape=opened.shape, chunks=tuple(chunks), dtype=opened.dtype, fill_value=opened.fill_value, compressors=compressors
        )
        da.store(da.from_zarr(opened).rechunk(tuple(chunks)), created, lock=False, scheduler="threads", num_workers=n_cpus())

    return synced(work, target)


def n_cpus():
    return len(os.sched_getaffinity(0))


TASKS = {task.__name__: task for task in (warm_copy, copy_tensorstore, copy_dask)}
