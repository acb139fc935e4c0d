use super::*;

#[test]
fn a_task_id_is_visible_ascii() {
    assert!(TaskId::parse("n75abc123kling3").is_some());
    for bad in ["", "a b", "a\"b", "a\nb", "é"] {
        assert_eq!(TaskId::parse(bad), None, "{bad:?}");
    }
}
