//! Texts in the places of URLs as the files of a job.

use crate::domain::{Access, AssetId, AssetSource, Candidate, FileName, MediaUrl, MissingReason, Role, Variant};

/// A poster or the like, where it has a URL.
pub(super) fn sidecar(role: Role, name: &str, url: Option<String>) -> Option<AssetSource> {
    let source = source(role, FileName::clean(name), vec![(Some(url?), Variant::Unknown)], None);
    (!source.candidates.is_empty()).then_some(source)
}

/// Of texts in the places of URLs, those that are URLs, each once, the cleanest first.
pub(super) fn source(
    role: Role,
    file: FileName,
    texts: Vec<(Option<String>, Variant)>,
    watermarked: Option<&str>,
) -> AssetSource {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut missing = MissingReason::NoUrl;
    for (text, variant) in texts.into_iter().filter_map(|(text, variant)| Some((text?, variant))) {
        let variant = if watermarked == Some(text.as_str()) { Variant::Watermarked } else { variant };
        match MediaUrl::parse(&text) {
            Ok(url) if candidates.iter().any(|known| known.url == url) => {}
            Ok(url) => candidates.push(Candidate { url, variant, access: Access::Public }),
            Err(_) => missing = MissingReason::InvalidUrl,
        }
    }
    candidates.sort_by_key(|candidate| candidate.variant);
    // Most have one, and a job may have hundreds of files.
    candidates.shrink_to_fit();
    AssetSource { slot: AssetId::media(), role, file, candidates, missing }
}
