//! The page of known times (provider.md): what is believed of a kind of render before any was seen.

use super::{
    super::job_type::{DEFAULT_DURATION_S, JobType},
    RenderKind,
};

/// The spread of the logarithm of one kind's render times. Known ranges are 2.5 to 3 wide and "the same request varies
/// threefold": 0.36 puts eight of ten runs within a factor of 2.5.
pub const SPREAD: f64 = 0.36;

/// The usual seconds of a render of this kind.
pub fn median_s(kind: RenderKind) -> f64 {
    let of_five = match kind.job_type {
        JobType::StdTextToVideo
        | JobType::StdImageToVideo
        | JobType::O3StdTextToVideo
        | JobType::O3StdImageToVideo => middle(60.0, 150.0),
        JobType::ProTextToVideo
        | JobType::ProImageToVideo
        | JobType::O3ProTextToVideo
        | JobType::O3ProImageToVideo => middle(100.0, 250.0),
        // Nothing is known of edits: they take a whole video in, as a reference may.
        JobType::O3StdReferenceToVideo
        | JobType::O3ProReferenceToVideo
        | JobType::O3StdVideoEdit
        | JobType::O3ProVideoEdit => middle(300.0, 900.0),
    };
    // The page's times are for five seconds. Longer videos take longer, and not in proportion: the root is a guess,
    // which the first runs correct.
    let seconds = f64::from(kind.duration_s.unwrap_or(DEFAULT_DURATION_S));
    of_five * (seconds / f64::from(DEFAULT_DURATION_S)).sqrt()
}

/// The middle of a range on a scale of factors.
fn middle(from: f64, to: f64) -> f64 {
    (from * to).sqrt()
}
