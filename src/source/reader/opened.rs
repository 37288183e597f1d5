//! A chunk file that is being read: an open file, or an object and what was read of it.

use crate::source::FileState;
use crate::source::objects::{Got, Objects, Part, changed};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

#[derive(Debug)]
pub(in crate::source) enum Opened {
    File(File),
    Object(Object),
}

/// All that is read of it is of one state.
#[derive(Debug)]
pub(in crate::source) struct Object {
    pub(in crate::source) objects: Arc<Objects>,
    pub(in crate::source) key: String,
    pub(in crate::source) state: FileState,
    /// Where the bytes that were read first lie.
    pub(in crate::source) offset: u64,
    pub(in crate::source) bytes: Vec<u8>,
}

impl Opened {
    /// Reads from `offset` on; fewer bytes than `out` has only at the end.
    pub(super) fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Opened::File(file) => file.read_at(out, offset),
            Opened::Object(object) => object.read_at(out, offset),
        }
    }

    pub(super) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Opened::File(file) => file.read_exact_at(out, offset),
            Opened::Object(object) => match object.read_at(out, offset)? {
                n if n == out.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }
}

impl Object {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = out.len().min(self.state.size_bytes.saturating_sub(offset) as usize);
        let out = &mut out[..len];
        if len == 0 {
            return Ok(0);
        }
        let held = offset.checked_sub(self.offset).and_then(|at| self.bytes.get(at as usize..)?.get(..len));
        if let Some(held) = held {
            out.copy_from_slice(held);
            return Ok(len);
        }
        out.copy_from_slice(&self.fetch(offset, len as u64)?);
        Ok(len)
    }

    /// Asks for bytes of it, all of which there are.
    pub(in crate::source) fn fetch(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let Got { state, offset: at, bytes } =
            self.objects.get(&self.key, Part::From(offset, len))?.ok_or_else(changed)?;
        if state.stamp != self.state.stamp {
            return Err(changed());
        }
        if (at, bytes.len() as u64) != (offset, len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }
}
