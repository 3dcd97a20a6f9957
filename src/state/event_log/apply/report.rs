use crate::journal::{Damage, DamageKind};
use crate::state::open::Recovery;

/// Puts into the log how the store was brought up to date.
pub(super) fn report(recovery: &Recovery) {
    if let Some((reason, aside)) = &recovery.moved_aside {
        tracing::warn!(reason, moved_to = %aside.display(), "the state could not be used and was made anew from the journal");
    }
    for Damage { segment, from, to, kind } in &recovery.damage {
        let segment = segment.display();
        match kind {
            DamageKind::TornTail => {
                tracing::warn!(%segment, from, "the last write to the journal was cut off; it was never acknowledged");
            }
            DamageKind::Garbled => {
                tracing::error!(%segment, from, to, "a part of the journal is damaged and was passed over");
            }
            DamageKind::Header => {
                tracing::warn!(%segment, "the header of a segment is damaged; its records are read all the same");
            }
            DamageKind::Missing => tracing::error!(before = %segment, from, to, "a part of the journal is missing"),
        }
    }
    if recovery.replayed > 0 {
        tracing::info!(entries = recovery.replayed, "the state was brought up to date from the journal");
    }
}
