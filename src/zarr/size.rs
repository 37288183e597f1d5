//! Sizes in bytes as people write and read them.

/// A size as given on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// This many bytes.
    Bytes(u64),
    /// This part of the whole, 0 to 100.
    Percent(f64),
}

/// Reads `4MiB`, `512M`, `2GiB`, `1e6`, `25%`. `K`, `M`, `G`, `T` count in 1024s with or without `i` and `B`,
/// as in most memory flags; `kB`, `MB`, `GB` do too, since nobody means the difference.
///
/// # Errors
/// One line with the accepted spellings.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let error = || format!("{text:?} is not a size; write for example 4MiB, 512M, 2GiB or 25%");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| error())?;
    if !number.is_finite() || number < 0.0 {
        return Err(error());
    }
    let power = match unit.to_ascii_lowercase().as_str() {
        "%" if number <= 100.0 => return Ok(Size::Percent(number)),
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(error()),
    };
    let bytes = number * 1024f64.powi(power);
    // Sizes beyond 2^63 bytes cannot be meant.
    if bytes >= 9.2e18 { Err(error()) } else { Ok(Size::Bytes(bytes as u64)) }
}

/// `bytes` for people: `373 GiB`, `3.3 MiB`, `17 B`.
pub fn format_bytes(bytes: u128) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit > 0 && value < 9.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("4MiB", Size::Bytes(4 << 20)),
            ("512M", Size::Bytes(512 << 20)),
            ("2GiB", Size::Bytes(2 << 30)),
            ("1.5k", Size::Bytes(1536)),
            (" 17 ", Size::Bytes(17)),
            ("3 TB", Size::Bytes(3 << 40)),
            ("25%", Size::Percent(25.0)),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "-1M", "4 parsec", "101%", "1e30", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written() {
        for (bytes, expected) in [
            (17, "17 B"),
            (3_471_552, "3.3 MiB"),
            (400_465_612_800, "373 GiB"),
            (1 << 31, "2.0 GiB"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
        ] {
            assert_eq!(format_bytes(bytes), expected);
        }
    }
}
