//! The copy kernel against memcpy of as many bytes: `cargo bench`.
//!
//! Shapes are those of real tiles. Criterion prints bytes a second; the same number for a row and for `memcpy` means that
//! memory is the limit.

#![expect(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rechunkfs::synthesis::{CopyAxis, copy_strided};
use std::hint::black_box;

struct Case {
    name: &'static str,
    item_bytes: usize,
    /// From slowest to fastest in the target.
    axes: Vec<CopyAxis>,
}

fn axis(n: usize, source: usize, target: usize) -> CopyAxis {
    CopyAxis { n, source, target }
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "turned: 16 epochs of 65,536 f4 into lightcurves of 100 epochs",
            item_bytes: 4,
            axes: vec![axis(65_536, 4, 400), axis(16, 262_144 + 64, 4)],
        },
        Case {
            name: "turned: 16 epochs of 32,768 f8 into lightcurves of 100 epochs",
            item_bytes: 8,
            axes: vec![axis(32_768, 8, 800), axis(16, 262_144 + 64, 8)],
        },
        Case {
            name: "turned: 64 times of 65,536 i2 into series of 1,000",
            item_bytes: 2,
            axes: vec![axis(32_768, 2, 2_000), axis(64, 65_536 + 64, 2)],
        },
        Case {
            name: "turned: 64 times of 65,536 u1 into series of 1,000",
            item_bytes: 1,
            axes: vec![axis(65_536, 1, 1_000), axis(64, 65_536 + 64, 1)],
        },
        Case {
            name: "pairs: 1,000 objects x 100 epochs x 2 f4",
            item_bytes: 4,
            axes: vec![axis(1_000, 8, 800), axis(100, 8_000 + 64, 8), axis(2, 4, 4)],
        },
        Case {
            name: "rows: 100 x 100 runs of 400 bytes",
            item_bytes: 4,
            axes: vec![axis(100, 40_000, 400), axis(100, 400, 40_000), axis(100, 4, 4)],
        },
    ]
}

fn copy(c: &mut Criterion) {
    let mut group = c.benchmark_group("copy");
    for case in cases() {
        let n_bytes = case.axes.iter().map(|axis| axis.n).product::<usize>() * case.item_bytes;
        let reach = |stride: fn(&CopyAxis) -> usize| {
            case.axes.iter().map(|axis| stride(axis) * (axis.n - 1)).sum::<usize>() + case.item_bytes
        };
        let source = vec![1u8; reach(|axis| axis.source)];
        let mut target = vec![2u8; reach(|axis| axis.target)];
        group.throughput(Throughput::Bytes(n_bytes as u64));
        group.bench_function(BenchmarkId::new("kernel", case.name), |bencher| {
            bencher.iter(|| copy_strided(black_box(&source), 0, &mut target, 0, &case.axes, case.item_bytes));
        });
        // The same bytes, in a row, and into as much memory: what no placing can pass.
        let row = vec![1u8; n_bytes];
        group.bench_function(BenchmarkId::new("memcpy", case.name), |bencher| {
            bencher.iter_batched(
                || (),
                |()| {
                    let target = &mut target[..n_bytes.min(source.len())];
                    target.copy_from_slice(black_box(&row[..target.len()]));
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, copy);
criterion_main!(benches);
