"""rechunker on a Zarr v2 array, in the environment of Zarr v2: SOURCE TARGET TEMP CHUNKS CODEC MAX_MEM; prints JSON.

CODEC `source` is the source's own, `default` what zarr 2 takes where none is named (Blosc's lz4)."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time

import dask
import zarr
from rechunker import rechunk


def main(source, target, temp, chunks, codec, max_mem):
    array = zarr.open_array(source, mode="r")
    options = {"compressor": array.compressor} if codec == "source" else {}
    shutil.rmtree(temp, ignore_errors=True)
    try:
        start = time.perf_counter()
        with dask.config.set(scheduler="threads", num_workers=len(os.sched_getaffinity(0))):
            plan = rechunk(array, tuple(json.loads(chunks)), max_mem, target, target_options=options, temp_store=temp)
            plan.execute()
        subprocess.run(["sync", "-f", target], check=True)
        seconds = time.perf_counter() - start
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))


if __name__ == "__main__":
    main(*sys.argv[1:])
