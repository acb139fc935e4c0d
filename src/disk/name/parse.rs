//! From the text of a template to its pieces, with the column of what is wrong.

use std::iter::Peekable;
use std::str::Chars;

use super::{Component, EXTENSION, Field, MAX_COMPONENT_BYTES, Piece, Template};
use crate::disk::safe;

/// Characters of a template: more than any sensible one, and short enough to show in an error.
const MAX_TEMPLATE_CHARS: usize = 500;

/// Folders in front of the file: paths stay far below the 4,096 bytes of Linux.
const MAX_FOLDERS: usize = 8;

/// Characters that `{prompt:N}` may ask for; more would not fit a component anyway.
const MAX_TEXT_CHARS: usize = 150;

/// How alike a wrong placeholder and the suggestion must be (Jaro-Winkler); below it, suggestions are noise.
const ALIKE: f64 = 0.7;

/// A template that cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output template, column {column}: {problem}")]
pub struct TemplateError {
    /// In characters, from one.
    pub column: usize,
    /// What is wrong there.
    pub problem: TemplateProblem,
}

/// What can be wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// A placeholder that doesn't exist.
    #[error("there is no {{{}}}{}", name.escape_debug(), suggest(*suggestion))]
    Unknown {
        /// As it was written.
        name: String,
        /// The most similar one that exists.
        suggestion: Option<&'static str>,
    },
    /// A length where none is possible, or not a sensible one.
    #[error(
        "{{{placeholder}:{}}}: a length is a number from 1 to {MAX_TEXT_CHARS}, for name, batch and prompt",
        length.escape_debug()
    )]
    Length {
        /// The placeholder it stands in.
        placeholder: &'static str,
        /// As it was written.
        length: String,
    },
    /// `{` without `}`.
    #[error("this {{ is never closed; a brace that is meant is written twice: {{{{")]
    Unclosed,
    /// `}` without `{`.
    #[error("this }} closes nothing; a brace that is meant is written twice: }}}}")]
    Unopened,
    /// A character that not every filesystem takes.
    #[error("{character:?} cannot stand in a file name on every filesystem")]
    Forbidden {
        /// That character.
        character: char,
    },
    /// A leading slash.
    #[error("the path must be relative; it always starts at output.root")]
    Absolute,
    /// Two slashes side by side, or one at the end.
    #[error("a name is missing between two slashes, or behind the last one")]
    Empty,
    /// `.`, `..` or a hidden file.
    #[error("a name cannot start with a dot")]
    LeadingDot,
    /// Another extension, or none.
    #[error("the name of a video has to end in {EXTENSION}")]
    Extension,
    /// Names that would not fit a filesystem.
    #[error(
        "this is too long: a name has to fit into {MAX_COMPONENT_BYTES} bytes, with its placeholders filled in"
    )]
    TooLong,
    /// Too many slashes.
    #[error("more than {MAX_FOLDERS} folders")]
    TooDeep,
}

fn suggest(suggestion: Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!(", did you mean {{{name}}}?"),
        None => {
            let known: Vec<String> = Field::ALL.iter().map(|field| format!("{{{}}}", field.name())).collect();
            format!("; there are {}", known.join(" "))
        }
    }
}

