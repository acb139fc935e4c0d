//! The architecture as a test: who may import whom, which crate lives where, and the few rules of style that neither
//! rustfmt nor clippy can hold.
//!
//! It reads the text of `src/**`, not the syntax tree: comments, strings and test modules are taken out first, so that
//! prose and tests may name what they like.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The direction of imports: a module of the crate's root, and those it may name. ARCHITECTURE.md draws the same
/// picture; change both in one commit.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "daemon",
            "store",
            "domain",
            "intake",
            "provider",
            "disk",
            "config",
            "clock",
            "telemetry",
            "sandbox",
        ],
    ),
    (
        "daemon",
        &[
            "worker",
            "intake",
            "store",
            "provider",
            "disk",
            "domain",
            "config",
            "clock",
            "telemetry",
            "vitals",
            "sandbox",
            "failpoint",
        ],
    ),
    ("worker", &["domain", "store", "provider", "disk", "clock", "vitals", "failpoint"]),
    ("intake", &["domain", "store", "disk", "clock", "vitals", "failpoint"]),
    ("store", &["domain", "disk", "vitals", "failpoint"]),
    ("provider", &["domain"]),
    ("config", &["domain"]),
    ("telemetry", &["config"]),
    ("disk", &["failpoint"]),
    ("clock", &["domain"]),
    ("vitals", &["domain"]),
    ("domain", &[]),
    ("sandbox", &[]),
    ("failpoint", &[]),
];

/// Crates that have one home: what leaves it is no longer one file, or one folder, to replace.
const HOMES: &[(&str, &str)] = &[
    ("sqlx", "src/store/"),
    ("reqwest", "src/provider/"),
    ("backoff", "src/worker/retry.rs"),
    ("figment", "src/config/"),
    ("sd_notify", "src/daemon/notify.rs"),
    ("prometheus_client", "src/vitals/"),
    ("axum", "src/daemon/endpoint.rs"),
];

/// What makes a function's result depend on more than its arguments.
const IMPURE: &[&str] =
    &["async ", ".await", "tokio::", "tracing::", "std::fs", "std::net", "std::env", "::now()"];

/// The house aims at 400 lines; at this many a file is two.
const MAX_LINES: usize = 500;

/// One file under `src/`, by its path from the root of the repository.
struct Source {
    path: String,
    raw: String,
    /// The text without comments and the insides of strings, every line in its place, up to the test module.
    code: String,
    /// The rest: the test module, if there is one.
    tests: String,
}

impl Source {
    fn new(path: &str, raw: &str) -> Self {
        let mut code = code_only(raw);
        let tests = test_module_at(&code).map_or_else(String::new, |start| code.split_off(start));
        Self { path: path.to_owned(), raw: raw.to_owned(), code, tests }
    }

    /// `["store", "jobs"]` for `src/store/jobs.rs`; `["store"]` for `src/store/mod.rs`.
    fn module(&self) -> Vec<&str> {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').collect()
    }

    /// Everything that is wrong with it.
    fn complaints(&self) -> Vec<String> {
        let mut found = self.wrong_imports();
        found.extend(self.climbing());
        found.extend(self.strayed_crates());
        found.extend(self.impurities());
        if !self.raw.starts_with("//!") {
            found.push("opens without `//!`: say what the module owns and what it must not touch".to_owned());
        }
        let lines = self.code.lines().count();
        if lines > MAX_LINES {
            found.push(format!("has {lines} lines without its tests, over {MAX_LINES}: one idea a file"));
        }
        for word in ["todo!", "unimplemented!", "FIXME", "XXX"] {
            if has_word(&self.raw, word) {
                found.push(format!("has {word}: finish it, or say in the tracker what is missing"));
            }
        }
        if self.has_test_only_code() {
            found.push(
                "has test-only code inside production code: what is tested is not what runs".to_owned(),
            );
        }
        // The first brace at the margin ends the module; it must be the file's last word.
        if self.tests.split_once("\n}").is_some_and(|(_, rest)| !rest.trim().is_empty()) {
            found.push("has code behind its test module, where nobody looks for it".to_owned());
        }
        found.into_iter().map(|what| format!("{} {what}", self.path)).collect()
    }

