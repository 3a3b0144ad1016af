//! `--bind HOST[:GUEST][:ro]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A tree of the host to show inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Directory or file of the host, absolute.
    pub host: PathBuf,
    /// Absolute path in the guest, without `.`, `..` or double slashes.
    pub guest: Vec<u8>,
    /// Read-only.
    pub read_only: bool,
}

/// Parses the value of `--bind`. A relative `HOST` is taken from `cwd`.
pub fn parse(text: &OsStr, cwd: &Path) -> Result<Spec, String> {
    let mut parts: Vec<&[u8]> = text.as_bytes().split(|&b| b == b':').collect();
    let mode = match parts.last() {
        Some(&b"ro") if parts.len() > 1 => Some(true),
        Some(&b"rw") if parts.len() > 1 => Some(false),
        _ => None,
    };
    if mode.is_some() {
        parts.pop();
    }
    let (host, guest) = match parts[..] {
        [host] => (host, None),
        [host, guest] => (host, Some(guest)),
        _ => return Err("expected HOST[:GUEST][:ro]".into()),
    };
    if host.is_empty() {
        return Err("expected a host directory before the colon".into());
    }
    let host = cwd.join(OsStr::from_bytes(host));
    let guest = match guest {
        Some(g) => normal(g)?,
        None => normal(host.as_os_str().as_bytes())?,
    };
    if guest == b"/" {
        return Err("the guest's root is given with --root".into());
    }
    Ok(Spec {
        host,
        guest,
        read_only: mode.unwrap_or(false),
    })
}

/// An absolute path without `.`, double or trailing slashes. `..` is refused: where
/// it leads depends on symbolic links in the guest.
pub fn normal(path: &[u8]) -> Result<Vec<u8>, String> {
    let shown = || String::from_utf8_lossy(path);
    if path.first() != Some(&b'/') {
        return Err(format!("'{}' is not an absolute path", shown()));
    }
    let mut out = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(format!("'{}' contains '..'", shown())),
            n => {
                out.push(b'/');
                out.extend_from_slice(n);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(s: &str) -> Result<Spec, String> {
        parse(OsStr::new(s), Path::new("/home/me"))
    }

    fn spec(host: &str, guest: &str, read_only: bool) -> Result<Spec, String> {
        Ok(Spec {
            host: host.into(),
            guest: guest.as_bytes().to_vec(),
            read_only,
        })
    }

    #[test]
    fn forms() {
        assert_eq!(p("/srv"), spec("/srv", "/srv", false));
        assert_eq!(p("/srv:ro"), spec("/srv", "/srv", true));
        assert_eq!(p("/srv:/data"), spec("/srv", "/data", false));
        assert_eq!(p("/srv:/data:ro"), spec("/srv", "/data", true));
        assert_eq!(p("/srv:/data:rw"), spec("/srv", "/data", false));
        assert_eq!(p("src"), spec("/home/me/src", "/home/me/src", false));
        assert_eq!(p("src:/s//x/./"), spec("/home/me/src", "/s/x", false));
        assert_eq!(p("ro"), spec("/home/me/ro", "/home/me/ro", false));
    }

    #[test]
    fn mistakes() {
        for bad in [
            "", ":/x", "/a:", "/a:b", "/a:/b:/c", "/a:/../b", "/a:/", "/:ro", "/a:/b:rx",
        ] {
            assert!(p(bad).is_err(), "{bad}");
        }
    }
}
