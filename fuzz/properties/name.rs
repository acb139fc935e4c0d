//! Any text as an output template, filled in with any text: a safe path below the root, the same one every time, or an
//! error with a column in the template that steers no terminal.
//!
//! The lines of the input are the template, then name, batch, type, ratio and prompt.

use crate::disk::{
    name::{Fields, MAX_COMPONENT_BYTES, Template, numbered},
    safe,
};

pub fn check(bytes: &[u8]) {
    let Ok(input) = std::str::from_utf8(bytes) else { return };
    let mut lines = input.splitn(6, '\n');
    let [source, name, batch, job_type, ratio, prompt] = [(); 6].map(|()| lines.next().unwrap_or_default());
    let template = match Template::parse(source) {
        Ok(template) => template,
        Err(error) => {
            assert!((1..=source.chars().count() + 1).contains(&error.column), "{error:?}");
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            return;
        }
    };
    assert_eq!(template.to_string(), source);
    let id = i64::from_le_bytes(std::array::from_fn(|at| *name.as_bytes().get(at).unwrap_or(&0)));
    let aspect_ratio = (!ratio.is_empty()).then_some(ratio);
    let duration_s = aspect_ratio.map(|ratio| u32::MAX / (1 + ratio.len() as u32));
    let at = jiff::civil::date(2026, 1, 31).at(9, 5, 7, 0);
    let fields = Fields { id, name, batch, job_type, duration_s, aspect_ratio, take: u32::MAX, at, prompt };

    let path = template.render(&fields);
    assert_eq!(path, template.render(&fields));
    let text = path.to_str().expect("it is text");
    assert!(path.is_relative() && text.ends_with(".mp4"), "{text:?}");
    assert_eq!(text.split('/').count(), path.components().count(), "{text:?}");
    for component in text.split('/') {
        assert!(!component.is_empty() && component.len() <= MAX_COMPONENT_BYTES, "{component:?}");
        assert!(!component.chars().any(safe::is_forbidden), "{component:?}");
        assert_eq!(safe::component(component), component);
    }
    let second = numbered(&path, 2);
    assert!(second != path && second.parent() == path.parent(), "{second:?}");
}
