use crc_fast::CrcAlgorithm;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
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
pub(super) struct BodyHashes {
    bytes: u64,
    sha256: Sha256,
    md5: Option<(Md5, [u8; 16])>,
    crc64: Option<(crc_fast::Digest, u64)>,
}

impl BodyHashes {
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

    /// Where the checks are, to be gone on with by [`Self::resume`].
    pub(super) fn state(&self) -> ChecksState {
        ChecksState {
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.serialize()),
            md5: self.md5.as_ref().map(|(md5, expected)| (hex::encode(md5.serialize()), hex::encode(expected))),
            crc64: self.crc64.as_ref().map(|(crc64, expected)| (crc64.get_state(), *expected)),
        }
    }

    /// `None` for what is no state of this version's.
    pub(super) fn resume(state: &ChecksState) -> Option<Self> {
        let md5 = match &state.md5 {
            Some((md5, expected)) => Some((hash(md5)?, hex::decode(expected).ok()?.try_into().ok()?)),
            None => None,
        };
        let crc64 = |(state, expected)| (crc_fast::Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, state), expected);
        Some(Self { bytes: state.bytes, sha256: hash(&state.sha256)?, md5, crc64: state.crc64.map(crc64) })
    }

    /// What the server declared.
    pub(super) fn declared(&self) -> Declared {
        Declared { md5: self.md5.as_ref().map(|it| it.1), crc64: self.crc64.as_ref().map(|it| it.1) }
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

/// The states of [`Checks`] in the middle of a body, in the form the hashes' crates give them: a test holds them against
/// recorded ones, since a change of that form would make wrong digests of old records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChecksState {
    pub(super) bytes: u64,
    sha256: String,
    /// With what is expected in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    md5: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc64: Option<(u64, u64)>,
}

fn hash<T: SerializableState>(state: &str) -> Option<T> {
    let bytes = hex::decode(state).ok()?;
    T::deserialize(&SerializedState::<T>::try_from(bytes.as_slice()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_checksums_are_what_their_headers_mean() {
        // The check value of CRC-64/XZ in the RevEng catalogue, and RFC 1321's kind of test suite for MD5.
        let md5 = <[u8; 16]>::try_from(hex::decode("25f9e794323b453885f5181f1b624d0b").unwrap()).unwrap();
        for split in 0..9 {
            let mut checks = BodyHashes::new(Declared { md5: Some(md5), crc64: Some(0x995d_c9bb_df19_39fa) });
            let (head, tail) = b"123456789".split_at(split);
            checks.update(head);
            checks.update(tail);
            assert_eq!(checks.finish(), Ok(Summary { digest: Digest::of(b"123456789"), bytes: 9 }));
        }
    }

    #[test]
    fn a_wrong_byte_is_noticed_by_each() {
        for declared in [Declared { md5: Some([0; 16]), crc64: None }, Declared { md5: None, crc64: Some(0) }] {
            let mut checks = BodyHashes::new(declared);
            checks.update(b"123456789");
            assert_eq!(checks.finish().unwrap_err().name(), "checksum");
        }
    }
}
