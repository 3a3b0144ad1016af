//! Filters of host calls as classic BPF, from a table of rows; seccomp(2).
//!
//! A row is a call and the forms of its arguments that are known. Tests look at the lower half
//! of an argument: the host takes descriptors, flags and numbers of processes as `int`.
//! A form without tests fits whatever the arguments: calls that pass so the host remembers
//! and lets through without running the filter.

use libc::{c_long, sock_filter};

/// A test of one argument (0 to 5).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    /// Its lower half is this.
    Is(u32, u32),
    /// These bits of its lower half have this value.
    Bits(u32, u32, u32),
    /// Its lower half is less than this.
    Below(u32, u32),
    /// Its upper half is less than this.
    HighBelow(u32, u32),
    /// All of it is 0.
    Zero(u32),
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It is made.
    Allow,
    /// It fails with this error.
    Fail(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// The process dies.
    Kill,
}

/// A call and its forms. The first form whose tests all hold gives the answer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) nr: c_long,
    pub(crate) forms: Vec<(Vec<Test>, Answer)>,
}

const LOAD: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JA: u16 = 0x05;
const AND: u16 = 0x54;
const RET: u16 = 0x06;
/// Rows that are not worth another comparison to part them.
const LEAF: usize = 3;
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
/// `AUDIT_ARCH_X86_64`.
const ARCH_X86_64: u32 = 0xc000_003e;

