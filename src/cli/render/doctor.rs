//! What `doctor` prints: one line each, and what to do.

use serde_json::json;

use super::{Look, text::line};
use crate::cli::doctor::{
    facts::Program,
    judge::{Check, Verdict, summary},
};

/// For people, or tab-separated for another program.
pub fn doctor(program: &Program, checks: &[Check], look: Look) -> String {
    let Program { version, system, sqlite, schema } = program;
    let head = format!("klingd {version}, {}, SQLite {sqlite}, schema {schema}", line(system));
    let mut lines: Vec<String> = checks.iter().map(|check| row(check, look)).collect();
    if let Look::Terminal { .. } = look {
        lines.insert(0, head);
        lines.push(summary(checks));
    }
    lines.join("\n")
}

/// The report: the program, then the checks, one object a line.
pub fn doctor_json(program: &Program, checks: &[Check]) -> String {
    let Program { version, system, sqlite, schema } = program;
    let head = json!({ "klingd": version, "system": system, "sqlite": sqlite, "schema": schema });
    let checks = checks.iter().map(|check| json!(check).to_string());
    std::iter::once(head.to_string()).chain(checks).collect::<Vec<_>>().join("\n")
}

fn row(check: &Check, look: Look) -> String {
    let Check { check, verdict, found, remedy } = check;
    let word = match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "problem",
    };
    match look {
        Look::Piped => format!("{word}\t{check}\t{found}\t{}", remedy.as_deref().unwrap_or_default()),
        Look::Terminal { .. } => {
            let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            format!("{word:<7}  {check:<12}  {found}{remedy}")
        }
    }
}
