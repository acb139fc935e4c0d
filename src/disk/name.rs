//! The output template: from what a job is to where its video goes, below the root.
//!
//! A template is parsed once, with every mistake found then; rendering cannot fail, is pure, and gives the
//! same path for the same job after any restart. Paths are safe on ext4, NTFS and SMB. Two jobs may still
//! render the same one: publishing refuses the second, and [`numbered`] gives it the next name.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use parse::{TemplateError, TemplateProblem};

use super::safe;

/// The template of the configuration's default.
pub const DEFAULT_TEMPLATE: &str = "{date}/{name}-{id}.mp4";

/// Bytes of one component. Filesystems take 255; the rest is for what is put around a name: the dot and
/// `.part` of a temporary, `-2`, `.json`, `.suspect`.
pub const MAX_COMPONENT_BYTES: usize = 200;

/// What every video's name ends in.
const EXTENSION: &str = ".mp4";

/// The last resort for a component that would be empty.
const NAMELESS: &str = "video";

/// What the placeholders stand for, in one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// `{id}`
    pub id: i64,
    /// `{name}`; the type when empty.
    pub name: &'a str,
    /// `{batch}`; the type when empty.
    pub batch: &'a str,
    /// `{type}`
    pub job_type: &'a str,
    /// `{duration}` in seconds; `auto` where the input decides.
    pub duration_s: Option<u32>,
    /// `{aspect_ratio}`, as `16x9`; `auto` where the input decides.
    pub aspect_ratio: Option<&'a str>,
    /// `{take}`
    pub take: u32,
    /// `{date}` and `{time}`: a moment recorded with the job, in the zone its user lives in. Never "now": the
    /// name has to be the same after a restart.
    pub at: jiff::civil::DateTime,
    /// `{prompt}`; the type when empty.
    pub prompt: &'a str,
}

/// A checked output template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    folders: Vec<Component>,
    /// The file's name without [`EXTENSION`].
    stem: Component,
}

/// One name between two slashes; never without pieces.
type Component = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Placeholder { field: Field, max_chars: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Batch,
    Type,
    Duration,
    AspectRatio,
    Take,
    Date,
    Time,
    Prompt,
}

impl Template {
    /// Checks a template. The error names the column, counted in characters from one.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        parse::template(source)
    }

    /// Where this job's video goes, relative to the root.
    #[must_use]
    pub fn render(&self, fields: &Fields<'_>) -> PathBuf {
        let mut path: PathBuf =
            self.folders.iter().map(|folder| render(folder, fields, MAX_COMPONENT_BYTES)).collect();
        path.push(render(&self.stem, fields, MAX_COMPONENT_BYTES - EXTENSION.len()) + EXTENSION);
        path
    }
}

impl Default for Template {
    fn default() -> Template {
        use Piece::{Literal, Placeholder};
        let placeholder = |field| Placeholder { field, max_chars: field.default_chars() };
        Template {
            source: DEFAULT_TEMPLATE.to_owned(),
            folders: vec![vec![placeholder(Field::Date)]],
            stem: vec![placeholder(Field::Name), Literal("-".to_owned()), placeholder(Field::Id)],
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Template, TemplateError> {
        Template::parse(source)
    }
}

/// The `n`th name of a video, for several in one answer and for names that are taken: `name.mp4`,
/// `name-2.mp4`, …
#[must_use]
pub fn numbered(path: &Path, n: u32) -> PathBuf {
    if n <= 1 {
        return path.to_path_buf();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{n}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl Field {
    const ALL: [Field; 10] = [
        Field::Id,
        Field::Name,
        Field::Batch,
        Field::Type,
        Field::Duration,
        Field::AspectRatio,
        Field::Take,
        Field::Date,
        Field::Time,
        Field::Prompt,
    ];

    const fn name(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::Name => "name",
            Field::Batch => "batch",
            Field::Type => "type",
            Field::Duration => "duration",
            Field::AspectRatio => "aspect_ratio",
            Field::Take => "take",
            Field::Date => "date",
            Field::Time => "time",
            Field::Prompt => "prompt",
        }
    }

    /// Text of people has any length, is cut first where room is short, and takes a length (`{prompt:40}`).
    /// The rest is short by nature and never cut, since it is what tells two videos apart.
    const fn is_text(self) -> bool {
        match self {
            Field::Name | Field::Batch | Field::Prompt => true,
            Field::Id | Field::Type | Field::Duration | Field::AspectRatio => false,
            Field::Take | Field::Date | Field::Time => false,
        }
    }

    /// How many characters it may have where the template doesn't say.
    const fn default_chars(self) -> usize {
        match self {
            Field::Prompt => 40,
            Field::Name | Field::Batch => 80,
            // An i64 with its sign.
            Field::Id => 20,
            // The longest of the twelve types has 25.
            Field::Type => 32,
            Field::Duration | Field::Take => 10,
            Field::AspectRatio => 12,
            Field::Date => 12,
            Field::Time => 8,
        }
    }

    fn value(self, fields: &Fields<'_>) -> String {
        match self {
            Field::Id => fields.id.to_string(),
            Field::Name => safe::text(fields.name),
            Field::Batch => safe::text(fields.batch),
            Field::Type => safe::text(fields.job_type),
            Field::Duration => {
                fields.duration_s.map_or_else(|| "auto".to_owned(), |seconds| seconds.to_string())
            }
            Field::AspectRatio => safe::text(&fields.aspect_ratio.unwrap_or("auto").replace(':', "x")),
            Field::Take => fields.take.to_string(),
            Field::Date => fields.at.date().to_string(),
            Field::Time => fields.at.strftime("%H-%M-%S").to_string(),
            Field::Prompt => safe::text(fields.prompt),
        }
    }
}

/// One component. When it is too long, its texts are cut evenly, so that an `{id}` behind a long `{prompt}`
/// stays.
fn render(component: &[Piece], fields: &Fields<'_>, max_bytes: usize) -> String {
    // One byte less: making it safe may add one.
    let fits = |text: &String| text.len() < max_bytes;
    let whole = assemble(component, fields, max_bytes);
    let text = if fits(&whole) {
        whole
    } else {
        (0..max_bytes).rev().map(|cap| assemble(component, fields, cap)).find(fits).unwrap_or_default()
    };
    [
        safe::component(&text),
        safe::component(safe::cut(&Field::Type.value(fields), Field::Type.default_chars())),
    ]
    .into_iter()
    .find(|name| !name.is_empty())
    .unwrap_or_else(|| NAMELESS.to_owned())
}

fn assemble(component: &[Piece], fields: &Fields<'_>, text_cap_bytes: usize) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Placeholder { field, max_chars } => {
            let mut value = field.value(fields);
            if value.is_empty() {
                value = Field::Type.value(fields);
            }
            let value: String = value.chars().take(*max_chars).collect();
            let cap = if field.is_text() { text_cap_bytes } else { *max_chars };
            safe::cut(&value, cap).to_owned()
        }
    };
    component.iter().map(piece).collect()
}
