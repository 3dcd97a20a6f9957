//! WAV files made of chunks, with true and with any lengths.

use replyvault::fetch::Container;

/// Two bytes say what is done to the lengths, the rest is chunks: a byte for the kind, one for the length, the content.
pub(crate) fn check(input: &[u8]) {
    let Some(([odd, cut], chunks)) = input.split_first_chunk::<2>() else { return };
    let (file, data) = wav(chunks, None);
    let Some((from, to)) = data else { return };
    assert_eq!(verdict(&file, file.len()), Ok(Some("wav")), "{file:x?}");
    assert_eq!(verdict(&file, usize::from(*cut) + 1), Ok(Some("wav")));
    // Some bytes of the data are missing.
    let end = from + (to - from) * usize::from(*cut) / 256;
    // A length of the data that happens to be that of the file is taken for a writer's mistake.
    if ![end, end.saturating_sub(8)].contains(&(to - from)) {
        assert_eq!(verdict(&file[..end], 4096), Err("truncated"), "{end} of {from}..{to}: {file:x?}");
    }
    let (mut odd_file, _) = wav(chunks, Some(*odd));
    for piece in [1, 13, odd_file.len()] {
        assert_eq!(verdict(&odd_file, piece), verdict(&odd_file, odd_file.len()));
    }
    odd_file.truncate(odd_file.len() * usize::from(*cut) / 255);
    assert_eq!(verdict(&odd_file, 5), verdict(&odd_file, odd_file.len().max(1)));
}

/// A file and where its data stand. `odd`: what is done to lengths.
fn wav(mut input: &[u8], odd: Option<u8>) -> (Vec<u8>, Option<(usize, usize)>) {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    let mut data = None;
    while let [kind, length, rest @ ..] = input {
        let (content, behind) = rest.split_at(rest.len().min(usize::from(*length)));
        input = behind;
        let is_data = kind % 4 == 0;
        let name = if is_data { *b"data" } else { [b'a' + kind % 26, b'b', b'c', b' '] };
        let size = match odd {
            Some(odd) if odd % 3 == kind % 3 => u32::from_be_bytes([odd, *kind, *length, odd ^ kind]),
            _ => content.len() as u32,
        };
        file.extend(name);
        file.extend(size.to_le_bytes());
        if is_data && data.is_none() && !content.is_empty() {
            data = Some((file.len(), file.len() + content.len()));
        } else if is_data && data.is_none() {
            // A length of 0 means "to the end".
            return (file, None);
        }
        file.extend_from_slice(content);
        file.extend((content.len() % 2 == 1).then_some(0));
    }
    let size = match odd {
        Some(odd) if odd % 2 == 0 => u32::from_le_bytes([odd, 0, odd, odd.rotate_left(3)]),
        _ => file.len() as u32 - 8,
    };
    file[4..8].copy_from_slice(&size.to_le_bytes());
    (file, data)
}

fn verdict(file: &[u8], piece: usize) -> Result<Option<&'static str>, &'static str> {
    let mut container = Container::new();
    file.chunks(piece.max(1)).for_each(|piece| container.update(piece));
    container.finish(false).map(|found| found.map(|found| found.extension)).map_err(|error| error.name())
}
