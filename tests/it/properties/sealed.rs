//! Encrypted segments of the journal as they may lie in the bucket: whole, changed, cut short, or anything else.

use replyvault::repair::{ArchiveKeys, open_segment, seal_segment};
use secrecy::SecretString;

/// Bytes that are compressed and encrypted together.
const STRETCH: usize = 256 << 10;

/// The first byte says how many stretches there are, then come changes of three bytes each, behind their number, and what the
/// segment holds.
pub(crate) fn check(input: &[u8]) {
    let keys = keys(&["first", "second"]);
    let _ = open_segment(&keys, input);
    let Some(([stretches, changes], rest)) = input.split_first_chunk::<2>() else { return };
    let (changes, content) = rest.split_at(rest.len().min(3 * usize::from(changes % 8)));
    let mut segment = vec![input[0]; usize::from(stretches % 4) * STRETCH];
    segment.extend_from_slice(content);
    let base = u64::from(*stretches) << 20;
    let object = seal_segment(&keys, base, &segment).expect("a key that fits");
    let whole = open_segment(&keys, &object).expect("what was sealed can be opened");
    assert_eq!((whole.base, whole.damaged), (base, 0));
    assert!(whole.bytes == segment, "what was sealed is what is read");
    assert!(open_segment(&self::keys(&["third"]), &object).is_err());
    let mut damaged = object.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) * object.len() / (1 << 16);
        damaged[at] ^= change[2];
    }
    same_where_intact(&keys, &damaged, &segment);
    let cut = damaged.len() * usize::from(input[input.len() - 1]) / 255;
    same_where_intact(&keys, &damaged[..cut], &segment);
    // Stretches in another order are none of this object.
    let half = damaged.len() / 2;
    damaged.rotate_left(half);
    same_where_intact(&keys, &damaged, &segment);
}

fn same_where_intact(keys: &ArchiveKeys, object: &[u8], segment: &[u8]) {
    let Ok(opened) = open_segment(keys, object) else { return };
    assert_eq!(opened.bytes.len(), segment.len());
    let others = opened.bytes.chunks(STRETCH).zip(segment.chunks(STRETCH)).filter(|(found, real)| found != real);
    let mut count = 0;
    for (found, _) in others {
        assert!(found.iter().all(|byte| *byte == 0xff), "neither what was sealed nor a hole");
        count += 1;
    }
    assert!(count <= opened.damaged, "{count} differ, {} are said to be damaged", opened.damaged);
}

fn keys(secrets: &[&str]) -> ArchiveKeys {
    let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    ArchiveKeys::new(&secrets).unwrap()
}