impl Answer {
    fn code(self) -> u32 {
        match self {
            Answer::Allow => libc::SECCOMP_RET_ALLOW,
            Answer::Fail(e) => libc::SECCOMP_RET_ERRNO | u32::from(e),
            Answer::Trap => libc::SECCOMP_RET_TRAP,
            Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn answer(a: Answer) -> sock_filter {
    insn(RET, 0, 0, a.code())
}

/// The filter that gives each call its row's answer, and `otherwise` to calls without one.
/// Foreign instruction sets are killed. A number has at most one row.
pub(crate) fn program(rows: &[Row], otherwise: Answer) -> Vec<sock_filter> {
    let mut p = vec![
        insn(LOAD, 0, 0, ARCH),
        insn(JEQ, 1, 0, ARCH_X86_64),
        answer(Answer::Kill),
        insn(LOAD, 0, 0, NR),
    ];
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|r| r.nr);
    p.extend(tree(&rows, otherwise));
    p
}

/// Searches the rows, which are sorted by number. The host carries a filter out for every
/// call there is when it is installed.
fn tree(rows: &[&Row], otherwise: Answer) -> Vec<sock_filter> {
    if rows.len() <= LEAF {
        let mut p: Vec<_> = rows.iter().flat_map(|r| one(r, otherwise)).collect();
        p.push(answer(otherwise));
        return p;
    }
    let (low, high) = rows.split_at(rows.len() / 2);
    let from = high[0].nr as u32;
    let (low, high) = (tree(low, otherwise), tree(high, otherwise));
    let mut p = match u8::try_from(low.len()) {
        Ok(n) => vec![insn(JGE, n, 0, from)],
        Err(_) => vec![insn(JGE, 0, 1, from), insn(JA, 0, 0, low.len() as u32)],
    };
    p.extend(low);
    p.extend(high);
    p
}

fn one(r: &Row, otherwise: Answer) -> Vec<sock_filter> {
    let forms = r.forms.iter().flat_map(|(tests, a)| form(tests, *a));
    let mut body: Vec<_> = forms.collect();
    if r.forms.last().is_none_or(|(tests, _)| !tests.is_empty()) {
        body.push(answer(otherwise));
    }
    let len = u8::try_from(body.len()).expect("a row of few forms");
    let mut p = vec![insn(JEQ, 0, len, r.nr as u32)];
    p.extend(body);
    p
}

/// Gives the answer if all tests hold, else goes on behind.
fn form(tests: &[Test], then: Answer) -> Vec<sock_filter> {
    let mut p = Vec::new();
    // Jumps to the end: instruction, and whether it is the jump if the test holds.
    let mut out = Vec::new();
    let half = |arg: u32, high: u32| insn(LOAD, 0, 0, ARGS + 8 * arg + 4 * high);
    for t in tests {
        match *t {
            Test::Is(arg, k) => {
                p.extend([half(arg, 0), insn(JEQ, 0, 0, k)]);
                out.push((p.len() - 1, false));
            }
            Test::Bits(arg, mask, k) => {
                p.extend([half(arg, 0), insn(AND, 0, 0, mask), insn(JEQ, 0, 0, k)]);
                out.push((p.len() - 1, false));
            }
            Test::Below(arg, k) => {
                p.extend([half(arg, 0), insn(JGE, 0, 0, k)]);
                out.push((p.len() - 1, true));
            }
            Test::HighBelow(arg, k) => {
                p.extend([half(arg, 1), insn(JGE, 0, 0, k)]);
                out.push((p.len() - 1, true));
            }
            Test::Zero(arg) => {
                for high in [0, 1] {
                    p.extend([half(arg, high), insn(JEQ, 0, 0, 0)]);
                    out.push((p.len() - 1, false));
                }
            }
        }
    }
    p.push(answer(then));
    let end = p.len();
    for (at, holds) in out {
        let n = u8::try_from(end - at - 1).expect("a form of few tests");
        match holds {
            true => p[at].jt = n,
            false => p[at].jf = n,
        }
    }
    p
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What the host makes of a call: the filter, carried out.
    pub(crate) fn carry_out(p: &[sock_filter], arch: u32, nr: c_long, args: [u64; 6]) -> u32 {
        let mut data = [0u32; 16];
        (data[0], data[1]) = (nr as u32, arch);
        for (i, a) in args.into_iter().enumerate() {
            (data[4 + 2 * i], data[5 + 2 * i]) = (a as u32, (a >> 32) as u32);
        }
        let (mut at, mut a) = (0, 0);
        loop {
            let i = p[at];
            at += 1;
            let jump = |holds| usize::from(if holds { i.jt } else { i.jf });
            match i.code {
                LOAD => a = data[i.k as usize / 4],
                AND => a &= i.k,
                JEQ => at += jump(a == i.k),
                JGE => at += jump(a >= i.k),
                JA => at += i.k as usize,
                RET => return i.k,
                c => panic!("instruction {c:#x}"),
            }
        }
    }

    #[test]
    fn rows_and_forms() {
        use Answer::{Allow, Fail, Kill, Trap};
        let row = |nr, forms| Row { nr, forms };
        let rows = [
            row(5, vec![(vec![], Allow)]),
            row(
                6,
                vec![
                    (vec![Test::Is(0, 3), Test::Bits(1, 0xf, 2)], Allow),
                    (vec![Test::Below(0, 2), Test::Zero(5)], Allow),
                    (vec![Test::Is(0, 9)], Fail(22)),
                ],
            ),
            row(7, vec![(vec![], Fail(38))]),
        ];
        let p = program(&rows, Trap);
        let on = |nr, args| carry_out(&p, ARCH_X86_64, nr, args);
        let is = |nr, args, a: Answer| assert_eq!(on(nr, args), a.code(), "{nr} {args:?}");
        is(5, [9; 6], Allow);
        is(7, [0; 6], Fail(38));
        is(8, [0; 6], Trap);
        is(6, [3, 0x52, 0, 0, 0, 1], Allow);
        is(6, [3 | 1 << 32, 2, 0, 0, 0, 1], Allow);
        is(6, [3, 1, 0, 0, 0, 0], Trap);
        is(6, [1, 0, 0, 0, 0, 0], Allow);
        is(6, [2, 0, 0, 0, 0, 0], Trap);
        is(6, [9, 0, 0, 0, 0, 0], Fail(22));
        is(6, [1, 0, 0, 0, 0, 1 << 32], Trap);
        is(5 + 0x4000_0000, [0; 6], Trap);
        assert_eq!(carry_out(&p, 0x4000_0003, 5, [0; 6]), Kill.code());
    }
}
