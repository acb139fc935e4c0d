use proptest::prelude::*;

use super::*;

fn fields() -> Fields<'static> {
    Fields {
        id: 12,
        name: "shot",
        batch: "trailer",
        job_type: "pro-text-to-video",
        duration_s: Some(5),
        aspect_ratio: Some("16:9"),
        take: 1,
        at: jiff::civil::date(2026, 1, 31).at(9, 5, 7, 0),
        prompt: "A cat: in the \"rain\"?",
    }
}

fn render_with(template: &str, fields: &Fields<'_>) -> String {
    Template::parse(template).unwrap().render(fields).to_str().unwrap().to_owned()
}

fn problem(template: &str) -> (usize, TemplateProblem) {
    let error = Template::parse(template).unwrap_err();
    (error.column, error.problem)
}

#[test]
fn the_default_is_what_its_text_says() {
    assert_eq!(Template::default(), Template::parse(DEFAULT_TEMPLATE).unwrap());
    assert_eq!(Template::default().render(&fields()).to_str(), Some("2026-01-31/shot-12.mp4"));
    assert_eq!(Template::default().to_string(), DEFAULT_TEMPLATE);
}

#[test]
fn every_placeholder_has_its_value() {
    let all = "{batch}/{type}/{id} {name} {duration} {aspect_ratio} {take} {date} {time} {prompt:5}.mp4";
    let expected = "trailer/pro-text-to-video/12 shot 5 16x9 1 2026-01-31 09-05-07 A cat.mp4";
    assert_eq!(render_with(all, &fields()), expected);
    assert_eq!(render_with("{prompt}.mp4", &fields()), "A cat- in the rain.mp4");
    assert_eq!(render_with("{{{id}}}.mp4", &fields()), "{12}.mp4");
    let edit = Fields { duration_s: None, aspect_ratio: None, ..fields() };
    assert_eq!(render_with("{duration}-{aspect_ratio}.mp4", &edit), "auto-auto.mp4");
}

#[test]
fn nothing_is_ever_nameless() {
    let bare = Fields { name: " ", batch: "...", prompt: "?", ..fields() };
    assert_eq!(render_with("{batch}/{name}-{id}.mp4", &bare), "pro-text-to-video/pro-text-to-video-12.mp4");
    assert_eq!(render_with("{prompt}.mp4", &bare), "pro-text-to-video.mp4");
    assert_eq!(render_with("{prompt}.mp4", &Fields { job_type: "", ..bare }), "video.mp4");
}

#[test]
fn long_text_is_cut_but_not_what_tells_videos_apart() {
    let (prompt, name) = ("猫".repeat(500), "n".repeat(500));
    let long = Fields { id: i64::MAX, prompt: &prompt, name: &name, ..fields() };
    let rendered = render_with("{prompt:150}-{name:150}-{id}.mp4", &long);
    assert!(rendered.len() <= MAX_COMPONENT_BYTES && rendered.len() > MAX_COMPONENT_BYTES - 8, "{rendered}");
    assert!(rendered.ends_with("n-9223372036854775807.mp4"), "{rendered}");
    assert!(rendered.starts_with("猫"), "{rendered}");
}

#[test]
fn mistakes_are_named_with_their_column() {
    use TemplateProblem::*;
    let unknown = |name: &str, suggestion| Unknown { name: name.to_owned(), suggestion };
    assert_eq!(problem("{id}/{promt}.mp4"), (6, unknown("promt", Some("prompt"))));
    assert_eq!(problem("{Name}.mp4"), (1, unknown("Name", Some("name"))));
    assert_eq!(problem("{xyzzy}.mp4"), (1, unknown("xyzzy", None)));
    assert_eq!(problem("a{id:4}.mp4"), (2, Length { placeholder: "id", length: "4".to_owned() }));
    assert_eq!(problem("{prompt:0}.mp4").1, Length { placeholder: "prompt", length: "0".to_owned() });
    assert_eq!(problem("猫{id.mp4"), (2, Unclosed));
    assert_eq!(problem("{id/x}.mp4"), (1, Unclosed));
    assert_eq!(problem("{id}}.mp4"), (5, Unopened));
    assert_eq!(problem("a:{id}.mp4"), (2, Forbidden { character: ':' }));
    assert_eq!(problem("a\n{id}.mp4"), (2, Forbidden { character: '\n' }));
    assert_eq!(problem("..\\{id}.mp4").1, Forbidden { character: '\\' });
    assert_eq!(problem("/{id}.mp4"), (1, Absolute));
    assert_eq!(problem("a//{id}.mp4"), (3, Empty));
    assert_eq!(problem("{id}/"), (6, Empty));
    assert_eq!(problem("a/../{id}.mp4"), (3, LeadingDot));
    assert_eq!(problem(".a.mp4"), (1, LeadingDot));
    assert_eq!(problem("{id}.mov"), (8, Extension));
    assert_eq!(problem("{id}{name}"), (10, Extension));
    assert_eq!(problem(""), (1, Extension));
    assert_eq!(problem(".mp4"), (4, Extension));
    assert_eq!(problem("a/.mp4"), (6, Extension));
    assert_eq!(problem(&format!("{}.mp4", "x".repeat(200))), (1, TooLong));
    assert_eq!(problem(&format!("a/{}.mp4", "{id}".repeat(10))), (3, TooLong));
    assert_eq!(problem(&"x".repeat(501)).1, TooLong);
    assert_eq!(problem("a/b/c/d/e/f/g/h/i/j.mp4"), (17, TooDeep));
}

