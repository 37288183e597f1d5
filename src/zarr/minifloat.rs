//! Rounds doubles to the smaller binary floating-point formats, as numpy and ml_dtypes do.

/// A binary floating-point format of at most 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Bits of the whole.
    pub bits: u32,
    /// Bits of the stored mantissa.
    pub mantissa_bits: u32,
    /// Exponent bias.
    pub bias: i32,
    /// The bits of infinity, where the format has one.
    pub infinity: Option<u16>,
    /// The bits of the quiet NaN that "NaN" stands for.
    pub nan: Option<u16>,
    /// The bits of the largest finite number.
    pub largest: u16,
    /// Whether negative zero is taken by NaN.
    pub unsigned_zero: bool,
}

/// The format of a data type's components by name: `float16`, `bfloat16`, `float8_*`.
pub(super) fn format(name: &str) -> Option<Format> {
    let format = |bits, mantissa_bits, bias, infinity, nan, largest, unsigned_zero| {
        Some(Format { bits, mantissa_bits, bias, infinity, nan, largest, unsigned_zero })
    };
    match name {
        "float16" => format(16, 10, 15, Some(0x7c00), Some(0x7e00), 0x7bff, false),
        "bfloat16" => format(16, 7, 127, Some(0x7f80), Some(0x7fc0), 0x7f7f, false),
        "float8_e3m4" => format(8, 4, 3, Some(0x70), Some(0x78), 0x6f, false),
        "float8_e4m3" => format(8, 3, 7, Some(0x78), Some(0x7c), 0x77, false),
        "float8_e4m3b11fnuz" => format(8, 3, 11, None, Some(0x80), 0x7f, true),
        "float8_e4m3fn" => format(8, 3, 7, None, Some(0x7f), 0x7e, false),
        "float8_e4m3fnuz" => format(8, 3, 8, None, Some(0x80), 0x7f, true),
        "float8_e5m2" => format(8, 2, 15, Some(0x7c), Some(0x7e), 0x7b, false),
        "float8_e5m2fnuz" => format(8, 2, 16, None, Some(0x80), 0x7f, true),
        _ => None,
    }
}

impl Format {
    /// The bits nearest to `value` (ties to even); `None` where the format has no way to say it.
    pub(super) fn encode(&self, value: f64) -> Option<u16> {
        let sign = if value.is_sign_negative() { 1u16 << (self.bits - 1) } else { 0 };
        if value.is_nan() {
            return self.nan;
        }
        if value.is_infinite() {
            return self.infinity.map(|bits| bits | sign);
        }
        let magnitude = self.magnitude(value.abs());
        if magnitude > self.largest {
            return self.infinity.map(|bits| bits | sign);
        }
        Some(if magnitude == 0 && self.unsigned_zero { 0 } else { magnitude | sign })
    }

    /// Exponent and mantissa bits of a finite number, beyond `largest` where it overflows.
    fn magnitude(&self, value: f64) -> u16 {
        if value == 0.0 {
            return 0;
        }
        let bits = value.to_bits();
        let biased = (bits >> 52) as i32;
        // A subnormal double is far below half of the smallest number of any format here.
        if biased == 0 {
            return 0;
        }
        let exponent = biased - 1023;
        let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
        let lowest = 1 - self.bias;
        let below = (lowest - exponent).max(0);
        let shift = 52 - self.mantissa_bits as i32 + below;
        if shift > 53 {
            return 0;
        }
        let kept = significand >> shift;
        let rest = significand & ((1u64 << shift) - 1);
        let half = 1u64 << (shift - 1);
        let rounded = kept + u64::from(rest > half || (rest == half && kept & 1 == 1));
        // The hidden bit adds one to the exponent field, and so does a carry out of the mantissa.
        let field = (exponent.max(lowest) + self.bias - 1).max(0) as u64;
        u16::try_from((field << self.mantissa_bits) + rounded).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 18] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        3.25,
        0.1,
        0.001,
        1e-7,
        6e-8,
        3e-8,
        2.9802322387695312e-08,
        65504.0,
        65519.99,
        65520.0,
        1.00146484375,
        1.0014648437509095,
        0.0078125,
        1e-320,
    ];

    /// Bits that numpy 2.4 and ml_dtypes 0.6 give for `VALUES`; 0xffff where the format has no such number.
    const EXPECTED: &[(&str, [u16; 18])] = &[
        (
            "float16",
            [
                0x0, 0x8000, 0x3c00, 0xbe00, 0x4280, 0x2e66, 0x1419, 0x2, 0x1, 0x1, 0x0, 0x7bff, 0x7bff, 0x7c00,
                0x3c02, 0x3c02, 0x2000, 0x0,
            ],
        ),
        (
            "float8_e3m4",
            [0x0, 0x80, 0x30, 0xb8, 0x4a, 0x6, 0x0, 0x0, 0x0, 0x0, 0x0, 0x70, 0x70, 0x70, 0x30, 0x30, 0x0, 0x0],
        ),
        (
            "float8_e4m3",
            [0x0, 0x80, 0x38, 0xbc, 0x45, 0x1d, 0x1, 0x0, 0x0, 0x0, 0x0, 0x78, 0x78, 0x78, 0x38, 0x38, 0x4, 0x0],
        ),
        (
            "float8_e4m3b11fnuz",
            [0x0, 0x0, 0x58, 0xdc, 0x65, 0x3d, 0x8, 0x0, 0x0, 0x0, 0x0, 0xffff, 0xffff, 0xffff, 0x58, 0x58, 0x20, 0x0],
        ),
        (
            "float8_e4m3fn",
            [0x0, 0x80, 0x38, 0xbc, 0x45, 0x1d, 0x1, 0x0, 0x0, 0x0, 0x0, 0xffff, 0xffff, 0xffff, 0x38, 0x38, 0x4, 0x0],
        ),
        (
            "float8_e4m3fnuz",
            [0x0, 0x0, 0x40, 0xc4, 0x4d, 0x25, 0x1, 0x0, 0x0, 0x0, 0x0, 0xffff, 0xffff, 0xffff, 0x40, 0x40, 0x8, 0x0],
        ),
        (
            "float8_e5m2",
            [0x0, 0x80, 0x3c, 0xbe, 0x42, 0x2e, 0x14, 0x0, 0x0, 0x0, 0x0, 0x7c, 0x7c, 0x7c, 0x3c, 0x3c, 0x20, 0x0],
        ),
        (
            "float8_e5m2fnuz",
            [0x0, 0x0, 0x40, 0xc2, 0x46, 0x32, 0x18, 0x0, 0x0, 0x0, 0x0, 0xffff, 0xffff, 0xffff, 0x40, 0x40, 0x24, 0x0],
        ),
        (
            "bfloat16",
            [
                0x0, 0x8000, 0x3f80, 0xbfc0, 0x4050, 0x3dcd, 0x3a83, 0x33d7, 0x3381, 0x3301, 0x3300, 0x4780, 0x4780,
                0x4780, 0x3f80, 0x3f80, 0x3c00, 0x0,
            ],
        ),
    ];

    #[test]
    fn doubles_are_rounded_as_numpy_rounds_them() {
        for (name, bits) in EXPECTED {
            let format = format(name).unwrap();
            for (value, expected) in VALUES.iter().zip(bits) {
                assert_eq!(format.encode(*value).unwrap_or(0xffff), *expected, "{name} {value}");
            }
        }
    }
}
