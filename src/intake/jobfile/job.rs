//! One job's keys, looked up through the layers in which they may stand, and typed into a [`Spec`].

use serde_json::{Map, Value};

use super::{
    Context,
    diagnostic::{Code, Report, shown},
    matrix::Cell,
    rules::{self, Flaw},
    spec::Spec,
    tree::{Entry, Node, Span, Table},
};
use crate::domain::{
    job_type::{Field, JobType},
    request::{Draft, nearest},
};

/// klingd's own keys of a job, beside the provider's fields.
const OWN_KEYS: [&str; 11] = [
    "name",
    "output",
    "tags",
    "priority",
    "takes",
    "not_before",
    "key",
    "max_credits",
    "again",
    "extra",
    "matrix",
];
/// Keys that say which job it is: a default of them would make every job the same one.
const PERSONAL_KEYS: [&str; 3] = ["name", "key", "matrix"];

/// Every key a job may have.
pub(super) fn keys() -> impl Iterator<Item = &'static str> + Clone {
    Field::ALL.into_iter().map(Field::name).chain(OWN_KEYS)
}

/// Every key `[defaults]` may have.
pub(super) fn default_keys() -> impl Iterator<Item = &'static str> + Clone {
    keys().filter(|key| !PERSONAL_KEYS.contains(key))
}

/// Every key a matrix axis may have: what is sent.
pub(super) fn axis_keys() -> impl Iterator<Item = &'static str> + Clone {
    Field::ALL.into_iter().map(Field::name)
}

/// Reports the keys of `table` that mean nothing there; `elsewhere` knows where a key belongs instead.
pub(super) fn refuse_unknown(
    table: &Table,
    path: &str,
    known: impl Iterator<Item = &'static str> + Clone,
    elsewhere: impl Fn(&str) -> Option<String>,
    report: &mut Report<'_>,
) {
    for Entry { key, key_span, .. } in &table.0 {
        if known.clone().any(|k| k == key) {
            continue;
        }
        let mut flaw = Flaw::new(Code::UnknownKey, format!("unknown key `{}`", shown(key)));
        flaw.hint =
            elsewhere(key).or_else(|| nearest(key, known.clone()).map(|k| format!("did you mean `{k}`?")));
        report.error(key_span.clone(), join(path, key), flaw);
    }
}

/// `path.key`, as `jq` would write it.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) }
}

/// A job's table and its place in the file.
#[derive(Clone, Copy)]
pub(super) struct Site<'t> {
    pub job: &'t Table,
    pub defaults: Option<&'t Table>,
    /// As `jq` would write it; empty for a single job.
    pub path: &'t str,
    /// Where to point at for the job as a whole, and for a key that is nowhere.
    pub anchor: &'t Span,
}

/// Where a job's keys may stand, the nearest first: its matrix cell, the job itself, `[defaults]`.
pub(super) struct Layers<'t> {
    site: Site<'t>,
    cell: &'t Cell<'t>,
    job_type: Option<JobType>,
}

#[derive(Clone, Copy)]
struct Found<'t> {
    key_span: &'t Span,
    node: &'t Node,
    layer: Layer,
}

#[derive(Clone, Copy)]
enum Layer {
    /// With the position in its axis.
    Cell(usize),
    Job,
    Defaults,
}

impl<'t> Layers<'t> {
    pub fn new(site: Site<'t>, cell: &'t Cell<'t>, context: &Context<'_>) -> Self {
        let mut layers = Self { site, cell, job_type: None };
        let word = layers.find("type").map(|found| found.node.text());
        layers.job_type = match word {
            Some(Ok(word)) => word.parse().ok(),
            Some(Err(_)) => None,
            None => context.defaults.job_type.as_deref().and_then(|word| word.parse().ok()),
        };
        layers
    }

    /// The keys whatever type takes them.
    pub fn of_any_type(site: Site<'t>, cell: &'t Cell<'t>) -> Self {
        Self { site, cell, job_type: None }
    }

    /// The type, when it is one.
    pub fn job_type(&self) -> Option<JobType> {
        self.job_type
    }

    /// Types everything. What is wrong is reported and left out, so that the rest is still checked.
    pub fn spec(&self, context: &Context<'_>, report: &mut Report<'_>) -> Spec {
        let mut draft = self.draft(report);
        draft.extra = self.extra(report);
        Spec {
            draft,
            name: self.read("name", report, |node| rules::label(node.text()?)),
            output: self.read("output", report, |node| rules::template(node.text()?, context)),
            tags: self.tags(report),
            priority: self.read("priority", report, |node| rules::priority(node.integer()?)).unwrap_or(0),
            takes: self.read("takes", report, |node| rules::takes(node.integer()?)).unwrap_or(1),
            not_before: self.read("not_before", report, |node| rules::not_before(node.date()?)),
            key: self.read("key", report, |node| rules::label(node.text()?)),
            max_credits: self.read("max_credits", report, |node| rules::max_credits(node.integer()?)),
            again: self.read("again", report, Node::boolean).unwrap_or(false),
            cell: self.cell.label(),
        }
    }

