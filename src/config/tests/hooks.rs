//! `[[hook]]`: each table is read by itself, and every mistake of all of them has its line.

use super::*;
use crate::domain::hook::HookEvent;

#[test]
fn a_hook_is_named_after_its_program() {
    let config = Machine::with_file(
        r#"
[[hook]]
on = ["job.done", "job.failed", "job.done"]
run = ["/usr/local/bin/notify", "--title", "klingd"]

[[hook]]
name = "again"
on = "budget.stop"
run = ["/usr/local/bin/notify"]
timeout = "5s"
"#,
    )
    .load();
    let [first, second] = config.hooks.as_slice() else { panic!("{:?}", config.hooks) };
    assert_eq!((first.name.as_str(), first.timeout), ("notify", Duration::from_secs(30)));
    assert_eq!(first.on, [HookEvent::JobDone, HookEvent::JobFailed]);
    assert_eq!(
        (first.program.as_str(), &first.arguments[..]),
        ("/usr/local/bin/notify", &["--title".to_owned(), "klingd".to_owned()][..])
    );
    assert_eq!((second.name.as_str(), second.timeout), ("again", Duration::from_secs(5)));
    assert_eq!(row(&config, "hook[1].run").value, r#"["/usr/local/bin/notify", "--title", "klingd"]"#);
    assert_eq!(row(&config, "hook[2].on").value, r#"["budget.stop"]"#);
}

#[test]
fn every_mistake_has_its_line_and_a_way_out() {
    let machine = Machine::with_file(
        r#"
[[hook]]
on = ["job.faild"]
run = ["notify"]

[[hook]]
run = "notify me"
timout = "5s"

[[hook]]
on = []
run = []
timeout = "1h"

[[hook]]
on = ["job.done"]
run = ["/bin/true"]
[[hook]]
on = ["job.done"]
run = ["/bin/true"]
"#,
    );
    insta::assert_snapshot!(machine.complaint());
}

#[test]
fn a_single_table_is_told_as_what_it_is() {
    let machine = Machine::with_file("[hook]\non = [\"job.done\"]\nrun = [\"/bin/true\"]\n");
    insta::assert_snapshot!(machine.complaint());
}