    fn wrong_imports(&self) -> Vec<String> {
        let own = self.module()[0];
        if own == "lib" {
            return Vec::new();
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == own) else {
            return vec![format!("is in no row of the table of imports: {own}")];
        };
        let named = roots(&self.code, "crate::").into_iter().chain(roots(&self.code, "klingd::"));
        let wrong: BTreeSet<String> =
            named.filter(|name| name != own && !allowed.contains(&name.as_str())).collect();
        wrong.into_iter().map(|name| format!("names `crate::{name}`, which {own} may not import")).collect()
    }

    /// A chain of `super::` that leaves the module of the root, around the table. A module inside the file, of which
    /// there is at most one level, may climb one step more.
    fn climbing(&self) -> Option<String> {
        let inside = |line: &str| line.ends_with('{') && declared_module(&line.replace(" {", ";")).is_some();
        let steps = self.module().len() + usize::from(self.code.lines().any(inside));
        let chain = "super::".repeat(steps);
        self.code.contains(&chain).then(|| format!("climbs out of its module by `{chain}`: say `crate::`"))
    }

    /// A function or a type that is another one under test.
    fn has_test_only_code(&self) -> bool {
        let margin = "#[cfg(test)]";
        self.code.contains("cfg!(test)")
            || self.code.lines().any(|line| line.contains("cfg(test)") && !line.starts_with(margin))
    }

    fn strayed_crates(&self) -> Vec<String> {
        let strayed = |(name, home): &&(&str, &str)| {
            !self.path.starts_with(home) && paths_of(&self.code, &format!("{name}::")).next().is_some()
        };
        let say = |(name, home): &(&str, &str)| format!("names {name}, which stays in {home}");
        HOMES.iter().filter(strayed).map(say).collect()
    }

    fn impurities(&self) -> Vec<String> {
        if self.module()[0] != "domain" {
            return Vec::new();
        }
        let found = IMPURE.iter().filter(|word| self.code.contains(*word));
        found.map(|word| format!("has `{}`: the domain is pure", word.trim())).collect()
    }
}

/// The first names behind each `prefix`: `crate::{a::x, b}` and `crate::a::x` name `a`.
fn roots(code: &str, prefix: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect()
    };
    let mut names = Vec::new();
    for rest in paths_of(code, prefix) {
        let Some(group) = rest.strip_prefix('{') else {
            names.push(identifier(rest));
            continue;
        };
        let (mut depth, mut element) = (1, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {}
                _ => continue,
            }
            if depth == 0 || (depth == 1 && c == ',') {
                names.push(identifier(&group[element..at]));
                element = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What follows each `prefix` that is not the tail of a longer name.
fn paths_of<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        .map(move |(at, _)| &code[at + prefix.len()..])
}

/// Whether `word` stands in the text by itself: `\uXXXX` is an escape, not a note.
fn has_word(text: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(letter) && !text[at + word.len()..].starts_with(letter))
}

/// Where the test module inside the file begins, if it has one.
fn test_module_at(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(|at| {
        let item = code[*at..].lines().nth(1).unwrap_or_default();
        item.ends_with('{')
    })
}

/// The text with comments, strings and characters blanked, every line in its place.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let in_a_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = match c {
            '/' => comment(rest),
            '"' => string(rest),
            'r' if !in_a_word || code.ends_with('b') => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skip == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skip].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    code
}

fn comment(rest: &str) -> usize {
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        rest.find("*/").map_or(rest.len(), |end| end + 2)
    } else {
        0
    }
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].len() - rest[1..].trim_start_matches('#').len();
    let Some(body) = rest[1 + hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let before = rest.len() - body.len();
    body.find(&end).map_or(rest.len(), |at| before + at + end.len())
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..].find('\'').map_or(0, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        (_, _) => 0,
    }
}

