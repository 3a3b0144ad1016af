//! Paths inside a tree: only plain names, so that no call can leave it.

use abi::Errno;
use core::ffi::CStr;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes without the NUL.
pub const PATH_MAX: usize = 4095;

/// A file name with its NUL, on the stack.
pub struct Name {
    buf: [u8; NAME_MAX + 1],
    len: usize,
}

impl Name {
    /// A name that [`check`] or [`split`] has accepted, or the empty name.
    /// [`Errno::ENAMETOOLONG`], [`Errno::EINVAL`] (NUL).
    pub fn new(name: &[u8]) -> Result<Name, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if name.contains(&0) {
            return Err(Errno::EINVAL);
        }
        let mut buf = [0; NAME_MAX + 1];
        buf[..name.len()].copy_from_slice(name);
        Ok(Name {
            buf,
            len: name.len(),
        })
    }
    /// For a call.
    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.buf[..=self.len]).unwrap_or(c"")
    }
}

/// Refuses everything but plain names joined by single slashes. The empty path is fine.
/// [`Errno::ENAMETOOLONG`]; [`Errno::EXDEV`] for `..`; [`Errno::EINVAL`] for
/// empty names, `.`, a leading or trailing slash, a NUL.
pub fn check(path: &[u8]) -> Result<(), Errno> {
    if path.len() > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.is_empty() {
        return Ok(());
    }
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => return Err(Errno::EINVAL),
            b".." => return Err(Errno::EXDEV),
            n if n.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            n if n.contains(&0) => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    Ok(())
}

/// Checks a path and splits it into directory and last name; both empty for the root.
pub fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    check(path)?;
    Ok(match path.iter().rposition(|&b| b == b'/') {
        Some(n) => (&path[..n], &path[n + 1..]),
        None => (b"", path),
    })
}

/// Whether `path` is `top` or lies below it.
pub fn is_under(path: &[u8], top: &[u8]) -> bool {
    path.starts_with(top) && (top.is_empty() || path.len() == top.len() || path[top.len()] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in [&b""[..], b"a", b"a/b", b"...", b"a/..b/c..", b"\xff\xfe"] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for (bad, e) in [
            (&b".."[..], Errno::EXDEV),
            (b"a/../b", Errno::EXDEV),
            (b"a/..", Errno::EXDEV),
            (b"/etc", Errno::EINVAL),
            (b"a/", Errno::EINVAL),
            (b"a//b", Errno::EINVAL),
            (b"./a", Errno::EINVAL),
            (b"a\0b", Errno::EINVAL),
        ] {
            assert_eq!(check(bad), Err(e), "{bad:?}");
        }
        assert_eq!(check(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert_eq!(check(&[b'a'; 255]), Ok(()));
        let long = b"abc/".repeat(1024);
        assert_eq!(check(&long[..4095]), Ok(()));
        assert_eq!(check(&[&long[..], b"x"].concat()), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn splits_at_the_last_slash() {
        assert_eq!(split(b"a/b/c"), Ok((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"c"), Ok((&b""[..], &b"c"[..])));
        assert_eq!(split(b""), Ok((&b""[..], &b""[..])));
    }

    #[test]
    fn under_means_whole_names() {
        assert!(is_under(b"a/b", b"a"));
        assert!(is_under(b"a", b"a"));
        assert!(!is_under(b"ab", b"a"));
        assert!(is_under(b"x", b""));
    }
}
