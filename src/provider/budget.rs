//! What of the files that an answer names is read: as many files and as long URLs as a job can have.

use crate::domain::{AssetSource, Observation};

/// The files and URLs that there is room for, in their order, and how many of both there is none for.
///
/// Media comes before posters and the like, and the best URL of every file before the next best of any.
pub(super) fn fit(named: Vec<AssetSource>) -> (Vec<AssetSource>, u32) {
    let urls = named.iter().flat_map(|source| &source.candidates);
    let url_bytes: usize = urls.map(|candidate| candidate.url.length()).sum();
    if named.len() <= Observation::MAX_ASSETS && url_bytes <= Observation::MAX_URL_BYTES {
        return (named, 0);
    }
    let mut places: Vec<usize> = (0..named.len()).collect();
    places.sort_by_key(|place| named[*place].role.is_sidecar());
    let mut left_out = places.len().saturating_sub(Observation::MAX_ASSETS);
    places.truncate(Observation::MAX_ASSETS);

    let mut url_bytes = Observation::MAX_URL_BYTES;
    let mut kept: Vec<Option<AssetSource>> = named.iter().map(|_| None).collect();
    for &place in &places {
        kept[place] = Some(AssetSource { candidates: Vec::new(), ..named[place].clone() });
    }
    let most = named.iter().map(|source| source.candidates.len()).max().unwrap_or_default();
    for rank in 0..most {
        for &place in &places {
            let (Some(candidate), Some(kept)) = (named[place].candidates.get(rank), &mut kept[place]) else { continue };
            match url_bytes.checked_sub(candidate.url.length()) {
                Some(left) => {
                    url_bytes = left;
                    kept.candidates.push(candidate.clone());
                }
                None => left_out += 1,
            }
        }
    }
    kept.iter_mut().flatten().for_each(|source| source.candidates.shrink_to_fit());
    let nothing_fits = |(kept, named): &(Option<AssetSource>, AssetSource)| {
        kept.as_ref().is_some_and(|kept| kept.candidates.is_empty()) && !named.candidates.is_empty()
    };
    let kept = kept.into_iter().zip(named).filter(|both| !nothing_fits(both)).filter_map(|(kept, _)| kept);
    let mut kept: Vec<_> = kept.collect();
    kept.shrink_to_fit();
    (kept, u32::try_from(left_out).unwrap_or(u32::MAX))
}
