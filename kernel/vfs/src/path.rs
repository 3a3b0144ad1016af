//! [`Path`]: a place in the tree of mounts.

/// A dentry on a mount.
#[derive(Clone)]
pub struct Path {
    _private: (),
}