pub(super) fn template(source: &str) -> Result<Template, TemplateError> {
    if source.chars().count() > MAX_TEMPLATE_CHARS {
        return Err(TemplateError { column: MAX_TEMPLATE_CHARS + 1, problem: TemplateProblem::TooLong });
    }
    let mut parser = Parser { rest: source.chars().peekable(), column: 0 };
    let (mut folders, mut start_column) = (Vec::new(), 1);
    let stem = loop {
        let (mut component, ended_at_slash) = parser.component()?;
        let fault = |problem| Err(TemplateError { column: start_column, problem });
        match component.first() {
            None if ended_at_slash && folders.is_empty() => return fault(TemplateProblem::Absolute),
            None if ended_at_slash || !folders.is_empty() => return fault(TemplateProblem::Empty),
            Some(Piece::Literal(text)) if text.starts_with('.') && text != EXTENSION => {
                return fault(TemplateProblem::LeadingDot);
            }
            Some(_) | None => {}
        }
        if ended_at_slash && folders.len() == MAX_FOLDERS {
            return fault(TemplateProblem::TooDeep);
        }
        if !ended_at_slash && !strip_extension(&mut component) {
            return Err(TemplateError { column: parser.column.max(1), problem: TemplateProblem::Extension });
        }
        if shortest_bytes(&component) + EXTENSION.len() >= MAX_COMPONENT_BYTES {
            return fault(TemplateProblem::TooLong);
        }
        if !ended_at_slash {
            break component;
        }
        folders.push(component);
        start_column = parser.column + 1;
    };
    Ok(Template { source: source.to_owned(), folders, stem })
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    /// Of the character read last.
    column: usize,
}

impl Parser<'_> {
    /// Reads up to the next slash or the end; says whether it was a slash.
    fn component(&mut self) -> Result<(Component, bool), TemplateError> {
        let (mut pieces, mut literal) = (Component::new(), String::new());
        let ended_at_slash = loop {
            match self.next() {
                None => break false,
                Some('/') => break true,
                Some(brace @ ('{' | '}')) if self.rest.peek() == Some(&brace) => {
                    self.next();
                    literal.push(brace);
                }
                Some('{') => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(self.placeholder()?);
                }
                Some('}') => return Err(self.fault(TemplateProblem::Unopened)),
                Some(character) if safe::is_forbidden(character) => {
                    return Err(self.fault(TemplateProblem::Forbidden { character }));
                }
                Some(character) => literal.push(character),
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok((pieces, ended_at_slash))
    }

    /// Reads what follows a `{`.
    fn placeholder(&mut self) -> Result<Piece, TemplateError> {
        let column = self.column;
        let fault = |problem| TemplateError { column, problem };
        let mut inner = String::new();
        loop {
            match self.next() {
                Some('}') => break,
                Some('{' | '/') | None => return Err(fault(TemplateProblem::Unclosed)),
                Some(character) => inner.push(character),
            }
        }
        let (name, length) = inner.split_once(':').map_or((inner.as_str(), None), |(n, l)| (n, Some(l)));
        let field = Field::ALL.into_iter().find(|field| field.name() == name).ok_or_else(|| {
            fault(TemplateProblem::Unknown { name: name.to_owned(), suggestion: most_similar(name) })
        })?;
        let max_chars = match length {
            None => field.default_chars(),
            Some(length) => length
                .parse()
                .ok()
                .filter(|n| field.is_text() && (1..=MAX_TEXT_CHARS).contains(n))
                .ok_or_else(|| {
                    fault(TemplateProblem::Length { placeholder: field.name(), length: length.to_owned() })
                })?,
        };
        Ok(Piece::Placeholder { field, max_chars })
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.column += 1;
        Some(next)
    }

    fn fault(&self, problem: TemplateProblem) -> TemplateError {
        TemplateError { column: self.column, problem }
    }
}

fn most_similar(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let similarity = |field: &Field| strsim::jaro_winkler(&name, field.name());
    Field::ALL
        .into_iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|best| similarity(best) >= ALIKE)
        .map(Field::name)
}

/// Takes `.mp4` off the last piece, if it ends so and something is left in front of it.
fn strip_extension(stem: &mut Component) -> bool {
    let Some(Piece::Literal(last)) = stem.last_mut() else { return false };
    let Some(rest) = last.strip_suffix(EXTENSION) else { return false };
    *last = rest.to_owned();
    if last.is_empty() {
        stem.pop();
    }
    !stem.is_empty()
}

/// What a component needs at least, its texts cut to nothing.
fn shortest_bytes(component: &[Piece]) -> usize {
    component
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Placeholder { field, max_chars } => {
                if field.is_text() {
                    0
                } else {
                    *max_chars
                }
            }
        })
        .sum()
}
