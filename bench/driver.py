"""Runs the cases one after the other, and reports."""

import sys

from bench import (
    cases_copy, cases_follow, cases_mount, cases_partition, cases_reads, cases_remote, cases_update, chart, report, stores,
)  # fmt: skip
from bench.context import Bench
from bench.process import Failed

FUNCTIONS = {
    "lightcurve": cases_reads.lightcurve,
    "mount": cases_reads.mount,
    "lightcurve-1000": cases_reads.lightcurve_1000,
    "seed": cases_reads.seed,
    "sweep": cases_reads.sweep,
    "sweep-256": cases_reads.sweep_256,
    "random": cases_reads.random_reads,
    "cache-dir": cases_reads.cache_dir,
    "first-touch": cases_mount.first_touch,
    "again": cases_mount.again,
    "shard": cases_mount.shard,
    "listing": cases_mount.listing,
    "huge": cases_mount.huge,
    "readers": cases_mount.readers,
    "follow": cases_follow.follow,
    "s3-seed": cases_remote.seed,
    "s3-idf": cases_remote.idf,
    "materialize": cases_copy.whole,
    "materialize-none": cases_copy.without_codec,
    "materialize-lz4": cases_copy.lz4,
    "materialize-shards": cases_copy.shards,
    "materialize-files": cases_copy.files,
    "materialize-temp": cases_copy.through_temp,
    "materialize-resume": cases_copy.resume,
    "materialize-shares": cases_partition.partitions,
    "update": cases_update.update,
}


def measure(root, args, cases):
    """Exit code 1 where a case could not be measured; a target that is missed is a result."""
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(root, args.work.resolve(), args.runs, args.quick)
    if not args.quick and (warning := stores.disk_and_memory(bench.work, cases)):
        print(f"bench: {warning}", file=sys.stderr)
    rows, failed = [], []
    for case in cases:
        bench.begin(case)
        try:
            rows += FUNCTIONS[case](bench)
        except Failed as error:
            print(f"bench: {case}: {error}", file=sys.stderr)
            failed.append(case)
        finally:
            bench.finish()
    if args.quick:
        print("Small stores, one sample: this shows that it runs. The targets are for full size.\n")
    print(report.table(rows))
    print(f"\n{report.summary(rows)}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if args.record or not (args.quick or args.cases or failed):
        path = report.write(bench, rows)
        chart.draw(rows, path.with_name("benchmarks.png"), report.title(bench))
        print(f"written: {path.relative_to(root)} and benchmarks.png beside it")
    return 1 if failed else 0
