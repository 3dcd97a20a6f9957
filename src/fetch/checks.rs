use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::{FetchError, Summary};
use crate::domain::Digest;

/// The checksums of a whole body that its server declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// `Content-MD5` (RFC 1864).
    pub(super) md5: Option<[u8; 16]>,
    /// `x-oss-hash-crc64ecma`, Alibaba OSS: CRC-64/XZ in decimal.
    pub(super) crc64: Option<u64>,
}

impl Declared {
    /// Whether the body proves itself at its end.
    pub(super) fn any(self) -> bool {
        self.md5.is_some() || self.crc64.is_some()
    }
}

/// SHA-256 of what came so far, and whatever else its server declared.
pub(super) struct Checks {
    bytes: u64,
    sha256: Sha256,
    md5: Option<(Md5, [u8; 16])>,
    crc64: Option<(crc_fast::Digest, u64)>,
}

impl Checks {
    pub(super) fn new(declared: Declared) -> Self {
        Self {
            bytes: 0,
            sha256: Sha256::new(),
            md5: declared.md5.map(|expected| (Md5::new(), expected)),
            crc64: declared.crc64.map(|expected| (crc_fast::Digest::new(CrcAlgorithm::Crc64Xz), expected)),
        }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.sha256.update(data);
        if let Some((md5, _)) = &mut self.md5 {
            md5.update(data);
        }
        if let Some((crc64, _)) = &mut self.crc64 {
            crc64.update(data);
        }
    }

    /// How many bytes were taken in.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Compares what came with what was declared. To be called once, at the end.
    pub(super) fn finish(&mut self) -> Result<Summary, FetchError> {
        if let Some((md5, expected)) = self.md5.take()
            && <[u8; 16]>::from(md5.finalize()) != expected
        {
            return Err(FetchError::Checksum { header: "Content-MD5" });
        }
        if let Some((crc64, expected)) = &self.crc64
            && crc64.finalize() != *expected
        {
            return Err(FetchError::Checksum { header: "x-oss-hash-crc64ecma" });
        }
        Ok(Summary { digest: Digest::from_bytes(self.sha256.finalize_reset().into()), bytes: self.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_checksums_are_what_their_headers_mean() {
        // The check value of CRC-64/XZ in the RevEng catalogue, and RFC 1321's kind of test suite for MD5.
        let md5 = <[u8; 16]>::try_from(hex::decode("25f9e794323b453885f5181f1b624d0b").unwrap()).unwrap();
        for split in 0..9 {
            let mut checks = Checks::new(Declared { md5: Some(md5), crc64: Some(0x995d_c9bb_df19_39fa) });
            let (head, tail) = b"123456789".split_at(split);
            checks.update(head);
            checks.update(tail);
            assert_eq!(checks.finish(), Ok(Summary { digest: Digest::of(b"123456789"), bytes: 9 }));
        }
    }

    #[test]
    fn a_wrong_byte_is_noticed_by_each() {
        for declared in [Declared { md5: Some([0; 16]), crc64: None }, Declared { md5: None, crc64: Some(0) }] {
            let mut checks = Checks::new(declared);
            checks.update(b"123456789");
            assert_eq!(checks.finish().unwrap_err().name(), "checksum");
        }
    }
}
