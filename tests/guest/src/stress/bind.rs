//! Writes to a directory of the host in all ways: `bind DIR`; the test looks from outside.

use crate::prelude::*;

fn create(path: &str) -> i32 {
    open_mode(path, O_CREAT | O_RDWR, 0o644).fd()
}

pub fn main(args: &[String]) -> i32 {
    let dir = args.first().map_or(".", |s| s.as_str());
    let at = |name: &str| format!("{dir}/{name}");
    let a = create(&at("fsync"));
    write(a, b"by fsync");
    sys!(fsync(a)).v();
    write(create(&at("sync")), b"by sync");
    unsafe { sync() };
    let c = create(&at("mapped"));
    sys!(ftruncate(c, 4096)).v();
    let shared = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        c,
        0
    ))
    .v() as *mut u8;
    let store = |text: &[u8; 5]| unsafe { shared.cast::<[u8; 5]>().write_volatile(*text) };
    store(b"msync");
    sys!(msync(shared.cast(), 4096, MS_SYNC)).v();
    close(create(&at("ready")));

    // Nothing is closed, nothing is asked for: in time it gets there.
    store(b"later");
    write(create(&at("open")), b"by time");
    close(create(&at("written")));
    for _ in 0..1000 {
        if stat(&at("go")).is_some() {
            break;
        }
        ms(50);
    }
    store(b"ended");
    0
}
