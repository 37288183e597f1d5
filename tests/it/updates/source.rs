//! A source that changes, on disk and in memory: leaves that are written and go, axes that become longer and shorter, other
//! arrays, files and attributes.

use crate::reference::Case;
use crate::stores::{Codec, Model, positions, ravel};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What happens to the source.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A leaf of array `a` is written, or written again.
    Write { leaf: u16, value: u8 },
    /// A leaf goes.
    Delete { leaf: u16 },
    /// An axis becomes shorter or longer; what lies beyond is deleted, or left lying.
    Resize { axis: u8, len: u8, deletes: bool },
    /// The column that passes through is written again.
    Column { value: u8 },
    /// A readme comes, changes or goes.
    Readme { text: Option<u8> },
    /// The attribute of the root changes.
    Attribute { value: u8 },
    /// Another array comes, with other elements perhaps, or goes.
    Other { item_bytes: Option<u8> },
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<(u16, u8)>().prop_map(|(leaf, value)| Event::Write { leaf, value }),
        2 => any::<u16>().prop_map(|leaf| Event::Delete { leaf }),
        4 => (any::<u8>(), 0u8..16, any::<bool>()).prop_map(|(axis, len, deletes)| Event::Resize { axis, len, deletes }),
        1 => any::<u8>().prop_map(|value| Event::Column { value }),
        1 => any::<Option<u8>>().prop_map(|text| Event::Readme { text }),
        1 => any::<u8>().prop_map(|value| Event::Attribute { value }),
        1 => prop::option::of(prop::sample::select(vec![1u8, 4])).prop_map(|item_bytes| Event::Other { item_bytes }),
    ]
}

/// Longest axis of array `a`.
const LONGEST: u64 = 16;

/// The source, on disk and in memory.
pub(crate) struct Source {
    pub(crate) root: PathBuf,
    /// Of the largest shape that it may get: what lies beyond its shape is there, too, if it was not deleted.
    all: Model,
    /// Leaves that exist, by position among those of `all`.
    leaves: BTreeSet<u64>,
    shape: Vec<u64>,
    column: u8,
    readme: Option<u8>,
    attribute: u8,
    other: Option<u8>,
}

