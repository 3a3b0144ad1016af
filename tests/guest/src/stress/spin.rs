pub fn main(args: &[String]) -> i32 {
    crate::common::ms(args.first().and_then(|s| s.parse().ok()).unwrap_or(1000));
    0
}
