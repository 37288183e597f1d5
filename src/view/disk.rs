//! What a view keeps on disk: built tiles, for when they have left memory, and for the next mount.
//!
//! Parts of pieces are read from there on the spot and not taken back into memory: the kernel's page cache has them
//! then. Whatever goes wrong here costs time, never an answer.

mod keys;
mod shelf;
mod writer;

pub(super) use shelf::Built;

use super::edition::Edition;
use super::engine::{Entry, Key};
use super::journal::Journal;
use crate::cache::disk::DiskCache;
use crate::geometry::{Placement, TileId};
use shelf::Shelf;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use writer::Writer;

/// Where decoded data is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDir {
    /// The folder; created where it is missing.
    pub path: PathBuf,
    /// Bound on what all mounts keep there, bytes.
    pub limit_bytes: u64,
}

/// How full it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUsage {
    /// The folder of the records.
    pub folder: PathBuf,
    /// What all mounts keep there.
    pub used_bytes: u64,
    /// The bound as it is now.
    pub limit_bytes: u64,
}

/// The records of a view, and the thread that writes them.
#[derive(Debug)]
pub(super) struct Disk {
    shelf: Arc<Shelf>,
    writer: Writer,
}

impl Disk {
    /// Up to `max_waiting_bytes` of tiles (one at the least) may wait to be written.
    pub(super) fn start(
        records: DiskCache,
        root: &Path,
        journal: Arc<Journal>,
        max_waiting_bytes: u64,
    ) -> std::io::Result<Self> {
        let shelf = Arc::new(Shelf::new(records, root, journal));
        Ok(Disk { writer: Writer::start(Arc::clone(&shelf), max_waiting_bytes)?, shelf })
    }

    /// Appends a part of a piece to `out`, if it is on disk.
    pub(super) fn read(&self, edition: &Edition, placed: &Placement, out: &mut Vec<u8>) -> bool {
        out.reserve(placed.len_bytes as usize);
        self.shelf.read(edition, placed, out)
    }

    /// Those of the `tiles` that a piece draws on whose parts need not be built.
    pub(super) fn kept(&self, edition: &Edition, piece: u64, tiles: &[TileId]) -> Vec<TileId> {
        self.shelf.kept(edition, piece, tiles)
    }

    /// The furthest state of a seam on disk: the tiles that have placed their parts, and the bytes.
    pub(super) fn seam(&self, edition: &Edition, piece: u64, tiles: &[TileId]) -> Option<(Vec<TileId>, Box<[u8]>)> {
        self.shelf.seam(edition, piece, tiles)
    }

    /// What has left the cache and waits to be written.
    pub(super) fn waiting(&self, key: &Key) -> Option<Entry> {
        self.writer.find(|built| match key {
            Key::Tile(tile) => (built.tile.key == *tile).then(|| Entry::Tile(Arc::clone(&built.tile))),
            Key::Seam(..) => {
                let seam = built.seams.iter().find(|(known, _)| known == key);
                seam.map(|(_, seam)| Entry::Seam(Arc::clone(seam)))
            }
        })
    }

    /// Has a tile written behind the reads. Never waits: see [`Self::await_room`].
    pub(super) fn keep(&self, built: Built) {
        self.writer.push(built);
    }

    /// Waits for the disk where too much is to be written.
    pub(super) fn await_room(&self) {
        self.writer.await_room();
    }

    /// Waits until all is written.
    pub(super) fn finish(&self, patience: Duration) {
        self.writer.finish(patience);
    }

    pub(super) fn usage(&self) -> DiskUsage {
        let records = &self.shelf.records;
        DiskUsage {
            folder: records.folder().to_owned(),
            used_bytes: records.used_bytes(),
            limit_bytes: records.limit_bytes(),
        }
    }

    /// As `status` shows it.
    pub(super) fn status(&self) -> [(String, serde_json::Value); 7] {
        let (usage, totals) = (self.usage(), &self.shelf.records.totals);
        [
            ("disk_folder", usage.folder.display().to_string().into()),
            ("disk_hits", totals.hits.load(Relaxed).into()),
            ("disk_read_bytes", totals.read_bytes.load(Relaxed).into()),
            ("disk_written_bytes", totals.written_bytes.load(Relaxed).into()),
            ("disk_used_bytes", usage.used_bytes.into()),
            ("disk_limit_bytes", usage.limit_bytes.into()),
            ("disk_errors", totals.errors.load(Relaxed).into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
    }
}
