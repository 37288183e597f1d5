"""What runs in a worker: readers, with their imports done before any clock runs.

A worker is a process that takes one task per line on stdin, as JSON, and answers with one line: `{"seconds": ...}` and
whatever else the task tells. Nothing is kept from one task to the next, so each opens its array anew.
"""

import json
import os
import sys
import time
import warnings
import zlib

from bench import tasks_copy

STATUS = "user.rechunkfs.status"
# Requests at a time of the readers of object stores: what rechunkfs has, and more than either takes by itself.
S3_CONCURRENCY = 128


def timed(action):
    start = time.perf_counter()
    value = action()
    return time.perf_counter() - start, value


def checked(seconds, values):
    """The values' checksum goes along: a reader that is quick and wrong must not pass."""
    return {"seconds": seconds, "checksum": zlib.crc32(values.tobytes())}


def warm(store, readers):
    """Imports, and starts the threads and event loops that a first read would start."""
    import numpy  # noqa: F401

    if "zarr" in readers or "zarrs" in readers:
        zarr_python(store, "mjd", 0)
    if "tensorstore" in readers:
        tensorstore(store, "mjd", 0)
    if "zarrs" in readers:
        zarrs_python(store, "mjd", 0)
    return {}


def zarr_python(store, array, row):
    import zarr

    return checked(*timed(lambda: zarr.open_array(f"{store}/{array}", mode="r")[row]))


def zarrs_python(store, array, row):
    import zarr
    import zarrs  # noqa: F401

    # Or it would be zarr-python's own decoder that is measured.
    warnings.filterwarnings("error", message="Array is unsupported by ZarrsCodecPipeline")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return zarr_python(store, array, row)


def tensorstore(store, array, row):
    import tensorstore as ts

    # A context of its own for each read: a pool that is shared would answer from memory.
    context = ts.Context({"cache_pool": {"total_bytes_limit": 1 << 30}})
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store}/{array}"}}
    return checked(*timed(lambda: ts.open(spec, read=True, context=context).result()[row].read().result()))


def warm_s3(store, environment):
    """Imports, and the threads and event loops of the readers below, on disk; and whose keys they use."""
    import obstore  # noqa: F401

    os.environ.update(environment)
    return warm(store, ["zarr", "tensorstore"])


def zarr_python_s3(endpoint, store, array, row):
    import obstore
    import zarr

    def read():
        bucket = obstore.store.S3Store(
            "bucket", prefix=f"{store}/{array}", endpoint=endpoint, client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )  # fmt: skip
        return zarr.open_array(zarr.storage.ObjectStore(bucket, read_only=True), mode="r")[row]

    with zarr.config.set({"async.concurrency": S3_CONCURRENCY}):
        return checked(*timed(read))


def tensorstore_s3(endpoint, store, array, row):
    import tensorstore as ts

    context = ts.Context({
        "cache_pool": {"total_bytes_limit": 1 << 30}, "s3_request_concurrency": {"limit": S3_CONCURRENCY},
    })  # fmt: skip
    bucket = {
        "driver": "s3", "bucket": "bucket", "path": f"{store}/{array}/", "endpoint": endpoint, "aws_region": "us-east-1",
        "aws_credentials": {"type": "environment"},
    }  # fmt: skip
    spec = {"driver": "zarr3", "kvstore": bucket}
    return checked(*timed(lambda: ts.open(spec, read=True, context=context).result()[row].read().result()))


def inner_chunks(store, array, rows):
    """Rows of a sharded array, one by one, from one array opened."""
    import numpy as np
    import zarr

    def read():
        opened = zarr.open_array(f"{store}/{array}", mode="r")
        return np.stack([opened[row] for row in rows])

    return checked(*timed(read))


def read_file(path, buffer):
    """Open, read to the end, close, into a buffer that is there already. Returns the bytes read."""
    file = os.open(path, os.O_RDONLY)
    try:
        total = 0
        while n := os.readv(file, [buffer]):
            total += n
        return total
    finally:
        os.close(file)


def read_files(folder, names, file_bytes):
    """Every file of `names` once, by one plain reader. Its first look at a file is in the clock."""
    buffer = memoryview(bytearray(file_bytes + 1))
    seconds, n_bytes = timed(lambda: sum(read_file(f"{folder}/{name}", buffer) for name in names))
    if n_bytes != file_bytes * len(names):
        raise ValueError(f"{n_bytes} bytes in {len(names)} files of {file_bytes}")
    return {"seconds": seconds}


def read_counted(mount, folder, names, file_bytes):
    """As `read_files`, each file timed for itself; and which of the reads made the mount decode something."""
    buffer = memoryview(bytearray(file_bytes + 1))
    seconds, missed, before = [], [], blocks(mount)
    for name in names:
        took, _ = timed(lambda: read_file(f"{folder}/{name}", buffer))
        after = blocks(mount)
        seconds.append(took)
        missed.append(after > before)
        before = after
    return {"seconds": sum(seconds), "each": seconds, "missed": missed}


def blocks(mount):
    return json.loads(os.getxattr(mount, STATUS))["source_counts"]["blocks"]


def read_and_forget(folder, names, file_bytes, start_at):
    """As `read_files`, but the kernel is told to drop each file's pages: the next read asks the file system again."""
    buffer = memoryview(bytearray(file_bytes + 1))
    forget(folder, names)
    time.sleep(max(0.0, start_at - time.monotonic()))
    began = time.monotonic()
    for name in names:
        read_file(f"{folder}/{name}", buffer)
        forget(folder, [name])
    return {"seconds": time.monotonic() - began, "began": began, "ended": time.monotonic()}


def forget(folder, names):
    for name in names:
        file = os.open(f"{folder}/{name}", os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def scandir(folder):
    seconds, n_entries = timed(lambda: sum(1 for _ in os.scandir(folder)))
    return {"seconds": seconds, "entries": n_entries}


TASKS = {
    task.__name__: task
    for task in (
        warm, zarr_python, zarrs_python, tensorstore, warm_s3, zarr_python_s3, tensorstore_s3, inner_chunks, read_files,
        read_counted, read_and_forget, scandir,
    )  # fmt: skip
} | tasks_copy.TASKS


def main():
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = TASKS[task.pop("task")](**task)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
