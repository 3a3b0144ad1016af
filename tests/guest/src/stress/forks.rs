//! Processes without end: `forks N` starts children that start children, at most N, then waits.

use crate::prelude::*;

pub fn main(args: &[String]) -> i32 {
    let n: i32 = args.first().and_then(|s| s.parse().ok()).unwrap_or(100);
    let mut made = 0;
    let g = Gate::new();
    let e = loop {
        if made >= n {
            break R(0);
        }
        let r = sys!(fork());
        if r.0 == 0 {
            // The parent's end is the gate's, too.
            close(g.1);
            g.pass();
            unsafe { _exit(0) }
        }
        if r.failed() {
            break r;
        }
        made += 1;
    };
    say!("made {made} {e}");
    for _ in 0..made {
        g.open();
    }
    while sys!(waitpid(-1, null_mut(), 0)).0 > 0 {}
    say!("done");
    0
}
