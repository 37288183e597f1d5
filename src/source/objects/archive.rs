//! A zip archive as a store of objects: what zarr-python's `ZipStore` writes, or a store that somebody has packed.
//!
//! Its names are held in memory, in order; its bytes are read where they lie. It is one file that stays as it is: whatever is
//! read of one that has changed since it was opened is an error.

use crate::source::FileState;
use async_trait::async_trait;
use flate2::read::DeflateDecoder;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rawzip::{
    CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder, ZipFileHeaderRecord,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Bound, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// With what an archive begins: a member, or the end of its directory where it has none.
const SIGNATURES: [&[u8; 4]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
const NAME: &str = "zip";

/// An archive that is open.
#[derive(Debug)]
pub(super) struct Archive(Arc<Opened>);

struct Opened {
    archive: ZipArchive<FileReader>,
    /// The same file, to be looked at.
    file: File,
    state: FileState,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
    crc32: u32,
}

/// Whether a file is an archive, by its first bytes.
pub(in crate::source) fn is_archive(path: &Path) -> bool {
    let mut first = [0; 4];
    // Opening something else might wait for ever.
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut read = || File::open(path)?.read_exact_at(&mut first, 0);
    is_file && read().is_ok() && SIGNATURES.contains(&&first)
}

impl Archive {
    /// Reads the names of its members.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let state = FileState::from(&rustix::fs::fstat(&file)?);
        let damaged =
            |error: rawzip::Error| io::Error::other(format!("{}: no sound zip archive: {error}", path.display()));
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file.try_clone()?, &mut buffer).map_err(damaged)?;
        let mut members = BTreeMap::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            // What is no key nobody asks for.
            if let Some(key) = key_of(&entry) {
                let member = Member {
                    place: entry.wayfinder(),
                    method: entry.compression_method(),
                    is_encrypted: entry.flags().is_encrypted(),
                    crc32: entry.crc32(),
                };
                // Of two with the same name the later one counts: so writers replace what they cannot take out.
                members.insert(key, member);
            }
        }
        Ok(Archive(Arc::new(Opened { archive, file, state, members })))
    }

    /// The one folder in which everything is, where there is such a one and it looks like a store: packing a directory makes
    /// that.
    pub(super) fn only_folder(&self) -> Option<String> {
        let members = &self.0.members;
        let (folder, _) = members.keys().next()?.split_once('/')?;
        let below = format!("{folder}/");
        let is_store =
            ["zarr.json", ".zgroup", ".zarray"].iter().any(|name| members.contains_key(&format!("{below}{name}")));
        (is_store && members.keys().all(|key| key.starts_with(&below))).then(|| folder.to_owned())
    }
}

fn key_of(entry: &ZipFileHeaderRecord<'_>) -> Option<String> {
    let name = std::str::from_utf8(entry.file_path().as_bytes()).ok()?;
    let is_key = !entry.is_dir() && Key::parse(name).is_ok_and(|key| key.as_ref() == name);
    is_key.then(|| name.to_owned())
}

