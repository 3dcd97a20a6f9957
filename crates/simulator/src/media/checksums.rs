use base64::Engine as _;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use replyvault_domain::Digest;

/// Above this the CDN declares no sums: reading gigabytes before the first byte would be no stand-in for a CDN.
const DECLARED_MAX: u64 = 64 << 20;

/// What the bytes of a file add up to.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) sha256: Digest,
    pub(crate) declared: Option<Declared>,
}

/// The sums that Alibaba OSS sends as headers, in its notation.
#[derive(Debug)]
pub(crate) struct Declared {
    /// Base64 of the MD5.
    pub(crate) md5: String,
    /// CRC-64/XZ, decimal.
    pub(crate) crc64: String,
}

impl Declared {
    /// Whether a file of this length has them.
    pub(crate) const fn applies(length: u64) -> bool {
        length <= DECLARED_MAX
    }
}

pub(super) struct Summer {
    sha256: Sha256,
    declared: Option<(Md5, u64)>,
}

impl Summer {
    pub(super) fn new(length: u64) -> Self {
        Self { sha256: Sha256::new(), declared: Declared::applies(length).then(|| (Md5::new(), u64::MAX)) }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.sha256.update(data);
        if let Some((md5, crc)) = &mut self.declared {
            md5.update(data);
            *crc = data.iter().fold(*crc, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
        }
    }

    pub(super) fn finish(self) -> Sums {
        let declared = self.declared.map(|(md5, crc)| Declared {
            md5: base64::engine::general_purpose::STANDARD.encode(md5.finalize()),
            crc64: (!crc).to_string(),
        });
        Sums { sha256: Digest::from_bytes(self.sha256.finalize().into()), declared }
    }
}

/// The CRC-32 of PNG and ZIP.
pub(super) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xC96C_5795_D787_0F42 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_values_come_out() {
        let mut summer = Summer::new(9);
        summer.update(b"1234");
        summer.update(b"56789");
        let sums = summer.finish();
        let declared = sums.declared.unwrap();
        assert_eq!(declared.crc64, 0x995D_C9BB_DF19_39FA_u64.to_string());
        assert_eq!(declared.md5, "JfnnlDI7RTiF9RgfG2JNCw==");
        assert_eq!(sums.sha256, Digest::of(b"123456789"));
    }
}