/// The files and folders that their parents declare as `#[cfg(test)] mod …;`.
fn test_files(all: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (path, raw) in all {
        let folder = path.parent().unwrap();
        let inner = match path.file_stem().unwrap().to_str().unwrap() {
            "mod" | "lib" | "main" => folder.to_owned(),
            stem => folder.join(stem),
        };
        let (mut for_tests, mut named) = (false, None);
        for line in raw.lines().map(str::trim) {
            if line == "#[cfg(test)]" {
                for_tests = true;
            } else if let Some(file) = line.strip_prefix("#[path = \"").and_then(|l| l.strip_suffix("\"]")) {
                named = Some(folder.join(file));
            } else if !line.starts_with("#[") {
                if for_tests && let Some(name) = declared_module(line) {
                    found.insert(named.take().unwrap_or_else(|| inner.join(name).with_extension("rs")));
                    found.insert(inner.join(name));
                }
                (for_tests, named) = (false, None);
            }
        }
    }
    found
}

/// The name in `mod name;`, whatever its visibility.
fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(';')?.rsplit_once("mod ")?;
    (before.is_empty() || before.starts_with("pub")).then_some(name)
}

/// Every file under `src/` that is not a test.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let raw = fs::read_to_string(&path).unwrap();
                all.push((path, raw));
            }
        }
    }
    all.sort();
    let tests = test_files(&all);
    all.iter()
        .filter(|(path, _)| !path.ancestors().any(|p| tests.contains(p)))
        .map(|(path, raw)| Source::new(path.strip_prefix(root).unwrap().to_str().unwrap(), raw))
        .collect()
}

#[test]
fn the_tree_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 20, "the walk found only {} files", sources.len());
    let mut report = String::new();
    for complaint in sources.iter().flat_map(Source::complaints) {
        writeln!(report, "- {complaint}").unwrap();
    }
    let figment: Vec<&str> = sources
        .iter()
        .filter(|s| paths_of(&s.code, "figment::").next().is_some())
        .map(|s| s.path.as_str())
        .collect();
    if figment.len() > 1 {
        writeln!(report, "- figment is named in more than one file: {figment:?}").unwrap();
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn the_table_has_a_row_for_every_module_and_no_cycle() {
    let declared: BTreeSet<String> =
        sources().iter().map(|s| s.module()[0].to_owned()).filter(|name| name != "lib").collect();
    let rows: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(declared, rows);
    // Rows are taken away while they import nothing that is left: what remains is a cycle.
    let mut left: Vec<_> = MAY_IMPORT.to_vec();
    while !left.is_empty() {
        let names: BTreeSet<_> = left.iter().map(|(name, _)| *name).collect();
        let before = left.len();
        left.retain(|(_, imports)| imports.iter().any(|i| names.contains(i)));
        assert!(left.len() < before, "a cycle among {names:?}");
    }
}

#[test]
fn tls_is_rustls() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"rustls\""), "the test reads the right file");
    for banned in ["openssl", "openssl-sys", "native-tls", "aws-lc-sys"] {
        assert!(
            !lock.contains(&format!("name = \"{banned}\"")),
            "{banned} came into Cargo.lock: see deny.toml"
        );
    }
}

