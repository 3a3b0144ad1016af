//! Sizes as people write them: `512M`, `2G`.

/// Bytes of `text`: a whole number with an optional suffix K, M, G or T
/// (powers of 1024; `KiB`, `KB`, `k` and the like mean the same).
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.to_ascii_lowercase();
    let unit = suffix
        .strip_suffix("ib")
        .or(suffix.strip_suffix('b'))
        .unwrap_or(&suffix);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("expected a number with a suffix K, M, G or T, such as 512M".into()),
    };
    if number.is_empty() {
        return Err("expected a number with a suffix K, M, G or T, such as 512M".into());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| "the number is too large".into())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64K"), Ok(64 << 10));
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("512m"), Ok(512 << 20));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert_eq!(parse("2gb"), Ok(2 << 30));
        assert_eq!(parse("1T"), Ok(1 << 40));
    }

    #[test]
    fn not_sizes() {
        for bad in [
            "",
            "M",
            "1.5G",
            "-1",
            "12X",
            "1 G",
            "18446744073709551616",
            "17179869184G",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
