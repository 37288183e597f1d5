"""What a sample finds: a file system that has never held a file, and memory that is there.

Where many files have just been removed, some kernels take several times as long to create the next ones (ext4 without a
journal looks at every inode that was freed in the last minutes), and a virtual machine that has given memory back gets it again
at some microseconds a page. Whichever sample meets that is slow by chance."""

import os
import shutil
import sys
from contextlib import contextmanager

from bench.process import Failed, run, wait_until

IMAGE_BYTES, IMAGE_BYTES_QUICK = 6 << 30, 2 << 30
# A directory of seed cut into 200,000 files is a block and an inode for each of them.
BYTES_PER_INODE = 4096
# Less may leave out just the large pieces that page caches prefer.
TOUCHED_BYTES = 8 << 30


@contextmanager
def fresh(bench):
    """A directory on an ext4 made for it, on an image in the working directory; None where we may not make one."""
    place = bench.work / "fresh"
    device = make(bench, place) if bench.has_fresh_disk else None
    try:
        yield place if device else None
    finally:
        if device:
            # Whoever goes through all of the disk may be in there for a moment.
            wait_until(lambda: unmounted(place), f"unmount {place}")


def make(bench, place):
    try:
        image = written_image(bench)
        if users := run(["losetup", "--associated", image]).strip():
            raise Failed(f"{image} is in use: {users}")
        device = run(["losetup", "--find", "--show", "--direct-io=on", image]).strip()
        try:
            # Nothing is left for later: a thread that clears inode tables would be in the clock.
            later = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
            run(["mkfs.ext4", "-q", "-F", "-i", BYTES_PER_INODE, "-E", later, device])
            place.mkdir(exist_ok=True)
            run(["mount", "-o", "noatime", device, place])
        finally:
            # The mount keeps it until it ends.
            run(["losetup", "--detach", device])
    except (Failed, OSError) as error:
        print(f"bench: copies go to the working directory, one after the other: {error}", file=sys.stderr)
        bench.has_fresh_disk = False
        return None
    return device


def unmounted(place):
    try:
        run(["umount", place])
    except Failed:
        return False
    return True


def written_image(bench):
    """Once written all over, so that no sample pays for finding room for it."""
    n_bytes = IMAGE_BYTES_QUICK if bench.quick else IMAGE_BYTES
    image = bench.work / f"fresh-{n_bytes >> 30}.img"
    if not image.exists():
        if shutil.disk_usage(bench.work).free < 2 * n_bytes:
            raise Failed(f"{n_bytes >> 30} GiB for a file system of their own would leave too little room")
        partial = image.with_suffix(".partial")
        run(["dd", "if=/dev/zero", f"of={partial}", "bs=1M", f"count={n_bytes >> 20}", "oflag=direct", "conv=fsync"])
        partial.rename(image)
    return image


def touch_memory():
    """Takes memory and gives it back, as much as a sample may use. In a process of its own: children inherit the peak."""
    half = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    flags = "mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE"
    program = f"import mmap; mmap.mmap(-1, {min(TOUCHED_BYTES, half)}, flags={flags}).close()"
    run([sys.executable, "-c", program])
