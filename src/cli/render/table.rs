//! Tables: fitted to a terminal, or tab-separated for another program. The only place that names comfy-table.

use comfy_table::{
    Attribute, Cell as Drawn, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, TableStyle,
    Width,
};

use super::Look;

/// Blanks between two columns.
const GAP: u16 = 2;

/// What is left to the other columns on a narrow terminal, whatever a column claims.
const OTHERS: u16 = 36;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its title, in capitals.
    pub title: &'static str,
    /// How it takes part in the fitting.
    pub fit: Fit,
    /// Terminals narrower than this go without it.
    pub from_width: u16,
}

/// How a column is fitted to a terminal.
#[derive(Clone, Copy, Debug)]
pub enum Fit {
    /// As wide as its content.
    Whole,
    /// The same, for numbers: aligned to the right.
    Number,
    /// Cut when there is no room.
    Cut,
    /// Cut, but not below this width.
    AtLeast(u16),
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Its text, on one line and without anything a terminal obeys.
    pub text: String,
    /// What its colour says.
    pub tone: Tone,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// It went well.
    Good,
    /// It moves.
    Busy,
    /// A person should look.
    Care,
    /// It went wrong.
    Bad,
    /// Less important than the rest.
    Faint,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), tone: Tone::Plain }
    }
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Cell { text: text.into(), tone }
    }
}

/// Renders rows under their columns. No line ends with blanks, the last one not with a line break.
pub fn table(columns: &[Column], rows: &[Vec<Cell>], look: Look) -> String {
    match look {
        Look::Piped => tabs(columns, rows),
        Look::Terminal { width, colour, .. } => fitted(columns, rows, width, colour),
    }
}

fn tabs(columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let header = columns.iter().map(|c| c.title).collect::<Vec<_>>().join("\t");
    let row = |row: &Vec<Cell>| row.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join("\t");
    [header].into_iter().chain(rows.iter().map(row)).collect::<Vec<_>>().join("\n")
}

fn fitted(columns: &[Column], rows: &[Vec<Cell>], width: u16, colour: bool) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width).set_truncation_indicator("…").force_no_tty();
    if colour {
        table.enforce_styling();
    }
    table.set_header(columns.iter().map(|c| Drawn::new(c.title).add_attribute(Attribute::Bold)));
    for row in rows {
        let mut drawn = Row::from(row.iter().map(draw).collect::<Vec<_>>());
        drawn.max_height(1);
        table.add_row(drawn);
    }
    let contents = table.column_max_content_widths();
    let fits = contents.iter().map(|content| u32::from(content + GAP)).sum::<u32>() <= u32::from(width);
    for ((column, drawn), content) in columns.iter().zip(table.column_iter_mut()).zip(contents) {
        drawn.set_padding((0, GAP));
        if let Fit::Number = column.fit {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
        // Nothing is left out for a width that nobody needs.
        let width = if fits { u16::MAX } else { width };
        if let Some(constraint) = constraint(column, content, width) {
            drawn.set_constraint(constraint);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn constraint(column: &Column, content: u16, width: u16) -> Option<ColumnConstraint> {
    if width < column.from_width {
        return Some(ColumnConstraint::Hidden);
    }
    match column.fit {
        Fit::Whole | Fit::Number => Some(ColumnConstraint::ContentWidth),
        Fit::Cut => None,
        Fit::AtLeast(n) => {
            let n = n.min(content).min(width.saturating_sub(OTHERS));
            Some(ColumnConstraint::LowerBoundary(Width::Fixed(n + GAP)))
        }
    }
}

fn draw(cell: &Cell) -> Drawn {
    let drawn = Drawn::new(&cell.text);
    match cell.tone {
        Tone::Plain => drawn,
        Tone::Good => drawn.fg(Color::Green),
        Tone::Busy => drawn.fg(Color::Cyan),
        Tone::Care => drawn.fg(Color::Yellow),
        Tone::Bad => drawn.fg(Color::Red),
        Tone::Faint => drawn.add_attribute(Attribute::Dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column { title: "ID", fit: Fit::Number, from_width: 0 },
        Column { title: "NAME", fit: Fit::Cut, from_width: 0 },
        Column { title: "TYPE", fit: Fit::Whole, from_width: 70 },
        Column { title: "WHY", fit: Fit::AtLeast(27), from_width: 0 },
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |id: &str, name: &str, why: &str| {
            vec![id.into(), name.into(), Cell::toned("std-text-to-video", Tone::Good), why.into()]
        };
        vec![
            row("7", "harbour", ""),
            row("1234", "A fishing harbour at first light, 一只猫在雨中", "in doubt: klingd resolve 12"),
        ]
    }

    fn drawn(width: u16) -> String {
        table(&COLUMNS, &rows(), Look::Terminal { width, height: 24, colour: false })
    }

    #[test]
    fn fits_the_terminal_and_never_cuts_a_command() {
        insta::assert_snapshot!(drawn(120));
        insta::assert_snapshot!(drawn(80));
        insta::assert_snapshot!(drawn(60));
    }

    #[test]
    fn leaves_nothing_out_where_all_of_it_fits() {
        let narrow = Look::Terminal { width: 50, height: 24, colour: false };
        let text = table(&COLUMNS, &rows()[..1], narrow);
        assert!(text.contains("TYPE") && text.contains("harbour  std-text-to-video"), "{text}");
    }

    #[test]
    fn is_tab_separated_and_whole_for_programs() {
        insta::assert_snapshot!(table(&COLUMNS, &rows(), Look::Piped));
    }

    #[test]
    fn colours_only_when_asked() {
        assert!(!drawn(80).contains('\u{1b}'));
        let coloured = table(&COLUMNS, &rows(), Look::Terminal { width: 80, height: 24, colour: true });
        assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    }
}
