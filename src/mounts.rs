//! The kernel's table of mounts. Reading it touches no file system, so a hung mount cannot hang us.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Unique among the mounts that exist now; what tells our mount from a later one at the same place.
    pub id: u64,
    /// `major:minor` of the mounted file system.
    pub device: String,
    /// Which directory of that file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// `ext4`, `fuse.rechunkfs`, ...
    pub fs_type: String,
    /// A device, or for us the source store.
    pub source: PathBuf,
    /// Options of the file system, comma separated.
    pub options: String,
}

/// The type under which our mounts appear.
pub const FS_TYPE: &str = "fuse.rechunkfs";

impl Mount {
    /// Whether rechunkfs made this mount.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// The user who mounted a FUSE file system.
    pub fn owner(&self) -> Option<u32> {
        let value = self.options.split(',').find_map(|option| option.strip_prefix("user_id="))?;
        value.parse().ok()
    }
}

/// All mounts that this process can see, oldest first.
pub fn list() -> io::Result<Vec<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// The topmost mount exactly at `point`, a canonical path.
pub fn at(point: &Path) -> io::Result<Option<Mount>> {
    Ok(list()?.into_iter().rfind(|mount| mount.point == point))
}

fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    // Optional fields stand between the sixth and a lone hyphen.
    let hyphen = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Some(Mount {
        id: text(fields[0]).parse().ok()?,
        device: text(fields[2]),
        root: unescape(fields[3]),
        point: unescape(fields[4]),
        fs_type: text(fields.get(hyphen + 1)?),
        source: unescape(fields.get(hyphen + 2)?),
        options: text(fields.get(hyphen + 3).unwrap_or(&b"".as_slice())),
    })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (byte, octal) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// An absolute path as the mount table spells it, found without touching what may be mounted there.
///
/// Canonicalizing a dead mount fails, so only its parent is canonicalized. A last component that is
/// a symbolic link is followed.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return path.canonicalize();
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let resolved = parent.canonicalize()?.join(name);
    match std::fs::read_link(&resolved) {
        Ok(_) => path.canonicalize(),
        Err(_) => Ok(resolved),
    }
}

/// Whether `path` is `folder` or below it, by text: no file system is asked.
pub fn is_within(path: &Path, folder: &Path) -> bool {
    let (path, folder) = (path.as_os_str().as_bytes(), folder.as_os_str().as_bytes());
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || folder == b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_with_optional_fields_and_escapes() {
        let line = br"36 35 0:57 / /mnt/a\040b rw,nosuid shared:1 master:2 - fuse.rechunkfs /data/x\054y.zarr ro,user_id=1000,group_id=5";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.device.as_str()), (36, "0:57"));
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!(mount.source, Path::new("/data/x,y.zarr"));
        assert_eq!(mount.owner(), Some(1000));
        assert!(mount.is_ours());
    }

    #[test]
    fn a_line_that_is_cut_short_is_passed_over() {
        assert_eq!(parse(b"36 35 0:57 / /mnt rw"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn within_means_whole_components() {
        assert!(is_within(Path::new("/a/b/c"), Path::new("/a/b")));
        assert!(is_within(Path::new("/a/b"), Path::new("/a/b")));
        assert!(!is_within(Path::new("/a/bc"), Path::new("/a/b")));
        assert!(is_within(Path::new("/a"), Path::new("/")));
    }
}
