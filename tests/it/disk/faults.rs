//! Faults: damaged records, a full disk, a source that changes.
