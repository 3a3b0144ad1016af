//! The support page `docs/syscalls.md`, made from the table.

use crate::table::{Support, UNASSIGNED, rows};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// The text of the page.
pub fn page() -> String {
    let mut all: Vec<_> = rows().collect();
    all.sort_by_key(|r| r.nr);
    let count = |f: fn(&Support) -> bool| all.iter().filter(|r| f(&r.support)).count();
    let full = count(|s| matches!(s, Support::Full));
    let partial = count(|s| matches!(s, Support::Partial(_)));
    let absent = count(|s| matches!(s, Support::Absent(..)));
    let mut out = String::new();
    // A String takes everything.
    let _ = write!(
        out,
        "# System calls\n\n\
         Made from the table in `kernel/syscall/src/table.rs`; a test keeps it fresh.\n\n\
         Of the numbers of x86-64 Linux, {full} calls are there as their man pages say, {partial} with something\n\
         missing, and {absent} are left out on purpose. {} to {} are nobody's.\n\
         A number that is not listed gives ENOSYS and one line in the log.\n\n\
         | number | call | support | note |\n|---:|---|---|---|\n",
        UNASSIGNED.start,
        UNASSIGNED.end - 1
    );
    for r in all {
        let args: Vec<_> = r.args.iter().map(|a| a.name).collect();
        let call = if matches!(r.support, Support::Absent(..)) {
            String::from(r.name)
        } else {
            alloc::format!("{}({})", r.name, args.join(", "))
        };
        let _ = match r.support {
            Support::Full => writeln!(out, "| {} | `{call}` | full | |", r.nr),
            Support::Partial(why) => writeln!(out, "| {} | `{call}` | partial | {why} |", r.nr),
            Support::Absent(e, why) => {
                writeln!(out, "| {} | `{call}` | {} | {why} |", r.nr, e.name())
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    /// `UPDATE_EXPECT=1 cargo test -p lodger-syscall` writes the page anew.
    #[test]
    fn page_is_fresh() {
        expect_file!["../../../docs/syscalls.md"].assert_eq(&super::page());
    }
}
