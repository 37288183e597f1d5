//! Where a store is: in a directory, in the objects below a URL, or in an archive.

use super::bounds::Bounds;
use super::objects::{Objects, is_archive};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store that is read.
#[derive(Debug, Clone)]
pub enum Store {
    /// A directory.
    Disk {
        /// Where it is.
        root: Arc<Path>,
        /// What of all that its paths lead to may be read.
        bounds: Bounds,
    },
    /// Objects below a URL, or in an archive.
    Objects(Arc<Objects>),
}

/// An option of an object store that was given by hand: its name and value.
pub type StorageOption = (String, String);

impl Store {
    /// Whether a source is spelled as a URL, and not as a path.
    pub fn is_url(source: &Path) -> bool {
        let scheme = source.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| {
            scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        })
    }

    /// The store at a path or URL. Asks nothing of a server.
    ///
    /// # Errors
    /// Where a URL or an option makes no sense.
    pub fn open(source: &Path, options: &[StorageOption]) -> io::Result<Self> {
        match source.to_str().filter(|_| Self::is_url(source)) {
            Some(url) => Ok(Store::Objects(Arc::new(Objects::open(url, options)?))),
            None if is_archive(source) => Ok(Store::Objects(Arc::new(Objects::archive(source)?))),
            None => Ok(source.into()),
        }
    }

    /// Its path or URL, for people.
    pub fn name(&self) -> PathBuf {
        match self {
            Store::Disk { root, .. } => root.to_path_buf(),
            Store::Objects(objects) => objects.name().into(),
        }
    }

    /// Where a key lies: on the host, or among the objects.
    pub fn path(&self, key: &str) -> PathBuf {
        match self {
            Store::Disk { root, .. } if key.is_empty() => root.to_path_buf(),
            Store::Disk { root, .. } => root.join(key),
            Store::Objects(_) => key.into(),
        }
    }

    /// The same for people: of objects, the URL.
    pub fn full_name(&self, key: &str) -> PathBuf {
        match self {
            Store::Disk { .. } => self.path(key),
            Store::Objects(objects) => objects.url(key).into(),
        }
    }

    /// The objects, where it is not on disk.
    pub fn objects(&self) -> Option<&Arc<Objects>> {
        match self {
            Store::Disk { .. } => None,
            Store::Objects(objects) => Some(objects),
        }
    }

    /// Whether each answer takes a while.
    pub fn is_remote(&self) -> bool {
        self.objects().is_some_and(|objects| objects.is_remote())
    }

    /// The same, of which nothing is read that a link leads to elsewhere; its root is canonical. Objects have no links.
    pub fn confined(mut self) -> Self {
        if let Store::Disk { root, bounds } = &mut self {
            *bounds = Bounds::within(root);
        }
        self
    }

    /// Whether links that lead elsewhere are not followed.
    pub fn is_confined(&self) -> bool {
        matches!(self, Store::Disk { bounds, .. } if bounds.are_set())
    }

    /// Looks whether something that was opened may be read.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] where a link has led out of a confined store.
    pub fn check(&self, opened: impl AsFd) -> io::Result<()> {
        match self {
            Store::Disk { bounds, .. } => bounds.check(opened),
            Store::Objects(_) => Ok(()),
        }
    }
}

impl From<&Path> for Store {
    fn from(root: &Path) -> Self {
        Store::Disk { root: root.into(), bounds: Bounds::default() }
    }
}

impl From<&PathBuf> for Store {
    fn from(root: &PathBuf) -> Self {
        root.as_path().into()
    }
}

impl From<&Store> for Store {
    fn from(store: &Store) -> Self {
        store.clone()
    }
}
