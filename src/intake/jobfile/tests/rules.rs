//! What a job may say: keys, types, ranges, defaults, matrices, caps.

use super::*;

#[test]
fn unknown_keys_are_answered_with_what_was_meant() {
    assert_snapshot!(said(&format!("{TEXT}aspectratio = 1\nlength = 3\n\"a\\u001bb\" = 1\n"), Format::Toml), @r"
    f:3:1: error: unknown key `aspectratio` (did you mean `aspect_ratio`?)
    f:4:1: error: unknown key `length`
    f:5:1: error: unknown key `a\u{1b}b`
    ");
    assert_snapshot!(said("[[jobs]]\ntype = \"std-text-to-video\"", Format::Toml), @"f:1:3: error: unknown key `jobs` (did you mean `job`?)");
    assert_snapshot!(said("[batch]\nprompt = \"x\"\nmax_credit = 5\n[defaults]\nname = \"x\"\npromt = \"y\"\n[[job]]\n", Format::Toml), @r#"
    f:2:1: error: unknown key `prompt` (it goes under `[[job]]`, or under `[defaults]` for all jobs)
    f:3:1: error: unknown key `max_credit` (did you mean `max_credits`?)
    f:5:1: error: unknown key `name` (it belongs to one job, so it goes under `[[job]]`)
    f:6:1: error: unknown key `promt` (did you mean `prompt`?)
    f:7:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:7:1: error: `prompt`: every job needs a prompt
    "#);
}

#[test]
fn wrong_types_say_what_is_there() {
    let text = r#"
        type = ["std-text-to-video"]
        prompt = 5
        duration = 5.5
        sound = "yes"
        cfg_scale = "0.5"
        images = "https://example.com/a.jpg"
        tags = ["a", 7]
        priority = 1.5
        takes = "2"
        not_before = 7
        extra = []
        matrix = 3
        again = 1
    "#;
    assert_snapshot!(said(text, Format::Toml), @r#"
    f:2:16: error: `type`: must be text, not a list
    f:3:18: error: `prompt`: must be text, not a whole number (put it in quotes)
    f:4:20: error: `duration`: must be a whole number, not a number with a fraction
    f:5:17: error: `sound`: must be true or false, not text
    f:6:21: error: `cfg_scale`: must be a number, not text (write 0.5 without quotes)
    f:7:18: error: `images`: must be a list, not text (put it in [ ])
    f:8:22: error: `tags`: must be text, not a whole number (put it in quotes)
    f:9:20: error: `priority`: must be a whole number, not a number with a fraction
    f:10:17: error: `takes`: must be a whole number, not text (write 2 without quotes)
    f:11:22: error: `not_before`: must be a date and time, not a whole number
    f:12:17: error: `extra`: must be a table, not a list
    f:13:18: error: `matrix`: must be a table, not a whole number (like matrix = { duration = [3, 5], aspect_ratio = ["16:9", "9:16"] })
    f:14:17: error: `again`: must be true or false, not a whole number
    "#);
    assert_snapshot!(said(r#"{"type": "std-text-to-video", "prompt": null}"#, Format::Json), @"f:1:41: error: `prompt`: must be text, not null (leave the key out for its default)");
}

#[test]
fn values_out_of_range_are_refused() {
    let text = format!(
        "{TEXT}name = \"{}\"\nkey = \"a\\tb\"\noutput = \"{{nmae}}\"\ntags = [\"\"]\npriority = -101\ntakes = 21\n\
         max_credits = 0\nduration = 2\naspect_ratio = \"4:3\"\ncfg_scale = nan\nnot_before = 2026-12-24T18:00:00\n\
         [extra]\nprompt = \"x\"\n",
        "x".repeat(201)
    );
    assert_snapshot!(said(&text, Format::Toml), @r#"
    f:3:8: error: `name`: it has 201 characters; at most 200
    f:4:7: error: `key`: it has a control character or a line break in it
    f:5:10: error: `output`: {nmae} is not a field of templates
    f:6:8: error: `tags`: a tag is empty (leave it out)
    f:7:12: error: `priority`: -101 is out of range: -100 to 100, higher first
    f:8:9: error: `takes`: 21 is out of range: 1 to 20 renders of one request
    f:9:15: error: `max_credits`: 0 would allow nothing (leave it out for no limit)
    f:10:12: error: `duration`: 2 is out of range: a video lasts 3 to 15 seconds
    f:11:16: error: `aspect_ratio`: "4:3" is not one of "16:9", "9:16", "1:1"
    f:12:13: error: `cfg_scale`: NaN is out of range: 0 to 1
    f:13:14: error: `not_before`: 2026-12-24T18:00:00 has no offset, so it is another moment in every time zone (write 2026-12-24T18:00:00+01:00 with your own offset, or 2026-12-24T18:00:00Z for UTC)
    f:14:1: error: `extra`: `prompt` is a field klingd knows, so it may not hide in `extra` (set `prompt` beside `type`)
    "#);
    let when = |value: &str| said(&format!("{TEXT}not_before = {value}\n"), Format::Toml);
    assert_snapshot!(when("2026-12-24"), @"f:3:14: error: `not_before`: 2026-12-24 has no offset, so it is another moment in every time zone (write 2026-12-24T00:00:00+01:00 with your own offset, or 2026-12-24T00:00:00Z for UTC)");
    assert_snapshot!(when("18:00:00"), @r#"f:3:14: error: `not_before`: "18:00:00" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(when("\"tomorrow\""), @r#"f:3:14: error: `not_before`: "tomorrow" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(when("\"2026-12-24T18:00:00+01:00[Europe/Berlin]\""), @r#"f:3:14: error: `not_before`: "2026-12-24T18:00:00+01:00[Europe/Berlin]" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(said(&format!("{TEXT}extra = {{ when = 2026-12-24, n = inf }}\n"), Format::Toml), @"f:3:18: error: `extra`: JSON, in which it is sent, has no dates; put it in quotes");
}

#[test]
fn rules_of_the_page_point_at_the_field() {
    let text = r#"
[[job]]
type = "pro-image-to-video"
prompt = "a"
[[job]]
type = "pro-text-to-video"
prompt = "b"
image = "https://example.com/a.jpg"
[[job]]
type = "o3-pro-reference-to-video"
prompt = "c"
images = ["https://example.com/a.jpg", "ftp://example.com/b.jpg"]
[[job]]
prompt = "d"
"#;
    assert_snapshot!(said(text, Format::Toml), @r#"
    f:2:1: error: `image`: pro-image-to-video needs `image`
    f:8:1: error: `image`: pro-text-to-video does not take it, so it would be paid for and ignored (taken by pro-image-to-video, std-image-to-video, o3-pro-image-to-video, o3-std-image-to-video)
    f:12:10: error: `images`: "ftp" links can't be fetched by the provider (the provider fetches it itself: a public http:// or https:// link)
    f:13:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    "#);
}

#[test]
fn defaults_apply_where_the_type_takes_them() {
    let text = r#"
[defaults]
type = "std-text-to-video"
duration = 3
cfg_scale = 0.3
tags = ["all"]
extra = { a = 1, b = 1 }
[[job]]
prompt = "a"
extra = { b = 2 }
[[job]]
type = "o3-std-video-edit"
prompt = "b"
video = "https://example.com/a.mp4"
tags = []
"#;
    let configured = Draft { sound: Some(false), negative_prompt: Some("blur".into()), ..Draft::default() };
    let context = Context { defaults: &configured, ..context() };
    let jobs = read(text.as_bytes(), Format::Toml, "f", &context).unwrap().jobs;
    let bodies: Vec<_> = jobs.iter().map(|j| String::from_utf8(j.request.to_bytes()).unwrap()).collect();
    assert_snapshot!(bodies.join("\n"), @r#"
    {"type":"std-text-to-video","prompt":"a","duration":3,"sound":false,"negative_prompt":"blur","cfg_scale":0.3,"a":1,"b":2}
    {"type":"o3-std-video-edit","prompt":"b","video":"https://example.com/a.mp4","sound":false,"negative_prompt":"blur","a":1,"b":1}
    "#);
    assert_eq!((jobs[0].tags.len(), jobs[1].tags.len()), (1, 0));
}

#[test]
fn a_wrong_default_is_said_once_and_an_idle_one_warned_of() {
    let text = "[defaults]\nduration = 99\n[[job]]\ntype = \"std-text-to-video\"\nprompt = \"a\"\n\
                [[job]]\ntype = \"std-text-to-video\"\nprompt = \"b\"\n";
    assert_snapshot!(said(text, Format::Toml), @"f:2:12: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds");
    let text = "[defaults]\nvideo = \"https://example.com/a.mp4\"\n[[job]]\ntype = \"std-text-to-video\"\nprompt = \"a\"\n";
    assert_snapshot!(said(text, Format::Toml), @r"
    accepted, with warnings:
    f:2:1: warning: `video`: no job of this file has a type that takes it
    ");
    let configured = Draft { duration: Some(99), ..Draft::default() };
    let context = Context { defaults: &configured, ..context() };
    let diagnostics = read(TEXT.as_bytes(), Format::Toml, "f", &context).expect_err("wrong");
    assert_snapshot!(render_plain(&diagnostics), @"f:1:1: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds (it comes from `defaults.duration` of the configuration)");
}

#[test]
fn a_file_is_one_job_or_a_batch() {
    assert_snapshot!(said(&format!("{TEXT}[[job]]\n{TEXT}"), Format::Toml), @r"
    f:1:1: error: `type`: it stands at the top, but this file is a batch (move it under `[[job]]`, or under `[defaults]` for all jobs)
    f:2:1: error: `prompt`: it stands at the top, but this file is a batch (move it under `[[job]]`, or under `[defaults]` for all jobs)
    ");
    assert_snapshot!(said(&format!("[job]\n{TEXT}"), Format::Toml), @r#"f:1:1: error: `job`: must be a list, not a table (each job of a batch stands under `[[job]]`, in two brackets; in JSON: "job": [ { … } ])"#);
    assert_snapshot!(said("[batch]\nname = \"x\"\n", Format::Toml), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("", Format::Toml), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("{}", Format::Json), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("[]", Format::Json), @r#"f:1:1: error: must be a job or a batch, not a list (several jobs go in {"job": [ … ]})"#);
    assert_snapshot!(said("\n \n", Format::JsonLines), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
}

#[test]
fn equal_jobs_name_takes() {
    let job = format!("[[job]]\n{TEXT}");
    assert_snapshot!(said(&format!("{job}{job}duration = 5\n"), Format::Toml), @"f:4:1: error: this is the same job as the one on line 1 (to render it twice on purpose, keep one of them and set `takes = 2`)");
    assert_snapshot!(said(&format!("{job}name = \"a\"\n{job}name = \"a\"\nduration = 3\n"), Format::Toml), @"f:8:8: error: `name`: the job on line 4 has this name already (names tell jobs apart; for several renders of one request there is `takes`)");
    assert_snapshot!(said(&format!("{job}key = \"a\"\n{job}key = \"a\"\nduration = 3\n"), Format::Toml), @"f:8:7: error: `key`: the job on line 1 has this key already (each job needs its own)");
    // Their own names make two jobs of one request.
    assert_eq!(good(&format!("{job}name = \"a\"\n{job}name = \"b\"\n"), Format::Toml).len(), 2);
}

#[test]
fn a_matrix_is_the_product_without_the_excluded() {
    let text = format!(
        "{TEXT}key = \"shot\"\ntakes = 2\n[matrix]\nsound = [true, false]\naspect_ratio = [\"16:9\", \"1:1\"]\n\
         exclude = [{{ sound = true, aspect_ratio = \"1:1\" }}]\n"
    );
    let keys: Vec<_> = good(&text, Format::Toml).iter().map(|job| job.key.to_string()).collect();
    assert_snapshot!(keys.join("\n"), @r"
    shot/aspect_ratio=16:9,sound=true
    shot/aspect_ratio=16:9,sound=true#2
    shot/aspect_ratio=16:9,sound=false
    shot/aspect_ratio=16:9,sound=false#2
    shot/aspect_ratio=1:1,sound=false
    shot/aspect_ratio=1:1,sound=false#2
    ");
    let turned = text.replace(
        "sound = [true, false]\naspect_ratio = [\"16:9\", \"1:1\"]",
        "aspect_ratio = [\"16:9\", \"1:1\"]\nsound = [true, false]",
    );
    let mut again: Vec<_> = good(&turned, Format::Toml).iter().map(|job| job.key.to_string()).collect();
    again.sort();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_ne!(text, turned);
    assert_eq!(again, sorted, "turning the axes round keeps the keys");

    let long = format!(
        "type = \"std-text-to-video\"\nkey = \"k\"\nmatrix = {{ prompt = [\"{}\"] }}",
        "fog ".repeat(50)
    );
    let key = good(&long, Format::Toml)[0].key.to_string();
    assert_eq!(key.len(), "k/".len() + 16, "{key}");
}

#[test]
fn wrong_matrices_are_refused() {
    let matrix = |lines: &str| said(&format!("{TEXT}[matrix]\n{lines}\n"), Format::Toml);
    assert_snapshot!(matrix("prompt = [\"a\"]"), @"f:4:1: error: `prompt`: it is set in the job and in its matrix (keep the one in the matrix, or a value for all cells in the job)");
    assert_snapshot!(matrix(""), @"f:3:2: error: `matrix`: no axis: name a field and its values");
    assert_snapshot!(matrix("duration = []\nsound = true\nname = [\"a\"]\ndurations = [3]"), @r"
    f:4:12: error: `duration`: an axis needs at least one value
    f:5:9: error: `sound`: must be a list, not true or false (put it in [ ])
    f:6:1: error: unknown key `name`
    f:7:1: error: unknown key `durations` (did you mean `duration`?)
    ");
    assert_snapshot!(matrix("duration = [3, 99, 3]"), @r"
    f:4:16: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds
    f:4:20: error: `duration`: this value is already in the axis (to render it more than once on purpose, set `takes`)
    ");
    assert_snapshot!(matrix("cfg_scale = [1, 1.0]"), @"f:4:17: error: `cfg_scale`: this value is already in the axis (to render it more than once on purpose, set `takes`)");
    assert_snapshot!(matrix("duration = [3]\nexclude = [{ duration = 3 }]"), @"f:3:2: error: `exclude` leaves no cell of the matrix");
    assert_snapshot!(matrix("duration = [3]\nexclude = [{ duration = 4 }, { sound = true }, 5]"), @r"
    f:5:25: error: `duration`: this value is not in the axis, so nothing would be excluded
    f:5:32: error: `sound` is no axis of this matrix
    f:5:48: error: `exclude`: must be a table, not a whole number
    ");
    assert_snapshot!(matrix("duration = [3]\nexclude = 5"), @r#"f:5:11: error: `exclude`: must be a list, not a whole number (a list of tables, like [{ duration = 3, aspect_ratio = "1:1" }])"#);
}

#[test]
fn too_many_jobs_are_refused_before_they_are_made() {
    let axis = (0..1000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", ");
    let text = |axes: &str| format!("[[job]]\n{TEXT}takes = 20\nduration = 3\nmatrix = {{ {axes} }}\n");
    let small = format!(
        "negative_prompt = [{}]",
        axis.split_at(300).0.trim_end_matches(['"', ',', ' ']).to_owned() + "\""
    );
    assert_snapshot!(said(&text(&small), Format::Toml), @"f:1:1: error: with this one the file holds more than 1,000 jobs (`matrix` multiplies its axes, and `takes` the rest; split the file)");
    let huge = ["image", "video", "end_image"].map(|axis_name| format!("{axis_name} = [{axis}]")).join(", ");
    assert_snapshot!(said(&text(&huge), Format::Toml), @"f:1:1: error: with this one the file holds more than 1,000,000 jobs (`matrix` multiplies its axes, and `takes` the rest; split the file)");
    let open = Context { max_jobs: None, ..context() };
    assert_eq!(read(text(&small).as_bytes(), Format::Toml, "f", &open).unwrap().jobs.len() % 20, 0);
}

#[test]
fn max_credits_is_per_render_in_a_job_and_for_all_in_a_batch() {
    assert_snapshot!(said(&format!("{TEXT}max_credits = 299\n"), Format::Toml), @"f:3:15: error: `max_credits`: one render costs 300 credits, more than the 299 that are allowed");
    assert_eq!(good(&format!("{TEXT}max_credits = 300\ntakes = 2\n"), Format::Toml).len(), 2);
    let batch = |max| format!("[batch]\nmax_credits = {max}\n[[job]]\n{TEXT}takes = 2\n");
    assert_snapshot!(said(&batch(599), Format::Toml), @"f:2:15: error: `max_credits`: the jobs cost 600 credits together, more than the 599 that are allowed");
    assert_eq!(good(&batch(600), Format::Toml).len(), 2);
}

/// What the parser of URLs would mend is sent as it was typed, and paid.
#[test]
fn links_are_whole() {
    let said = |link: &str| {
        let text = format!("type = 'std-image-to-video'\nprompt = 'a'\nimage = '{link}'");
        said(&text, Format::Toml)
    };
    assert_snapshot!(said(r"C:\pictures\a.png"), @"f:3:9: error: `image`: a file of this machine can't be fetched by the provider (the provider fetches it itself: a public http:// or https:// link)");
    assert_snapshot!(said("https:/e.com/a.png"), @"f:3:9: error: `image`: `//` is missing behind `https:`");
    assert_snapshot!(said("https://e.com/a b.png"), @"f:3:9: error: `image`: the URL has spaces or control characters around or in it");
}
