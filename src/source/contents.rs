//! Files of a store that are read as they are, from their start to their end.

use super::objects::Part;
use super::reader::Object;
use super::{FileState, Store};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::retry_on_intr;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes of an object that are asked for at a time: each of many threads holds so many.
const PART_BYTES: u64 = 512 << 10;

/// A file, or an object, that is being read. All that is read of an object is of one state.
#[derive(Debug)]
pub struct Contents(Body);

#[derive(Debug)]
enum Body {
    File(File),
    /// And where in it the next byte lies.
    Object(Object, u64),
}

impl Store {
    /// The state of the file with this key, to which links may lead; [`FileState::ABSENT`] where there is none.
    ///
    /// # Errors
    /// Where it cannot be found out.
    pub fn state(&self, key: &str) -> io::Result<FileState> {
        if let Store::Objects(objects) = self {
            return objects.state(key);
        }
        match rustix::fs::stat(self.path(key)) {
            Ok(stat) => Ok(FileState::from(&stat)),
            Err(error) => absent(error.into(), FileState::ABSENT),
        }
    }

    /// The states of many, in their order.
    pub fn states(&self, keys: &[String]) -> Vec<io::Result<FileState>> {
        match self {
            Store::Objects(objects) => objects.states(keys),
            Store::Disk { .. } => keys.iter().map(|key| self.state(key)).collect(),
        }
    }

    /// Begins to read the file with this key; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read, or is no regular file.
    pub fn contents(&self, key: &str) -> io::Result<Option<Contents>> {
        if let Store::Objects(objects) = self {
            let Some(got) = objects.get(key, Part::From(0, PART_BYTES))? else { return Ok(None) };
            let (objects, key) = (Arc::clone(objects), key.to_owned());
            let object = Object { objects, key, state: got.state, offset: got.offset, bytes: got.bytes };
            return Ok(Some(Contents(Body::Object(object, 0))));
        }
        // Opening a named pipe would wait for a writer, for ever; the flag means nothing for regular files.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match retry_on_intr(|| open(self.path(key), flags, Mode::empty())) {
            Ok(file) => File::from(file),
            Err(error) => return absent(error.into(), None),
        };
        self.check(&file)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Some(Contents(Body::File(file))))
    }
}

/// Zarr readers take these for "no such chunk".
fn absent<T>(error: io::Error, nothing: T) -> io::Result<T> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(nothing),
        _ => Err(error),
    }
}

impl Contents {
    /// The state that it is in now, of a file; in which it is read, of an object.
    ///
    /// # Errors
    /// Where it cannot be found out.
    pub fn state(&self) -> io::Result<FileState> {
        match &self.0 {
            Body::File(file) => Ok(FileState::from(&fstat(file)?)),
            Body::Object(object, _) => Ok(object.state),
        }
    }

    /// The file, where it is one: the system can copy it by itself.
    pub fn file(&mut self) -> Option<&mut File> {
        match &mut self.0 {
            Body::File(file) => Some(file),
            Body::Object(..) => None,
        }
    }
}

impl Read for Contents {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (object, at) = match &mut self.0 {
            Body::File(file) => return file.read(out),
            Body::Object(object, at) => (object, at),
        };
        let left = object.state.size_bytes.saturating_sub(*at);
        if left > 0 && !out.is_empty() && *at - object.offset >= object.bytes.len() as u64 {
            object.bytes = object.fetch(*at, PART_BYTES.min(left))?;
            object.offset = *at;
        }
        let held = object.bytes.get((*at - object.offset) as usize..).unwrap_or_default();
        let n = held.len().min(out.len());
        out[..n].copy_from_slice(&held[..n]);
        *at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_what_is_none_is_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        std::fs::write(root.path().join("folder/file"), b"bytes").unwrap();
        let store = Store::from(root.path());
        let mut read = Vec::new();
        let mut contents = store.contents("folder/file").unwrap().unwrap();
        contents.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"bytes");
        assert_eq!(contents.state().unwrap(), store.state("folder/file").unwrap());
        assert!(store.contents("folder").unwrap_err().to_string().contains("no regular file"));
        for key in ["folder/none", "folder/file/below"] {
            assert!(store.contents(key).unwrap().is_none());
            assert_eq!(store.state(key).unwrap(), FileState::ABSENT);
        }
    }
}
