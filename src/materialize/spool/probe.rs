//! How fast a disk is.

use crate::materialize::disk;
use std::path::Path;

/// Bytes that the disk of `folder` takes a second, by writing some.
pub(in crate::materialize) fn disk_bytes_per_s(folder: &Path) -> Option<f64> {
    const PROBE_BYTES: usize = 64 << 20;
    let path = folder.join("probe");
    let probe = || -> std::io::Result<f64> {
        disk::make_folders(folder)?;
        let file = disk::create(&path)?;
        let block = vec![0x5a; 1 << 20];
        let began = std::time::Instant::now();
        for nth in 0..PROBE_BYTES / block.len() {
            file.write_all_at(&block, (nth * block.len()) as u64)?;
        }
        file.sync()?;
        Ok(PROBE_BYTES as f64 / began.elapsed().as_secs_f64().max(1e-6))
    };
    let measured = probe().ok();
    drop(disk::remove_file(&path));
    measured
}
