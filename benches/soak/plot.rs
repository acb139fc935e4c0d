//! Small multiples as SVG: one panel a value, over the time of a run. Pure; colours that a light and a dark page both show.

use std::fmt::Write as _;

/// One picture.
pub struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

/// One value over time.
pub struct Line {
    pub name: String,
    /// Minutes and value.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 880.0;
const PANEL: f64 = 96.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const GAP: f64 = 34.0;
const COLOURS: [&str; 4] = ["#2f81d8", "#d9822b", "#3a9d5d", "#b0559e"];
/// Points of a line: more would not be seen, and make the file large.
const POINTS: usize = 240;

/// The panels below each other; `starts` are the minutes at which a process began, drawn through all of them.
pub fn svg(panels: &[Panel], starts: &[f64]) -> String {
    let height = TOP + panels.len() as f64 * (PANEL + GAP);
    let points = || panels.iter().flat_map(|p| &p.lines).flat_map(|l| &l.points);
    let minutes = points().map(|(t, _)| *t).fold(1e-9, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#808080\">\n"
    );
    for (n, panel) in panels.iter().enumerate() {
        let top = TOP + n as f64 * (PANEL + GAP);
        draw(&mut out, panel, top, minutes, starts);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64, minutes: f64, starts: &[f64]) {
    let bottom = top + PANEL;
    let x = |t: f64| LEFT + t / minutes * (WIDTH - LEFT - RIGHT);
    let most = panel.lines.iter().flat_map(|l| &l.points).map(|(_, v)| *v).fold(0.0, f64::max);
    let (ceiling, step) = scale(most);
    let y = |v: f64| bottom - v / ceiling * PANEL;
    let mut mark = |text: std::fmt::Arguments<'_>| {
        let written = out.write_fmt(text);
        debug_assert!(written.is_ok(), "a String takes everything");
    };
    let mut at = LEFT;
    mark(format_args!(
        "<text x=\"{at:.0}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>\n",
        top - 6.0,
        panel.title
    ));
    at += 8.0 + panel.title.len() as f64 * 6.6;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        if !line.name.is_empty() {
            mark(format_args!(
                "<text x=\"{at:.0}\" y=\"{:.0}\" fill=\"{colour}\">{}</text>\n",
                top - 6.0,
                line.name
            ));
            at += 14.0 + line.name.len() as f64 * 6.0;
        }
    }
    let mut v = 0.0;
    while v <= ceiling * 1.0001 {
        mark(format_args!(
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#808080\" stroke-opacity=\".3\" stroke-width=\".6\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 5.0,
            y(v) + 4.0,
            short(v),
            y = y(v)
        ));
        v += step;
    }
    for start in starts {
        mark(format_args!(
            "<path d=\"M{:.1} {top}V{bottom}\" stroke=\"#808080\" stroke-dasharray=\"3 3\" stroke-width=\".8\"/>\n",
            x(*start)
        ));
    }
    let every = scale(minutes).1;
    let mut t = 0.0;
    while t <= minutes {
        mark(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            x(t),
            bottom + 13.0,
            short(t)
        ));
        t += every;
    }
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            thinned(&line.points).iter().map(|(t, v)| format!("{:.0} {:.1}", x(*t), y(*v))).collect();
        mark(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\" stroke-linejoin=\"round\"/>\n",
            path.join(" ")
        ));
    }
}

/// A round ceiling above the highest value, and the step of the lines below it.
fn scale(most: f64) -> (f64, f64) {
    let most = if most > 0.0 { most } else { 1.0 };
    let power = 10f64.powf(most.log10().floor());
    let step =
        [0.2, 0.5, 1.0, 2.0, 5.0].iter().map(|s| s * power).find(|s| most / s <= 4.0).unwrap_or(power * 5.0);
    ((most / step).ceil() * step, step)
}

/// The highest point of each stretch, so that no spike is hidden.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS).max(1);
    let highest = |chunk: &[(f64, f64)]| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(stretch).filter_map(highest).collect()
}

fn short(v: f64) -> String {
    if v >= 10_000.0 {
        format!("{}k", (v / 1000.0).round())
    } else {
        format!("{}", (v * 100.0).round() / 100.0)
    }
}
