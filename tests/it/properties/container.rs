//! Files as they come from anywhere.

use replyvault::fetch::{Container, MediaType, SNIFF_LENGTH, ends_in_a_whole_picture, sniff};

/// The first bytes say how the file comes in pieces, the rest is the file.
pub(crate) fn check(input: &[u8]) {
    let Some((piece, file)) = input.split_first() else { return };
    for is_proven in [false, true] {
        let whole = verdict(file, file.len().max(1), is_proven);
        assert_eq!(verdict(file, usize::from(*piece) + 1, is_proven), whole);
        if let Ok(Some(found)) = whole {
            assert!(!found.mime.is_empty() && !found.extension.is_empty());
        }
    }
    let head = &file[..file.len().min(SNIFF_LENGTH)];
    assert_eq!(sniff(head), sniff(file));
    let _ = ends_in_a_whole_picture(file.iter().copied());
}

fn verdict(file: &[u8], piece: usize, is_proven: bool) -> Result<Option<MediaType>, &'static str> {
    let mut container = Container::new();
    for piece in file.chunks(piece) {
        container.update(piece);
        let _ = container.found();
    }
    container.finish(is_proven).map_err(|error| error.name())
}
