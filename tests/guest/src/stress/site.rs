//! `--tool site [keep]`: whether a call site of this program is still what the program's
//! file says after some calls. `keep`: another run of it, which shall find it so.

use core::arch::global_asm;
use std::os::unix::process::CommandExt;

global_asm!(
    ".globl lodger_guest_site",
    ".p2align 6",
    "lodger_guest_site:",
    "mov eax, 110", // getppid
    "syscall",
    "ret",
);

unsafe extern "C" {
    fn lodger_guest_site() -> i32;
}

const SITE: [u8; 8] = [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3];
/// See docs/arch/kml.md.
const PR_SET_KEEP_CODE: i32 = 0x4c44_0001;
const PR_GET_KEEP_CODE: i32 = 0x4c44_0002;

pub fn main(args: &[String]) -> i32 {
    if args.first().is_some_and(|a| a == "keep") {
        // SAFETY: plain numbers.
        let kept = unsafe { libc::prctl(PR_SET_KEEP_CODE, 1, 0, 0, 0) };
        println!("prctl {kept}");
        let this = std::env::current_exe().expect("this program");
        let e = std::process::Command::new(this)
            .args(["--tool", "site"])
            .exec();
        println!("{e}");
        return 1;
    }
    for _ in 0..20 {
        // SAFETY: a function without arguments.
        unsafe { lodger_guest_site() };
    }
    let at = (lodger_guest_site as *const ()).cast::<[u8; 8]>();
    // SAFETY: the function's own bytes; they may change, so they are read once.
    let now = unsafe { at.read_volatile() };
    let same = if now == SITE {
        "as in the file"
    } else {
        "changed"
    };
    // SAFETY: plain numbers.
    let kept = unsafe { libc::prctl(PR_GET_KEEP_CODE, 0, 0, 0, 0) };
    println!("{same}, kept {kept}");
    0
}
