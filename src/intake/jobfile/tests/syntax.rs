//! What is no TOML, no JSON, no text, or too deep.

use super::*;

/// What is said of the text itself: what is about a key is other tests' business.
fn said_of_text(text: &str, format: Format) -> String {
    let mut errors = read(text.as_bytes(), format, "f", &context()).expect_err(text);
    errors.retain(|d| d.key.is_empty());
    render_plain(&errors)
}

#[test]
fn toml_syntax_errors_show_together() {
    assert_snapshot!(said("type = std-text-to-video\nprompt = \"a\nduration 5\ntakes = 2\ntakes = 3\n[[job]\n", Format::Toml), @r#"
    f:1:8: error: string values must be quoted, expected literal string (text goes in quotes: "…"; over several lines in """…""")
    f:2:12: error: invalid basic string, expected `"` (text in quotes ends on its line; over several lines it goes in """…""")
    f:3:10: error: key with no value, expected `=`
    f:6:7: error: unclosed array table, expected `]`
    "#);
    assert_snapshot!(said("prompt = \"He said \"hi\" to me\"\nduration = 5 s\n", Format::Toml), @r#"
    f:1:20: error: unexpected key or value, expected newline, `#` (one `key = value` a line; a quote inside text is written \")
    f:2:12: error: string values must be quoted, expected literal string (text goes in quotes: "…"; over several lines in """…""")
    "#);
    assert_snapshot!(said("takes = 2\ntakes = 3\n[extra]\n[extra]\n", Format::Toml), @r"
    f:2:1: error: `takes` is already set in this table
    f:4:2: error: `extra` is already set in this table
    ");
    assert_snapshot!(said("prompt = \"\u{202e}\u{1b}[31m\"\n", Format::Toml), @r"f:1:12: error: invalid basic string, expected non-double-quote visible characters, `\` (a control character is written \uXXXX)");
    assert_snapshot!(said_of_text("a = 1e999", Format::Toml), @"f:1:5: error: 1e999 is too large a number");
    assert_snapshot!(said_of_text("a = 99999999999999999999", Format::Toml), @"f:1:5: error: 99999999999999999999 is too large a number");
    assert_snapshot!(said_of_text("duration = 0xfffffffffffffffff", Format::Toml), @"f:1:12: error: 0xfffffffffffffffff is too large a number");
}

#[test]
fn json_syntax_errors_are_sentences() {
    let cases = [
        r#"{"type": "a",}"#,
        r#"{"type" "a"}"#,
        r#"{"type": "a" "prompt": "b"}"#,
        r#"{"type": "a" // really"#,
        r#"{type: "a"}"#,
        r#"{'type': 'a'}"#,
        r#"{"type": 'a'}"#,
        r#"{"type": }"#,
        r#"{"type": "a"#,
        r#"{"type": "a""#,
        r#"{"type":"#,
        r#"{"type": "a", "type": "b"}"#,
        r#"{"type": "\ud800"}"#,
        r#"{"type": "\udc00\ud800"}"#,
        r#"{"type": "\ud83dx"}"#,
        r#"{"type": "\x41"}"#,
        r#"{"type": "\u12g4"}"#,
        "{\"type\": \"a\tb\"}",
        "{\"type\": \"a\nb\"}",
        r#"{"duration": NaN}"#,
        r#"{"duration": -Infinity}"#,
        r#"{"sound": True}"#,
        r#"{"sound": yes}"#,
        r#"{"duration": 05}"#,
        r#"{"duration": .5}"#,
        r#"{"duration": 5.}"#,
        r#"{"duration": 1e999}"#,
        r#"{"duration": 9223372036854775808}"#,
        r#"{"images": ["a",]}"#,
        r#"{"images": ["a"#,
        r#"{} {}"#,
        r#"{},"#,
        r#"["a"]"#,
        "é",
    ];
    let all: String =
        cases.iter().map(|case| format!("{case}\n    {}", said_of_text(case, Format::Json))).collect();
    assert_snapshot!(all, @r#"
    {"type": "a",}
        f:1:14: error: the comma before this brace is one too many
    {"type" "a"}
        f:1:9: error: `:` was expected here
    {"type": "a" "prompt": "b"}
        f:1:14: error: `,` or `}` was expected here
    {"type": "a" // really
        f:1:14: error: JSON has no comments (a .toml file has)
    {type: "a"}
        f:1:2: error: a key in double quotes was expected here
    {'type': 'a'}
        f:1:2: error: a key in double quotes was expected here
    {"type": 'a'}
        f:1:10: error: text goes in double quotes
    {"type": }
        f:1:10: error: a value is missing here, or the comma before it is one too many
    {"type": "a
        f:1:10: error: the quote that ends this text is missing (a line break inside text is written \n)
    {"type": "a"
        f:1:13: error: the file ends where `,` or `}` was expected
    {"type":
        f:1:9: error: the file ends where a value was expected
    {"type": "a", "type": "b"}
        f:1:15: error: `type` is already set in this table
    {"type": "\ud800"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\udc00\ud800"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\ud83dx"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\x41"}
        f:1:11: error: this escape means nothing in JSON (a backslash is written \\)
    {"type": "\u12g4"}
        f:1:11: error: \u needs four hexadecimal digits
    {"type": "a	b"}
        f:1:12: error: a control character in text must be written as \t or \u00XX
    {"type": "a
    b"}
        f:1:10: error: the quote that ends this text is missing (a line break inside text is written \n)
    {"duration": NaN}
        f:1:14: error: JSON has no NaN (leave the key out)
    {"duration": -Infinity}
        f:1:14: error: -Infinity is not a number in JSON
    {"sound": True}
        f:1:11: error: True is Python (JSON writes true, false and null)
    {"sound": yes}
        f:1:11: error: yes is not a value (text goes in double quotes)
    {"duration": 05}
        f:1:14: error: 05 is not a number in JSON
    {"duration": .5}
        f:1:14: error: a value was expected here
    {"duration": 5.}
        f:1:14: error: 5. is not a number in JSON
    {"duration": 1e999}
        f:1:14: error: 1e999 is too large a number
    {"duration": 9223372036854775808}
        f:1:14: error: 9223372036854775808 is too large a number
    {"images": ["a",]}
        f:1:17: error: a value is missing here, or the comma before it is one too many
    {"images": ["a
        f:1:13: error: the quote that ends this text is missing (a line break inside text is written \n)
    {} {}
        f:1:4: error: something follows after the end of the value (several jobs go in {"job": [ … ]}, or one a line in a .jsonl file)
    {},
        f:1:3: error: something follows after the end of the value (several jobs go in {"job": [ … ]}, or one a line in a .jsonl file)
    ["a"]
        f:1:1: error: must be a job or a batch, not a list (several jobs go in {"job": [ … ]})
    é
        f:1:1: error: a value was expected here
    "#);
    assert_eq!(
        good(r#"{"type":"std-text-to-video","prompt":"\ud83d\ude00\n\t\"\\\/"}"#, Format::Json)[0]
            .request
            .prompt(),
        "😀\n\t\"\\/"
    );
}

/// A number, a word or a key that can't be is an error at its own place, once, and hides none of the others.
#[test]
fn what_cant_be_read_hides_nothing_else() {
    let toml = "type = \"pro-text-to-video\"\nprompt = 5\nduration = 99999999999999999999\ncfg_scale = nan\npriority = 1e400\nnmae = 1\n";
    assert_snapshot!(said(toml, Format::Toml), @"
    f:2:10: error: `prompt`: must be text, not a whole number (put it in quotes)
    f:3:12: error: 99999999999999999999 is too large a number
    f:4:13: error: `cfg_scale`: NaN is out of range: 0 to 1
    f:5:12: error: 1e400 is too large a number
    f:6:1: error: unknown key `nmae` (did you mean `name`?)
    ");
    let json = r#"{"type": "pro-text-to-video", "type": 1, "prompt": None, "duration": 1e400, "cfg_scale": NaN,
        "priority": 07, "takes": 0, "nmae": 1, "extra": {"a": 18446744073709551616, "duration": 1}}"#;
    assert_snapshot!(said(json, Format::Json), @"
    f:1:31: error: `type` is already set in this table
    f:1:52: error: None is Python (JSON writes true, false and null)
    f:1:70: error: 1e400 is too large a number
    f:1:90: error: JSON has no NaN (leave the key out)
    f:2:21: error: 07 is not a number in JSON
    f:2:34: error: `takes`: 0 is out of range: 1 to 20 renders of one request
    f:2:37: error: unknown key `nmae` (did you mean `name`?)
    f:2:57: error: `extra`: `duration` is a field klingd knows, so it may not hide in `extra` (set `duration` beside `type`)
    f:2:63: error: 18446744073709551616 is too large a number
    ");
}

#[test]
fn json_lines_errors_carry_the_line_of_the_file() {
    let text = "\u{feff}{\"type\": \"std-text-to-video\", \"prompt\": \"one\"}\r\n\r\n  \
        {\"type\": \"std-text-to-video\", \"prompt\": \"two\", \"duration\": 2}\r\n{\"type\": \r\n[1]\r\n\
        {\"batch\": {}, \"prompt\": \"a\"}\r\n{}\r\n{\"type\": \"std-text-to-video\", \"prompt\": \"one\"}";
    assert_snapshot!(said(text, Format::JsonLines), @r#"
    f:3:62: error: `duration`: 2 is out of range: a video lasts 3 to 15 seconds
    f:4:9: error: the line ends where a value was expected
    f:5:1: error: must be a job, not a list (each line is one job: { … })
    f:6:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:6:2: error: unknown key `batch` (a batch goes in a .toml or .json file)
    f:7:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:7:1: error: `prompt`: every job needs a prompt
    f:8:1: error: this is the same job as the one on line 1 (to render it twice on purpose, keep one of them and set `takes = 2`)
    "#);
}

/// The memory of one line is enough: what a line needs of the earlier ones is known of them.
#[test]
fn lines_are_read_one_by_one_as_the_whole_file_is() {
    let text = "\u{feff}{\"type\": \"std-text-to-video\", \"prompt\": \"é\", \"name\": \"a\"}\n\n\
                {\"type\": \"std-text-to-video\", \"prompt\": \"two\", \"name\": \"a\"}\r\n\
                {\"type\": \"std-text-to-video\", \"prompt\": \"caf\u{e9}\"}\n";
    let mut bytes = text.as_bytes().to_vec();
    // Latin-1 in the last line, which the other lines survive.
    let at = bytes.len() - "\u{e9}\"}\n".len();
    bytes.remove(at + 1);
    let context = context();
    let mut reader = LineReader::new("f", &context);
    let mut shown = String::new();
    let mut jobs = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let offset = reader.offset();
        match reader.read(line) {
            Ok(of_line) => jobs += of_line.len(),
            Err(faults) => shown += &render_line(line, offset, &faults.shown, false),
        }
    }
    assert!(reader.finish().is_ok());
    assert_eq!(jobs, 1);
    assert_snapshot!(shown, @r#"
    error: `name`: the job on line 1 has this name already
     --> f:3:56
      |
    3 | {"type": "std-text-to-video", "prompt": "two", "name": "a"}
      |                                                        ^^^
      |
      = help: names tell jobs apart; for several renders of one request there is `takes`
    error: not UTF-8 from here on
     --> f:4:45
      |
    4 | {"type": "std-text-to-video", "prompt": "caf�"}
      |                                             ^
      |
      = help: save the file as UTF-8; it looks like Latin-1 or Windows-1252, or it is cut off
    "#);
    let whole = read(&bytes, Format::JsonLines, "f", &context).expect_err("wrong");
    assert_eq!(render_terminal(&bytes, &whole, false).replace("\n\n", "\n"), shown.replace("\n\n", "\n"));
}

#[test]
fn encodings_are_told_in_a_sentence() {
    let said = |bytes: &[u8]| render_plain(&read(bytes, Format::Toml, "f", &context()).expect_err("wrong"));
    let utf16: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_snapshot!(said(&utf16), @"f:1:1: error: the file is UTF-16; job files are UTF-8 (save it as UTF-8; in PowerShell: Out-File -Encoding utf8)");
    assert_snapshot!(said(&[&[0xff, 0xfe], utf16.as_slice()].concat()), @"f:1:1: error: the file is UTF-16; job files are UTF-8 (save it as UTF-8; in PowerShell: Out-File -Encoding utf8)");
    assert_snapshot!(said(b"type = \"x\"\r\nprompt = \"caf\xe9\"\r\n"), @"f:2:14: error: not UTF-8 from here on (save the file as UTF-8; it looks like Latin-1 or Windows-1252, or it is cut off)");
    assert_eq!(good(&format!("\u{feff}{TEXT}"), Format::Toml), good(TEXT, Format::Toml));
    assert_eq!(
        good(&format!("\u{feff}{}", TEXT.replace('\n', "\r\n")), Format::Toml),
        good(TEXT, Format::Toml)
    );
    let lines: Vec<u8> = "{}\n{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let diagnostics = read(&lines, Format::JsonLines, "f", &context()).expect_err("wrong");
    assert_eq!(diagnostics.len(), 1, "said once, not once a line: {}", render_plain(&diagnostics));
    let text = format!("\u{feff}typ = 1\r\n\t{TEXT}");
    assert_snapshot!(said(text.as_bytes()), @"f:1:1: error: unknown key `typ` (did you mean `type`?)");
}

#[test]
fn a_nesting_bomb_is_a_sentence() {
    let n = 1 << 20;
    assert_snapshot!(said(&format!("a = {}", "[".repeat(n)), Format::Toml), @"f:1:85: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&format!("a{} = 1", ".a".repeat(n / 2)), Format::Toml), @"f:1:1: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&format!("a = {}", "{a=".repeat(n / 3)), Format::Toml), @"f:1:245: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&"[".repeat(n), Format::Json), @"f:1:66: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&"{\"a\":".repeat(n / 5), Format::Json), @"f:1:326: error: tables and lists more than 64 deep inside one another");
    let deep = format!("{TEXT}extra = {{ a = {}1{} }}", "[".repeat(70), "]".repeat(70));
    assert_snapshot!(said(&deep, Format::Toml), @"f:3:78: error: tables and lists more than 64 deep inside one another");
}
