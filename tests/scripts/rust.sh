# A small crate: compiler, linker, tests.
export CARGO_NET_OFFLINE=true CARGO_TERM_COLOR=never
mkdir -p c/src; cd c
printf '[package]\nname = "c"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
cat > src/main.rs <<'R'
use std::sync::{mpsc, Arc, Mutex};
fn work(n: u64) -> u64 { (0..n).map(|i| i * i % 7).sum() }
fn main() {
    let (tx, rx) = mpsc::channel();
    let total = Arc::new(Mutex::new(0));
    let ts: Vec<_> = (1..=4).map(|i| { let (tx, total) = (tx.clone(), total.clone());
        std::thread::spawn(move || { let w = work(i * 100_000); *total.lock().unwrap() += w; tx.send(i).unwrap(); }) }).collect();
    drop(tx); let sum: u64 = rx.iter().sum(); for t in ts { t.join().unwrap(); }
    println!("{sum} {}", total.lock().unwrap());
    let r = std::panic::catch_unwind(|| { let v: Vec<i32> = vec![]; v[work(3) as usize + 1] }); println!("{}", r.is_err());
}
#[test] fn works() { assert_eq!(work(3), 5); }
#[test] fn starts_programs() { assert!(std::process::Command::new("true").status().unwrap().success()); }
R
cargo build -q 2>&1; ./target/debug/c 2> /dev/null; cargo test -q 2>&1 | grep -c 'test result: ok'
rustc -O -o direct src/main.rs && ./direct 2> /dev/null; cd ..; rm -rf c
