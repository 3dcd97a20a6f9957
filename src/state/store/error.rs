//! Why the store cannot be read or written: by what has to be done about it.

/// Why the store cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What is on the disk is not what was written there, or sled panicked at it. Opening it again does not help.
    #[error("the state store is damaged: {0}")]
    Damaged(String),
    /// The disk is full. sled's handle fails for good then and has to be opened anew.
    #[error("the state store has no room on the disk: {0}")]
    DiskFull(String),
    /// The disk cannot read or write (EIO). It may be tried again, and may last.
    #[error("the state store cannot be read or written: {0}")]
    Unreadable(String),
    /// The system refuses something else: another file, a lock, a thread. It may be tried again.
    #[error("the state store failed: {0}")]
    Refused(String),
    /// sled takes too long to write, and the memtable is full or would soon be.
    #[error("the state store takes too long to write")]
    Stalled,
}

impl StoreError {
    pub(super) const DAMAGED_BLOCK: &'static str = "a block is not what was written";

    pub(super) fn damaged_block() -> Self {
        Self::Damaged(Self::DAMAGED_BLOCK.to_owned())
    }

    /// sled panics at some damage, and in places where it does not expect the system to refuse.
    pub(super) fn from_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Self::from_system(&text, &text).unwrap_or_else(|| Self::Damaged(format!("sled panicked: {text}")))
    }

    /// Looks for an error of the system's in `debug`. sled's errors lose the number when they are cloned, and keep the text.
    fn from_system(debug: &str, shown: &str) -> Option<Self> {
        const EIO: &str = "Os { code: 5,";
        const ENOSPC: &str = "Os { code: 28,";
        const EDQUOT: &str = "Os { code: 122,";
        if debug.contains(ENOSPC) || debug.contains(EDQUOT) {
            return Some(Self::DiskFull(shown.to_owned()));
        }
        if debug.contains(EIO) {
            return Some(Self::Unreadable(shown.to_owned()));
        }
        debug.contains("Os { code:").then(|| Self::Refused(shown.to_owned()))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        let shown = error.to_string();
        Self::from_system(&format!("{error:?}"), &shown).unwrap_or(Self::Refused(shown))
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        let shown = error.to_string();
        match &error {
            sled::Error::Io(io) => match (Self::from_system(&format!("{io:?}"), &shown), io.kind()) {
                (Some(refused), _) => refused,
                (None, std::io::ErrorKind::WriteZero | std::io::ErrorKind::StorageFull) => Self::DiskFull(shown),
                (None, _) if is_locked(io) => Self::Refused(shown),
                // Not from the system: what sled says of a file that ends too early, or is not its own.
                (None, _) => Self::Damaged(shown),
            },
            // A form of its file that this version of sled does not have, a state that it thinks impossible.
            _ => Self::Damaged(shown),
        }
    }
}

/// Whether another handle has the store open.
pub(super) fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn an_error_of_the_operating_system_is_no_damage() {
        const EIO: i32 = 5;
        const EMFILE: i32 = 24;
        const ENOSPC: i32 = 28;
        for number in [EIO, EMFILE, ENOSPC] {
            let error = sled::Error::Io(Error::from_raw_os_error(number));
            let panic = format!("should be able to truncate: {:?}", Error::from_raw_os_error(number));
            for error in [error.clone().into(), error.into(), StoreError::from_panic(&panic)] {
                let is_as_expected = match number {
                    EIO => matches!(error, StoreError::Unreadable(_)),
                    ENOSPC => matches!(error, StoreError::DiskFull(_)),
                    _ => matches!(error, StoreError::Refused(_)),
                };
                assert!(is_as_expected, "{number}: {error:?}");
            }
        }
        let lock = sled::Error::Io(Error::other("could not acquire lock on \"db\": WouldBlock"));
        assert!(matches!(lock.into(), StoreError::Refused(_)));
        for damage in [
            sled::Error::Corruption { at: None, bt: () },
            sled::Error::Io(ErrorKind::UnexpectedEof.into()),
            sled::Error::ReportableBug("impossible".to_owned()),
            sled::Error::Unsupported("another version".to_owned()),
        ] {
            assert!(matches!(damage.into(), StoreError::Damaged(_)));
        }
        assert!(matches!(StoreError::from_panic(&"index out of bounds"), StoreError::Damaged(_)));
    }
}
