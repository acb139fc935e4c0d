//! A hold in a sentence: since when, why, how it ends by itself, and the command that lifts it. Every view says the same.

use super::{
    super::view::View,
    text::line,
    time::{at, until, wall},
};
use crate::domain::hold::{Hold, HoldName};

/// The whole of it.
pub fn hold(hold: &Hold, view: &View) -> String {
    let (why, remedy) = (line(&hold.why), capital(hold.name.remedy()));
    format!("{} ({why}). {remedy}", since(hold, view))
}

/// Its name, its age and what time alone will do about it.
pub fn since(hold: &Hold, view: &View) -> String {
    let by_itself = match (hold.until, hold.probe_at) {
        (Some(end), _) => format!(", {}", until(end, view.now, &view.zone)),
        (None, Some(probe)) if probe > view.now => {
            format!(", tried again {}", at(probe, view.now, &view.zone))
        }
        (None, Some(_)) => ", about to be tried again".to_owned(),
        (None, None) => String::new(),
    };
    format!("{} since {}{by_itself}", hold.name.as_str(), wall(hold.since, view.now, &view.zone))
}

/// What a hold that stood until now still does.
pub fn trial(hold: &Hold, view: &View) -> Option<String> {
    let name = HoldName::Key.as_str();
    hold.is_on_trial(view.now)
        .then(|| format!("{name} seems to work again: one job is tried at a time until one is accepted"))
}

/// Commands stay as they are typed.
fn capital(remedy: &str) -> String {
    if remedy.starts_with("klingd") {
        return format!("To go on: {remedy}");
    }
    let mut chars = remedy.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