    /// Reports what is wrong with `key`, where it stands.
    pub fn refuse(&self, key: &str, flaw: Flaw, report: &mut Report<'_>) {
        match self.find(key) {
            // It is there but could not be read, which is said already.
            Some(_) if flaw.code == Code::Missing => {}
            Some(found) => {
                let span = if flaw.code == Code::NotTaken { found.key_span } else { &found.node.span };
                report.error(span.clone(), self.path_of(found.layer, key), flaw.about(key));
            }
            None => report.error(self.site.anchor.clone(), self.path_of(Layer::Job, key), flaw.about(key)),
        }
    }

    fn draft(&self, report: &mut Report<'_>) -> Draft {
        let mut draft = Draft::default();
        for field in Field::ALL {
            let key = field.name();
            let mut text = || self.read(key, report, |node| node.text().map(str::to_owned));
            match field {
                Field::Type => draft.job_type = text(),
                Field::Prompt => draft.prompt = text(),
                Field::AspectRatio => draft.aspect_ratio = text(),
                Field::Image => draft.image = text(),
                Field::EndImage => draft.end_image = text(),
                Field::Video => draft.video = text(),
                Field::NegativePrompt => draft.negative_prompt = text(),
                Field::Images => draft.images = self.texts(key, report),
                Field::Duration => draft.duration = self.read(key, report, Node::integer),
                Field::CfgScale => draft.cfg_scale = self.read(key, report, Node::number),
                Field::Sound => draft.sound = self.read(key, report, Node::boolean),
                Field::KeepOriginalSound => draft.keep_original_sound = self.read(key, report, Node::boolean),
                // Not one of the provider's; merged over the layers by `extra`.
                Field::Extra => {}
            }
        }
        draft
    }

    /// The table of the job over that of `[defaults]`, key by key.
    fn extra(&self, report: &mut Report<'_>) -> Map<String, Value> {
        let mut extra = Map::new();
        let layers = [(Layer::Defaults, self.site.defaults), (Layer::Job, Some(self.site.job))];
        for (layer, table) in layers {
            let Some(entry) = table.and_then(|table| table.get("extra")) else { continue };
            let result = entry.node.table().map_err(|flaw| (entry.node.span.clone(), flaw));
            match result.and_then(|_| entry.node.to_json()) {
                Ok(Value::Object(fields)) => extra.extend(fields),
                Ok(_) => {}
                Err((span, flaw)) => report.error(span, self.path_of(layer, "extra"), flaw.about("extra")),
            }
        }
        extra
    }

    fn tags(&self, report: &mut Report<'_>) -> Vec<String> {
        let tags = self.texts("tags", report).unwrap_or_default();
        match rules::tags(tags) {
            Ok(tags) => tags,
            Err(flaw) => {
                self.refuse("tags", flaw, report);
                Vec::new()
            }
        }
    }

    fn texts(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
        let found = self.find(key)?;
        let items = self.read(key, report, |node| node.list())?;
        let mut texts = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            match item.text() {
                Ok(text) => texts.push(text.to_owned()),
                Err(flaw) => {
                    let path = format!("{}[{i}]", self.path_of(found.layer, key));
                    report.error(item.span.clone(), path, flaw.about(key));
                }
            }
        }
        (texts.len() == items.len()).then_some(texts)
    }

    fn read<T>(
        &self,
        key: &str,
        report: &mut Report<'_>,
        parse: impl FnOnce(&'t Node) -> Result<T, Flaw>,
    ) -> Option<T> {
        match parse(self.find(key)?.node) {
            Ok(value) => Some(value),
            Err(flaw) => {
                self.refuse(key, flaw, report);
                None
            }
        }
    }

    fn find(&self, key: &str) -> Option<Found<'t>> {
        if let Some((index, key_span, node)) = self.cell.get(key) {
            return Some(Found { key_span, node, layer: Layer::Cell(index) });
        }
        let of = |table: &'t Table, layer| {
            table.get(key).map(|entry| Found { key_span: &entry.key_span, node: &entry.node, layer })
        };
        let default =
            || self.site.defaults.filter(|_| self.inherits(key)).and_then(|table| of(table, Layer::Defaults));
        of(self.site.job, Layer::Job).or_else(default)
    }

    /// A default that the job's type does not take is not for this job.
    fn inherits(&self, key: &str) -> bool {
        let field = Field::ALL.into_iter().find(|field| field.name() == key);
        match (field, self.job_type) {
            (Some(field), Some(job_type)) => job_type.takes(field),
            (Some(_), None) => true,
            (None, _) => default_keys().any(|known| known == key),
        }
    }

    fn path_of(&self, layer: Layer, key: &str) -> String {
        match layer {
            Layer::Cell(index) => format!("{}[{index}]", join(&join(self.site.path, "matrix"), key)),
            Layer::Job => join(self.site.path, key),
            Layer::Defaults => join("defaults", key),
        }
    }
}
