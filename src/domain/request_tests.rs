use super::*;

fn draft(job_type: &str) -> Draft {
    Draft { job_type: Some(job_type.into()), prompt: Some("A lighthouse at dusk".into()), ..Draft::default() }
}

fn complete(job_type: JobType) -> Draft {
    let mut d = draft(job_type.as_str());
    match job_type.needs_one_of().first() {
        Some(Field::Image) => d.image = Some("https://example.com/a.jpg".into()),
        Some(Field::Images) => d.images = Some(vec!["https://example.com/a.jpg".into()]),
        Some(Field::Video) => d.video = Some("https://example.com/a.mp4".into()),
        Some(_) | None => {}
    }
    d
}

fn problems(d: &Draft) -> Vec<String> {
    Request::parse(d).expect_err("refused").iter().map(ToString::to_string).collect()
}

#[test]
fn sends_what_was_set_and_what_the_price_depends_on() {
    let body = |d: &Draft| String::from_utf8(Request::parse(d).unwrap().to_bytes()).unwrap();
    assert_eq!(
        body(&draft("pro-text-to-video")),
        r#"{"type":"pro-text-to-video","prompt":"A lighthouse at dusk","duration":5,"sound":true}"#
    );
    assert_eq!(
        body(&draft("o3-std-text-to-video")),
        r#"{"type":"o3-std-text-to-video","prompt":"A lighthouse at dusk","duration":5}"#,
        "O3 costs the same with and without sound, so `sound` is not invented"
    );
    let edit = Draft { video: Some("https://example.com/in.mp4".into()), ..draft("o3-pro-video-edit") };
    assert_eq!(
        body(&edit),
        r#"{"type":"o3-pro-video-edit","prompt":"A lighthouse at dusk","video":"https://example.com/in.mp4"}"#
    );
}

#[test]
fn every_type_has_a_request_the_page_allows_and_reads_back() {
    for job_type in JobType::ALL {
        let request = Request::parse(&complete(job_type)).unwrap();
        let value: Value = serde_json::from_slice(&request.to_bytes()).unwrap();
        assert_eq!(Request::try_from(value).unwrap(), request);
    }
}

#[test]
fn a_number_of_many_digits_reads_back_as_it_was_written() {
    let number = 5.894133275665053e-143_f64;
    let draft = Draft {
        extra: Map::from_iter([("seed".to_owned(), json!(number))]),
        ..complete(JobType::StdTextToVideo)
    };
    let request = Request::parse(&draft).unwrap();
    let again: Request = serde_json::from_slice(&request.to_bytes()).unwrap();
    assert_eq!(again, request);
}

#[test]
fn inputs_that_are_missing_are_named() {
    for job_type in JobType::ALL.into_iter().filter(|t| !t.needs_one_of().is_empty()) {
        let said = problems(&draft(job_type.as_str())).join("\n");
        assert!(said.contains("needs `"), "{job_type}: {said}");
    }
}

#[test]
fn a_field_of_other_types_is_refused() {
    let url = || Some("https://example.com/x".to_owned());
    let cases = [
        (Draft { image: url(), ..complete(JobType::ProTextToVideo) }, "image"),
        (Draft { end_image: url(), ..complete(JobType::O3ProReferenceToVideo) }, "end_image"),
        (
            Draft {
                images: Some(vec!["https://example.com/x".into()]),
                ..complete(JobType::O3ProImageToVideo)
            },
            "images",
        ),
        (Draft { video: url(), ..complete(JobType::StdImageToVideo) }, "video"),
        (Draft { cfg_scale: Some(0.5), ..complete(JobType::O3ProTextToVideo) }, "cfg_scale"),
        (Draft { duration: Some(5), ..complete(JobType::O3StdVideoEdit) }, "duration"),
        (
            Draft { keep_original_sound: Some(true), ..complete(JobType::ProTextToVideo) },
            "keep_original_sound",
        ),
    ];
    for (draft, field) in cases {
        let said = problems(&draft);
        assert!(said.len() == 1 && said[0].starts_with(&format!("`{field}`")), "{field}: {said:?}");
    }
}

#[test]
fn all_problems_at_once_with_what_to_do() {
    let bad = Draft {
        job_type: Some("pro-text-to-vidoe".into()),
        prompt: Some("  ".into()),
        duration: Some(16),
        aspect_ratio: Some("4:3".into()),
        image: Some("file:///etc/passwd".into()),
        cfg_scale: Some(f64::NAN),
        extra: Map::from_iter([("prompt".to_owned(), json!("x"))]),
        ..Draft::default()
    };
    insta::assert_snapshot!(problems(&bad).join("\n"), @r#"
    `type`: "pro-text-to-vidoe" is not a type of the provider (did you mean "pro-text-to-video"?)
    `prompt`: the prompt is empty
    `duration`: 16 is out of range: a video lasts 3 to 15 seconds
    `aspect_ratio`: "4:3" is not one of "16:9", "9:16", "1:1"
    `cfg_scale`: NaN is out of range: 0 to 1
    `image`: "file" links can't be fetched by the provider (the provider fetches it itself: a public http:// or https:// link)
    `extra`: `prompt` is a field klingd knows, so it may not hide in `extra` (set `prompt` beside `type`)
    "#);
}

#[test]
fn prompts_count_in_characters() {
    let with = |n: usize| Draft { prompt: Some("雪".repeat(n)), ..draft("std-text-to-video") };
    assert!(Request::parse(&with(2000)).is_ok());
    assert!(problems(&with(2001))[0].contains("2001 characters"));
}

#[test]
fn the_canonical_form_forgets_what_is_default() {
    let plain = Request::parse(&draft("std-text-to-video")).unwrap();
    let spelt = Draft {
        duration: Some(5),
        aspect_ratio: Some("16:9".into()),
        sound: Some(true),
        cfg_scale: Some(0.5),
        ..draft("std-text-to-video")
    };
    assert_eq!(plain.canonical(), Request::parse(&spelt).unwrap().canonical());
    let silent = Draft { sound: Some(false), ..draft("std-text-to-video") };
    assert_ne!(plain.canonical(), Request::parse(&silent).unwrap().canonical());
}
