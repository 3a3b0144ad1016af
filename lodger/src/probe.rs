//! For tests: what someone could do to the host who has taken the kernel over.
//!
//! `--confine-probe` takes host calls, which are made from inside the confined kernel
//! process right before the guest's first instruction; nothing is loosened after that. A
//! call is its number and up to six arguments, separated by blanks: numbers,
//! `'text'` for a pointer to it, `@N` for the descriptor of host tree N (0 is the root),
//! `$pid` for this process. Calls are separated by semicolons. Results go to standard error.
//! The call `abort` ends the process as the standard library does when memory runs out.

use crate::cli::fail;
use host_os::dir::HostTree;
use host_sys::raw::syscall6;
use std::ffi::CString;

/// One argument, alive as long as the call.
enum Arg {
    Number(usize),
    Text(CString),
}

/// Makes the calls and prints their results, those on a thread of its own too.
pub fn run(attack: &str, trees: &[&'static HostTree]) {
    for call in attack.split(';') {
        let (call, on_thread) = match call.trim().strip_prefix("thread ") {
            Some(c) => (c, true),
            None => (call.trim(), false),
        };
        if call == "abort" {
            std::process::abort();
        }
        let args: Option<Vec<Arg>> = words(call).iter().map(|w| arg(w, trees)).collect();
        let Some(args) = args.filter(|a| (1..=7).contains(&a.len())) else {
            fail(&format!("--confine-probe: not a call: {call}"));
        };
        let result = match on_thread {
            true => std::thread::spawn(move || make(&args)).join().unwrap_or(0),
            false => make(&args),
        };
        host_os::log::plain(&format!("probe: {call}: {result}"));
    }
}

/// Splits at blanks that are not in quotes.
fn words(call: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for c in call.chars() {
        quoted ^= c == '\'';
        match all.last_mut() {
            Some(w) if quoted || c != ' ' => w.push(c),
            _ => all.push(String::new()),
        }
    }
    all.retain(|w| !w.is_empty());
    all
}

fn arg(word: &str, trees: &[&'static HostTree]) -> Option<Arg> {
    if let Some(text) = word.strip_prefix('\'') {
        return CString::new(text.trim_end_matches('\''))
            .ok()
            .map(Arg::Text);
    }
    if let Some(n) = word.strip_prefix('@') {
        let tree = trees.get(n.parse::<usize>().ok()?)?;
        return Some(Arg::Number(tree.top() as usize));
    }
    if word == "$pid" {
        return Some(Arg::Number(std::process::id() as usize));
    }
    let number = match word.strip_prefix("0x") {
        Some(h) => usize::from_str_radix(h, 16).ok(),
        None => word.parse::<isize>().ok().map(|n| n as usize),
    };
    number.map(Arg::Number)
}

fn make(args: &[Arg]) -> isize {
    let word = |i: usize| match args.get(i) {
        Some(Arg::Number(n)) => *n,
        Some(Arg::Text(t)) => t.as_ptr().expose_provenance(),
        None => 0,
    };
    let (nr, at) = (word(0) as libc::c_long, word);
    // SAFETY: none can be given: that is the point. Only tests ask for it.
    unsafe { syscall6(nr, at(1), at(2), at(3), at(4), at(5), at(6)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_blanks_do_not_split() {
        assert_eq!(words("257 -100  'a b' 0"), ["257", "-100", "'a b'", "0"]);
        assert!(matches!(arg("-1", &[]), Some(Arg::Number(usize::MAX))));
        assert!(matches!(arg("0x10", &[]), Some(Arg::Number(16))));
        assert!(arg("@0", &[]).is_none() && arg("x", &[]).is_none());
    }
}