impl Opened {
    fn meta(&self, key: &str, member: &Member) -> ObjectMeta {
        let since = Duration::from_nanos(self.state.mtime_ns.max(0).cast_unsigned());
        ObjectMeta {
            location: Key::parse(key).unwrap_or_default(),
            last_modified: SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH).into(),
            size: member.place.uncompressed_size_hint(),
            e_tag: Some(format!("{:016x}-{:08x}", self.state.stamp.to_raw(), member.crc32)),
            version: None,
        }
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let stat = rustix::fs::fstat(&self.file)?;
        let (now, then) = (FileState::from(&stat), self.state);
        // Another file that takes its place changes one of the times, too.
        let is_replaced = stat.st_nlink == 0 && (now.size_bytes, now.mtime_ns) == (then.size_bytes, then.mtime_ns);
        if now.stamp == then.stamp || is_replaced {
            return Ok(());
        }
        Err(io::Error::other("the archive has changed since it was opened; open it again"))
    }

    fn read(&self, member: &Member, range: &Range<u64>) -> io::Result<Vec<u8>> {
        if member.is_encrypted {
            return Err(io::Error::other("it is encrypted in the archive; pack the store without"));
        }
        self.check_unchanged()?;
        let entry = self.archive.get_entry(member.place).map_err(io::Error::other)?;
        let (begin, end) = entry.compressed_data_range();
        if end > self.state.size_bytes {
            return Err(io::Error::other("the archive is damaged: a member reaches beyond its end"));
        }
        let bytes = match member.method {
            CompressionMethod::STORE if end - begin == member.place.uncompressed_size_hint() => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                self.file.read_exact_at(&mut bytes, begin + range.start)?;
                bytes
            }
            CompressionMethod::DEFLATE => {
                let mut decoded = DeflateDecoder::new(entry.reader());
                io::copy(&mut decoded.by_ref().take(range.start), &mut io::sink())?;
                // As long as it is, and not as long as the archive says.
                let mut bytes = Vec::new();
                decoded.take(range.end - range.start).read_to_end(&mut bytes)?;
                bytes
            }
            CompressionMethod::STORE => Vec::new(),
            other => {
                return Err(io::Error::other(format!("it is packed by {other:?}; pack the store without compression")));
            }
        };
        self.check_unchanged()?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(io::Error::other("the archive is damaged: a member is not as long as it says"));
        }
        let is_whole = *range == (0..member.place.uncompressed_size_hint());
        if is_whole && rawzip::crc32(&bytes) != member.crc32 {
            return Err(io::Error::other("the archive is damaged: the checksum of a member is another"));
        }
        Ok(bytes)
    }

    /// What lies below a prefix, from a name on, in order.
    fn below(self: &Arc<Self>, prefix: Option<&Key>, from: Bound<String>) -> impl Iterator<Item = ObjectMeta> + use<> {
        let this = Arc::clone(self);
        let below = below(prefix);
        let mut at = match from {
            Bound::Included(from) | Bound::Excluded(from) if from < below => Bound::Included(below.clone()),
            Bound::Unbounded => Bound::Included(below.clone()),
            from => from,
        };
        std::iter::from_fn(move || {
            let (key, member) = this.members.range((at.clone(), Bound::Unbounded)).next()?;
            at = Bound::Excluded(key.clone());
            key.starts_with(&below).then(|| this.meta(key, member))
        })
    }
}

/// How all keys below a prefix begin.
fn below(prefix: Option<&Key>) -> String {
    prefix.filter(|prefix| !prefix.as_ref().is_empty()).map_or(String::new(), |prefix| format!("{prefix}/"))
}

impl fmt::Debug for Opened {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} members", self.members.len())
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(NAME)
    }
}

/// Nothing is ever written.
fn read_only(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: NAME.to_owned() }
}

fn failed(error: io::Error) -> Error {
    Error::Generic { store: NAME, source: Box::new(error) }
}

#[async_trait]
impl ObjectStore for Archive {
    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        let absent = || Error::NotFound { path: location.to_string(), source: "it is not in the archive".into() };
        let member = self.0.members.get(location.as_ref()).ok_or_else(absent)?;
        let meta = self.0.meta(location.as_ref(), member);
        let whole = 0..meta.size;
        let range = match &options.range {
            _ if options.head => whole,
            Some(range) => range.as_range(meta.size).map_err(|error| failed(io::Error::other(error)))?,
            None => whole,
        };
        let bytes = if options.head { Vec::new() } else { self.0.read(member, &range).map_err(failed)? };
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes.into()) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter(self.0.below(prefix, Bound::Unbounded).map(Ok)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Key>, offset: &Key) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter(self.0.below(prefix, Bound::Excluded(offset.to_string())).map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let skipped = below(prefix).len();
        let (mut common_prefixes, mut objects): (Vec<Key>, Vec<ObjectMeta>) = Default::default();
        let mut from = Bound::Unbounded;
        while let Some(meta) = self.0.below(prefix, from).next() {
            let key = meta.location.as_ref();
            match key[skipped..].find('/') {
                Some(at) => {
                    let folder = &key[..skipped + at];
                    common_prefixes.push(Key::parse(folder).unwrap_or_default());
                    // What comes after a slash: the first name behind the folder.
                    from = Bound::Included(format!("{folder}0"));
                }
                None => {
                    from = Bound::Excluded(key.to_owned());
                    objects.push(meta);
                }
            }
        }
        Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
    }

    async fn put_opts(&self, _: &Key, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("put"))
    }

    async fn put_multipart_opts(&self, _: &Key, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("put"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        stream::once(async { Err(read_only("delete")) }).boxed()
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        Err(read_only("copy"))
    }
}
