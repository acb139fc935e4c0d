//! Rows of text: aligned for a terminal, tab-separated for a pipe.

/// On which side a column's cells end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// The rows as lines.
pub fn columns<const N: usize>(rows: &[[String; N]], align: [Align; N], aligned: bool) -> String {
    if !aligned {
        return rows.iter().map(|row| row.join("\t")).collect::<Vec<_>>().join("\n");
    }
    let chars = |cell: &String| cell.chars().count();
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| chars(&row[i])).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(align).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_for_people_and_tabs_for_programs() {
        let rows =
            [["7".into(), "a harbour".into(), "1,200".into()], ["12".into(), String::new(), "60".into()]];
        let align = [Align::Right, Align::Left, Align::Right];
        assert_eq!(columns(&rows, align, true), " 7  a harbour  1,200\n12                60");
        assert_eq!(columns(&rows, align, false), "7\ta harbour\t1,200\n12\t\t60");
    }
}