/// The checker must be able to complain: each bad file, and a word of the complaint that is due.
#[test]
fn every_rule_finds_its_bad_example() {
    let long = format!("//! A module.\n{}", "fn f() {}\n".repeat(MAX_LINES));
    let cases = [
        ("src/store/jobs.rs", "//! Jobs.\nuse crate::worker::Step;\n", "names `crate::worker`"),
        (
            "src/store/jobs.rs",
            "//! Jobs.\nuse crate::{\n    domain::{Job, State},\n    worker,\n};\n",
            "names `crate::worker`",
        ),
        ("src/domain/job.rs", "//! Jobs.\nfn f() -> crate::clock::Clock {}\n", "names `crate::clock`"),
        (
            "src/sandbox/model.rs",
            "//! M.\npub(crate) use crate::provider::Wire;\n",
            "names `crate::provider`",
        ),
        ("src/main.rs", "//! M.\nuse klingd::store::Store;\n", "names `crate::store`"),
        ("src/store/jobs.rs", "//! Jobs.\nuse crate::*;\n", "names `crate::*`"),
        ("src/store/jobs.rs", "//! Jobs.\nuse super::super::worker;\n", "climbs out"),
        ("src/unheard_of.rs", "//! New.\n", "no row"),
        ("src/worker/submit.rs", "//! S.\nfn f(e: sqlx::Error) {}\n", "names sqlx"),
        ("src/cli/doctor.rs", "//! D.\nuse reqwest::{Client, Url};\n", "names reqwest"),
        ("src/worker/poll.rs", "//! P.\nuse backoff::ExponentialBackoff;\n", "names backoff"),
        ("src/daemon.rs", "//! D.\nlet f = figment::Figment::new();\n", "names figment"),
        ("src/domain/gate.rs", "//! G.\npub async fn f() {}\n", "the domain is pure"),
        ("src/domain/gate.rs", "//! G.\nfn f() { std::fs::read(\"x\"); }\n", "the domain is pure"),
        ("src/clock.rs", "// No inner doc.\n", "without `//!`"),
        ("src/clock.rs", &long, "lines without its tests"),
        ("src/clock.rs", "//! C.\nfn f() { todo!() }\n", "todo!"),
        ("src/clock.rs", "//! C.\n// FIXME later\n", "FIXME"),
        ("src/clock.rs", "//! C.\n// XXX: later\n", "XXX"),
        ("src/clock.rs", "//! C.\nfn f() {\n    #[cfg(test)]\n    return;\n}\n", "test-only code"),
        ("src/clock.rs", "//! C.\nfn f() -> bool {\n    cfg!(test)\n}\n", "test-only code"),
        ("src/clock.rs", "//! C.\n#[cfg(test)]\nmod tests {\n}\nfn f() {}\n", "behind its test module"),
    ];
    for (path, text, expected) in cases {
        let complaints = Source::new(path, text).complaints();
        assert!(
            complaints.len() == 1 && complaints[0].contains(expected),
            "{path} with {text:.80?}: {complaints:?}, expected {expected:?}"
        );
    }
}

#[test]
fn prose_strings_tests_and_own_paths_are_free() {
    let good = r##"//! Not [`crate::worker`], and sqlx::Pool is only named here.
use crate::{domain::{self, Job}, store::jobs};

/* crate::cli */
fn f<'a>(x: &'a str) -> char {
    // reqwest::Client, written \uXXXX
    let (a, b) = ("crate::cli \" reqwest::get", r#"backoff:: " "#);
    let c = '"';
    super::g(a, b, x); // "
    '\''
}

#[cfg(test)]
mod tests {
    use crate::worker::Step;
    use super::super::super::daemon;
    const BRACE: &str = "
}
";
}
"##;
    assert_eq!(Source::new("src/store/jobs.rs", good).complaints(), Vec::<String>::new());
}

#[test]
fn test_modules_in_files_of_their_own_are_known() {
    let all = [
        ("src/domain/mod.rs", "#[cfg(test)]\nmod arbitrary;\npub mod job;\n"),
        ("src/domain/state.rs", "#[cfg(test)]\n#[path = \"state_tests.rs\"]\nmod tests;\n"),
        ("src/disk/name.rs", "#[cfg(test)]\nmod tests;\n"),
        ("src/intake/jobfile/mod.rs", "#[cfg(test)]\npub(super) mod tests;\n"),
    ]
    .map(|(path, raw)| (PathBuf::from(path), raw.to_owned()));
    let found = test_files(&all);
    for file in [
        "src/domain/arbitrary.rs",
        "src/domain/state_tests.rs",
        "src/disk/name/tests.rs",
        "src/intake/jobfile/tests.rs",
    ] {
        assert!(found.contains(Path::new(file)), "{file}: {found:?}");
    }
    assert!(!found.contains(Path::new("src/domain/job.rs")));
}
