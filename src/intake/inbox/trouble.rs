//! What keeps the folder from being worked with: said once, remembered for `klingd status`, and said to be over.

use std::collections::BTreeMap;

use tracing::{info, warn};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// The folders, as a whole.
    Folder,
    /// The place of taken files.
    Place,
    /// The text beside a taken file.
    Status,
    /// The queue.
    Database,
}

/// Everything that is wrong now.
#[derive(Debug, Default)]
pub struct Troubles {
    now: BTreeMap<Area, String>,
    /// What was last handed on; nothing yet.
    handed_on: Option<Option<String>>,
}

impl Troubles {
    /// Something is wrong.
    pub fn set(&mut self, area: Area, what: String) {
        if self.now.get(&area) != Some(&what) {
            warn!("the inbox: {what}");
            self.now.insert(area, what);
        }
    }

    /// It works; `true` when it did not until now.
    pub fn clear(&mut self, area: Area) -> bool {
        let was = self.now.remove(&area).is_some();
        if was && self.now.is_empty() {
            info!("the inbox is worked with again");
        }
        was
    }

    /// Whether there is any of this kind.
    pub fn has(&self, area: Area) -> bool {
        self.now.contains_key(&area)
    }

    /// What is wrong, if that is another thing than at the last call. The first call always tells.
    pub fn news(&mut self) -> Option<Option<String>> {
        let now: Vec<_> = self.now.values().cloned().collect();
        let now = (!now.is_empty()).then(|| now.join("; "));
        if self.handed_on.as_ref() == Some(&now) {
            return None;
        }
        self.handed_on = Some(now.clone());
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_once() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.news(), Some(None), "what an earlier run left is corrected");
        assert_eq!(troubles.news(), None);
        troubles.set(Area::Place, "b".into());
        troubles.set(Area::Folder, "a".into());
        assert_eq!(troubles.news(), Some(Some("a; b".into())));
        troubles.set(Area::Folder, "a".into());
        assert_eq!(troubles.news(), None);
        troubles.clear(Area::Folder);
        assert!(troubles.has(Area::Place) && !troubles.has(Area::Folder));
        assert_eq!(troubles.news(), Some(Some("b".into())));
    }
}