#[test]
fn the_sentences_help() {
    let text = |template| Template::parse(template).unwrap_err().to_string();
    assert_eq!(text("{promt}.mp4"), "output template, column 1: there is no {promt}, did you mean {prompt}?");
    assert_eq!(
        text("{xyzzy}.mp4"),
        "output template, column 1: there is no {xyzzy}; there are {id} {name} {batch} {type} {duration} \
         {aspect_ratio} {take} {date} {time} {prompt}"
    );
    assert_eq!(
        text("{id.mp4"),
        "output template, column 1: this { is never closed; a brace that is meant is written twice: {{"
    );
    // A template may come with a stranger's job file, and its error goes to a terminal.
    assert_eq!(
        text("{prompt\u{1b}[2J}.mp4"),
        "output template, column 1: there is no {prompt\\u{1b}[2J}, did you mean {prompt}?"
    );
    assert!(text("{prompt:\u{202e}4}.mp4").contains("{prompt:\\u{202e}4}"));
}

#[test]
fn numbers_go_before_the_extension() {
    let second = |path: &str| numbered(Path::new(path), 2).to_str().unwrap().to_owned();
    assert_eq!(numbered(Path::new("a/b.mp4"), 1), Path::new("a/b.mp4"));
    assert_eq!(second("a/b.mp4"), "a/b-2.mp4");
    assert_eq!(second("b.c.mp4"), "b.c-2.mp4");
    assert_eq!(second("b"), "b-2");
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `just prove-files` asks for more.
        cases: ProptestConfig::default().cases.max(2000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rendered_paths_are_safe(
        template in prop::sample::select(vec![
            DEFAULT_TEMPLATE,
            "{name}.mp4",
            "{batch}/{name}.mp4",
            "{name}/{prompt}/{batch}{aspect_ratio}.mp4",
            "{type}{name}{prompt:150}{batch:150}{id}.mp4",
            "{prompt:1}. /{name:1}.mp4",
        ]),
        texts in prop::array::uniform5(prop_oneof![
            any::<String>(),
            "\\PC{0,300}",
            "[./\\\\ :~-]{0,5}(con|NUL|com1|lpt9)?[. ]{0,3}(x)?",
        ]),
        id: i64,
    ) {
        let [name, batch, job_type, ratio, prompt] = &texts;
        let fields = Fields { id, name, batch, job_type, aspect_ratio: Some(ratio), prompt, ..fields() };
        let template = Template::parse(template).unwrap();
        let path = template.render(&fields);
        prop_assert_eq!(&path, &template.render(&fields));
        let text = path.to_str().unwrap();
        prop_assert!(text.ends_with(".mp4"));
        prop_assert_eq!(text.split('/').count(), path.components().count());
        for component in text.split('/') {
            prop_assert!(!component.is_empty() && component.len() <= MAX_COMPONENT_BYTES, "{:?}", component);
            prop_assert!(!component.chars().any(safe::is_forbidden), "{:?}", component);
            prop_assert!(!component.starts_with(['.', ' ', '-', '~']), "{:?}", component);
            prop_assert!(!component.ends_with(['.', ' ']), "{:?}", component);
            prop_assert_eq!(safe::component(component), component);
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(source in any::<String>()) {
        if let Ok(template) = Template::parse(&source) {
            prop_assert!(template.render(&fields()).is_relative());
        }
    }

    #[test]
    fn template_like_text_never_climbs(source in "([a-z.]{0,3}|/|\\{(id|name|prompt:9)\\}|\\{\\{|\\}\\}){0,8}(\\.mp4)?") {
        if let Ok(template) = Template::parse(&source) {
            let path = template.render(&Fields { name: "..", prompt: "", ..fields() });
            prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{:?}", path);
        }
    }
}