impl Source {
    pub(crate) fn new(root: &Path, case: &Case) -> Self {
        let mut all = case.model.clone();
        all.shape = all.shape.iter().zip(&all.file_shape).map(|(_, file)| LONGEST.next_multiple_of(*file)).collect();
        let n_bytes = all.padded_shape().iter().product::<u64>() as usize * all.item_bytes;
        all.data = (0..n_bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        let mut source = Source {
            root: root.to_owned(),
            leaves: BTreeSet::new(),
            shape: case.model.shape.clone(),
            all,
            column: 0,
            readme: None,
            attribute: 0,
            other: None,
        };
        std::fs::create_dir(root).unwrap();
        let grid = case.model.leaf_grid();
        let there = positions(&grid).filter(|leaf| !case.model.leaf_is_missing(leaf));
        source.leaves = there.map(|leaf| ravel(&leaf, &source.all.leaf_grid())).collect();
        source.write_documents();
        for file in positions(&case.model.file_grid()) {
            source.write_file(&file);
        }
        source.happen(&Event::Column { value: 7 });
        source
    }

    /// Of the shape that it has, with what is there of it.
    fn model(&self) -> Model {
        let grid = self.all.leaf_grid();
        let missing = positions(&grid).map(|leaf| ravel(&leaf, &grid)).filter(|leaf| !self.leaves.contains(leaf));
        Model { missing: missing.collect(), ..self.all.clone() }
    }

    fn folder(&self) -> PathBuf {
        self.root.join("a")
    }

    /// As writers do it: into another file, then by rename; or none, where no leaf of it is left.
    fn write_file(&self, file: &[u64]) {
        let (model, fresh) = (self.model(), self.root.join("fresh.partial"));
        model.write_one(&fresh, file);
        let (from, to) = (fresh.join(model.key(file)), self.folder().join(model.key(file)));
        if from.exists() {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::rename(from, to).unwrap();
        } else if to.exists() {
            std::fs::remove_file(to).unwrap();
        }
        if fresh.exists() {
            std::fs::remove_dir_all(fresh).unwrap();
        }
    }

    fn write_documents(&self) {
        let put = |path: &str, text: String| {
            let folder = self.root.join(path);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("zarr.json"), text).unwrap();
        };
        let group =
            |attributes: String| format!(r#"{{"zarr_format":3,"node_type":"group","attributes":{{{attributes}}}}}"#);
        put("", group(format!(r#""night":{}"#, self.attribute)));
        put("a", Model { shape: self.shape.clone(), ..self.all.clone() }.document());
        put("column", self.plain(1).document());
        match self.other {
            Some(item_bytes) => {
                put("g", group(String::new()));
                put("g/other", self.plain_like(usize::from(item_bytes)).document());
            }
            None if self.root.join("g").exists() => std::fs::remove_dir_all(self.root.join("g")).unwrap(),
            None => {}
        }
    }

    /// A column of three rows in two chunks.
    fn plain(&self, item_bytes: usize) -> Model {
        Model {
            shape: vec![3],
            file_shape: vec![2],
            inner_shape: None,
            order: vec![0],
            codec: Codec::Raw,
            item_bytes,
            fill: vec![0; item_bytes],
            key_encoding: self.all.key_encoding,
            data: vec![self.column; 4 * item_bytes],
            missing: Vec::new(),
        }
    }

    /// An array with as many axes as `a`.
    fn plain_like(&self, item_bytes: usize) -> Model {
        let rank = self.shape.len();
        Model {
            shape: vec![3; rank],
            file_shape: vec![2; rank],
            order: (0..rank).collect(),
            data: vec![9; 4usize.pow(rank as u32) * item_bytes],
            ..self.plain(item_bytes)
        }
    }

    pub(crate) fn happen(&mut self, event: &Event) {
        let n_leaves: u64 = self.all.leaf_grid().iter().product();
        match *event {
            Event::Write { leaf, value } => {
                let leaf = u64::from(leaf) % n_leaves;
                self.leaves.insert(leaf);
                let (grid, shape, padded) =
                    (self.all.leaf_grid(), self.all.leaf_shape().to_vec(), self.all.padded_shape());
                let first = positions(&grid).nth(leaf as usize).unwrap();
                for within in positions(&shape) {
                    let at: Vec<u64> = (0..first.len()).map(|a| first[a] * shape[a] + within[a]).collect();
                    let from = ravel(&at, &padded) as usize * self.all.item_bytes;
                    let item = &mut self.all.data[from..from + self.all.item_bytes];
                    item.iter_mut()
                        .enumerate()
                        .for_each(|(nth, byte)| *byte = value.wrapping_add((nth as u64 + within[0]) as u8));
                }
                self.write_file(&self.file_of(&first));
            }
            Event::Delete { leaf } => {
                let leaf = u64::from(leaf) % n_leaves;
                self.leaves.remove(&leaf);
                let first = positions(&self.all.leaf_grid()).nth(leaf as usize).unwrap();
                self.write_file(&self.file_of(&first));
            }
            Event::Resize { axis, len, deletes } => {
                let axis = usize::from(axis) % self.shape.len();
                self.shape[axis] = u64::from(len);
                if deletes {
                    let beyond = u64::from(len).div_ceil(self.all.file_shape[axis]);
                    let grid = self.all.leaf_grid();
                    for leaf in positions(&grid).collect::<Vec<_>>() {
                        let file = self.file_of(&leaf);
                        if file[axis] >= beyond && self.leaves.remove(&ravel(&leaf, &grid)) {
                            self.write_file(&file);
                        }
                    }
                }
                self.write_documents();
            }
            Event::Column { value } => {
                self.column = value;
                self.plain(1).write(&self.root.join("column"));
            }
            Event::Readme { text } => {
                self.readme = text;
                let path = self.root.join("readme.txt");
                match text {
                    Some(text) => std::fs::write(path, [text]).unwrap(),
                    None if path.exists() => std::fs::remove_file(path).unwrap(),
                    None => {}
                }
            }
            Event::Attribute { value } => {
                self.attribute = value;
                self.write_documents();
            }
            Event::Other { item_bytes } => {
                self.other = item_bytes;
                self.write_documents();
                if let Some(item_bytes) = item_bytes {
                    self.plain_like(usize::from(item_bytes)).write(&self.root.join("g/other"));
                }
            }
        }
    }

    fn file_of(&self, leaf: &[u64]) -> Vec<u64> {
        let per_file = self.all.file_shape.iter().zip(self.all.leaf_shape()).map(|(file, leaf)| file / leaf);
        leaf.iter().zip(per_file).map(|(leaf, n)| leaf / n).collect()
    }
}
