//! The first line of interpreter scripts, execve(2).

use abi::{Errno, Result};
use alloc::vec::Vec;

/// Bytes of a file that are looked at.
pub(crate) const HEAD: usize = 256;
/// Bytes of a script's first line that count, with its end.
const LINE: usize = HEAD - 1;

/// Interpreter and its one optional argument, if `head` starts with `#!`.
pub(crate) fn parse(head: &[u8]) -> Option<Result<(Vec<u8>, Option<Vec<u8>>)>> {
    let head = head.get(..head.len().min(LINE)).unwrap_or(head);
    let rest = head.strip_prefix(b"#!")?;
    Some(line(rest, head.len() >= LINE))
}

fn blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn trim(mut s: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = s
        && blank(*first)
    {
        s = rest;
    }
    while let [rest @ .., last] = s
        && blank(*last)
    {
        s = rest;
    }
    s
}

fn line(rest: &[u8], cut: bool) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let end = rest.iter().position(|b| *b == b'\n' || *b == 0);
    let whole = end.is_some() || !cut;
    let text = trim(rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest));
    let name_end = text.iter().position(|b| blank(*b));
    // A path that may have been cut off is none.
    if text.is_empty() || name_end.is_none() && !whole {
        return Err(Errno::ENOEXEC);
    }
    let (name, arg) = text.split_at(name_end.unwrap_or(text.len()));
    let arg = trim(arg);
    Ok((name.to_vec(), (!arg.is_empty()).then(|| arg.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn lines() {
        let ok = |s: &[u8]| parse(s).unwrap().unwrap();
        assert_eq!(ok(b"#!/bin/sh\necho"), (b"/bin/sh".to_vec(), None));
        assert_eq!(
            ok(b"#! \t/usr/bin/env  -S a b \t\n"),
            (b"/usr/bin/env".to_vec(), Some(b"-S a b".to_vec()))
        );
        assert_eq!(ok(b"#!/bin/sh"), (b"/bin/sh".to_vec(), None));
        assert!(parse(b"#").is_none());
        assert_eq!(parse(b"#!\n").unwrap(), Err(Errno::ENOEXEC));
        assert_eq!(parse(b"#!  \t \nx").unwrap(), Err(Errno::ENOEXEC));
        let mut long = vec![b'a'; HEAD];
        long[0] = b'#';
        long[1] = b'!';
        assert_eq!(parse(&long).unwrap(), Err(Errno::ENOEXEC));
        long[100] = b' ';
        assert!(parse(&long).unwrap().is_ok());
    }
}
